"""Pieces of a decoding step on a CPU, by kernels in C where they are."""

from __future__ import annotations

import pytest
import torch
from tests.fused_cases import SHAPES, choice_of_all, ends_of_a_vocabulary, own_keys_and_parts
from torch.nn.functional import rms_norm

from selfimprove.sampling import fused, fused_cpu
from selfimprove.sampling.attention import KeysValues

pytestmark = pytest.mark.usefixtures("kernels")

_CPU = torch.device("cpu")
_DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("parts", [0, 1, 2])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 256)])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_own_keys_and_parts_are_attended_to_together(
    parts: int, shape: tuple[int, int, int], dtype: torch.dtype, off: float
) -> None:
    assert own_keys_and_parts(_CPU, dtype, shape, parts) < off


@pytest.mark.parametrize("vocabulary", [50, 256, 49_152])
@pytest.mark.parametrize("dtype", _DTYPES)
def test_the_chosen_token_is_that_of_tensor_operations(vocabulary: int, dtype: torch.dtype) -> None:
    """Up to near ties, which sums in another order may decide otherwise."""
    assert choice_of_all(_CPU, dtype, vocabulary, 200) > 0.98


def test_the_first_and_the_last_token_with_a_chance_are_reached() -> None:
    assert ends_of_a_vocabulary(_CPU) == [5, 8_999]


def test_a_width_that_is_no_whole_number_of_vectors_is_normed_by_torch() -> None:
    hidden, weight = torch.randn(2, 50), torch.randn(50)
    assert torch.equal(fused.norm_rows(hidden, weight, 1e-5), rms_norm(hidden, (50,), weight, 1e-5))


@pytest.mark.parametrize("dtype", _DTYPES)
def test_queries_and_keys_are_turned_and_keys_and_values_kept_at_the_last_place(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    mixed = torch.randn(5, 4 + 2 + 2, 32, dtype=dtype)
    cos, sin = torch.randn(2, 5, 32, dtype=dtype)
    last, rows = torch.tensor([0, 6, 2, 2, 5]), torch.arange(5)
    own = KeysValues(*torch.zeros(2, 9, 2, 11, 32, dtype=dtype)[:, :5, :, :7])
    query = fused_cpu.turn_and_keep(mixed, (cos, sin), last, own)
    first, second = mixed[:, :6].float().chunk(2, -1)
    crossed = torch.cat([second, first], -1) * sin[:, None].float()
    turned = (mixed[:, :6].float() * cos[:, None].float() + crossed).to(dtype)
    assert torch.allclose(query, turned[:, :4], atol=1e-6)
    assert torch.allclose(own.keys[rows, :, last], turned[:, 4:], atol=1e-6)
    assert torch.equal(own.values[rows, :, last], mixed[:, 6:])
    own.keys[rows, :, last], own.values[rows, :, last] = 0, 0
    assert not own.keys.any()
    assert not own.values.any()
