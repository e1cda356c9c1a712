"""Kernels of our own against the same in tensor operations: run with `pytest -m gpu`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from selfimprove.sampling import fused
from selfimprove.sampling.attention import (
    KeysValues,
    Partial,
    attend_by_products,
    hiding,
    merge,
)
from selfimprove.sampling.choose import _among_all

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
_CUDA = torch.device("cuda")


@pytest.mark.parametrize("parts", [0, 1, 2])
@pytest.mark.parametrize(("heads", "queries", "size"), [(3, 3, 64), (2, 7, 128), (8, 1, 32), (1, 20, 64)])  # fmt: skip
@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-4), ("bfloat16", 0.03)])
def test_own_keys_and_parts_are_attended_to_together(
    parts: int, heads: int, queries: int, size: int, dtype: str, off: float
) -> None:
    assert fused.can_attend(_CUDA, getattr(torch, dtype), size, queries)
    torch.manual_seed(0)
    kind: Any = {"device": _CUDA, "dtype": getattr(torch, dtype)}
    packed = torch.randn(200, heads, queries, size, **kind)
    buffers = KeysValues(*(torch.randn(200, heads, 65, size, **kind) for _ in range(2)))
    own = KeysValues(*(kept[:, :, :64] for kept in buffers))
    last = torch.arange(200, device=_CUDA) % 64
    others = [
        Partial(torch.randn_like(packed), torch.randn(heads, 200, queries, device=_CUDA).transpose(0, 1))
        for _ in range(parts)
    ]  # fmt: skip
    bias = hiding(torch.arange(64, device=_CUDA) > last[:, None, None, None], torch.float32)
    wanted = attend_by_products(packed.float(), KeysValues(*(t.float() for t in own)), bias, 0.1)
    for other in others:
        wanted = merge(Partial(other.out.float(), other.lse), wanted)
    found = fused.attend_to_own(packed, own, last, others, 0.1)
    assert found.dtype == packed.dtype
    assert (found.float() - wanted.out).abs().max() < off


@pytest.mark.parametrize("vocabulary", [50, 49_152, 128_256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chosen_token_is_that_of_tensor_operations(vocabulary: int, dtype: torch.dtype) -> None:
    """Up to near ties, which sums in another order may decide otherwise."""
    assert fused.can_choose(_CUDA)
    torch.manual_seed(0)
    logits = (3 * torch.randn(2_000, vocabulary, device=_CUDA)).to(dtype)
    logits[:, ::7] = -torch.inf
    u = torch.rand(2_000, device=_CUDA)
    found, wanted = fused.choose_among_all(logits, u, 0.7), _among_all(logits, u, 0.7)
    assert (found == wanted).float().mean() > 0.98
    assert (found % 7 != 0).all()


def test_the_first_and_the_last_token_with_a_chance_are_reached() -> None:
    logits = torch.full((2, 9_000), -torch.inf, device=_CUDA)
    logits[:, [5, 8_999]] = 0
    u = torch.tensor([0.0, 1 - 2**-24], device=_CUDA)
    assert fused.choose_among_all(logits, u, 1.0).tolist() == [5, 8_999]
