"""Kernels in C against double precision, and what becomes of a machine that cannot have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from selfimprove.kernels import calls, compiled, layers

pytestmark = pytest.mark.usefixtures("kernels")

_CPU = torch.device("cpu")
_DTYPES = [torch.float32, torch.bfloat16]


def _exact(of: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Return what comes out in double precision, and its gradients."""
    leaves = [x.double().requires_grad_() for x in inputs]
    out = of(*leaves)
    out.backward(grad.double())
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def _near(found: Tensor, exact: Tensor) -> None:
    """Up to one rounding of what is added up in float32."""
    off = 2**-8 if found.dtype == torch.bfloat16 else 2**-18
    assert found.shape == exact.shape
    assert ((found - exact).abs() <= off * (exact.abs() + exact.abs().max() / 8)).all()


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_norm_and_its_gradient(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, rows, 96, dtype=dtype)
    weight = torch.randn(96, dtype=dtype)
    exact = _exact(lambda x, w: rms_norm(x, (96,), w, 1e-5), grad, x, weight)
    out, scales = layers.norm(x, weight, 1e-5)
    for found, wanted in zip(
        (out, *layers.norm_gradient(x, weight, grad, scales)), exact, strict=True
    ):
        _near(found, wanted)


@pytest.mark.parametrize("dtype", _DTYPES)
def test_a_gated_layer_and_its_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gate, up, grad = torch.randn(3, 5, 64, dtype=dtype)
    gate[0, :4] = torch.tensor([-100.0, -20.0, 20.0, 100.0])
    exact = _exact(lambda g, u: silu(g) * u, grad, gate, up)
    found = (layers.gated(gate, up), *layers.gated_gradient(gate, up, grad))
    for one, wanted in zip(found, exact, strict=True):
        _near(one, wanted)


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("keys", [1, 31, 32, 77])
@pytest.mark.parametrize("biases", [1, 2])
def test_a_softmax_and_its_gradient(dtype: torch.dtype, keys: int, biases: int) -> None:
    torch.manual_seed(0)
    scores = 4 * torch.randn(2, 3, 2 * 5, keys, dtype=dtype)
    bias = torch.where(torch.rand(biases, 1, 5, keys) < 0.3, -torch.inf, 0.0).to(dtype)
    bias[..., 0] = 0
    grad = torch.randn_like(scores)

    def softmax(scores: Tensor) -> Tensor:
        of_queries = (0.3 * scores).unflatten(2, (2, 5)) + bias.double().unsqueeze(2)
        return torch.softmax(of_queries, -1).flatten(2, 3)

    exact = _exact(softmax, grad, scores)
    chances = layers.softmax(scores.clone(), bias, 0.3)
    _near(chances, exact[0])
    found = layers.softmax_gradient(chances, grad.clone(), 0.3)
    off = 0.02 if dtype == torch.bfloat16 else 1e-6  # the chances are rounded already
    assert (found - exact[1]).abs().max() < off


@pytest.mark.parametrize("dtype", _DTYPES)
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    """A training that diverges must be seen to."""
    row = torch.zeros(1, 1, 1, 40, dtype=dtype)
    row[..., 3] = torch.nan
    assert layers.softmax(row.clone(), torch.zeros(1, 1, 1, 40, dtype=dtype), 1.0).isnan().all()
    states = row.view(-1)[:32].contiguous()
    assert layers.norm(states, torch.ones(32, dtype=dtype), 1e-5)[0].isnan().all()
    assert layers.gated(states, torch.ones(32, dtype=dtype)).isnan().sum() == 1


def test_a_bfloat16_tensor_is_added_to_a_float32_one_of_any_size() -> None:
    torch.manual_seed(0)
    for size in (1, 17, 5_000):
        known, more = torch.randn(size), torch.randn(size).bfloat16()
        wanted = known + more.float()
        layers.add_rounded(known, more)
        assert torch.equal(known, wanted)


@pytest.fixture
def _anew(kernels: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path))
    compiled._found.cache_clear()
    yield
    compiled._found.cache_clear()


@pytest.mark.usefixtures("_anew")
def test_the_library_is_compiled_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert compiled.loaded() is not None
    (kept,) = (tmp_path / "kernels").iterdir()
    made = kept.stat().st_mtime_ns
    compiled._found.cache_clear()
    assert compiled.loaded() is not None
    assert [path.stat().st_mtime_ns for path in (tmp_path / "kernels").iterdir()] == [made]


@pytest.mark.usefixtures("_anew")
def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compiled.loaded() is None
    assert compiled.why_not() == "no C compiler: install gcc, or name one by CC"
    assert not calls.takes(_CPU, torch.float32)


@pytest.mark.usefixtures("_anew")
def test_a_compiler_that_refuses_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such option" >&2\nexit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert compiled.loaded() is None
    assert compiled.why_not() == "no such option"
    assert not list((tmp_path / "kernels").iterdir())
