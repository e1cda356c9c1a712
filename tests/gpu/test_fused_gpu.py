"""Kernels of our own against the same in tensor operations: run with `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch
from tests.fused_cases import SHAPES, choice_of_all, ends_of_a_vocabulary, own_keys_and_parts

from selfimprove.sampling import fused_trials

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
_CUDA = torch.device("cuda")


@pytest.mark.parametrize("parts", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_own_keys_and_parts_are_attended_to_together(
    parts: int, shape: tuple[int, int, int], dtype: torch.dtype, off: float
) -> None:
    assert own_keys_and_parts(_CUDA, dtype, shape, parts) < off


@pytest.mark.parametrize("vocabulary", [50, 49_152, 128_256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chosen_token_is_that_of_tensor_operations(vocabulary: int, dtype: torch.dtype) -> None:
    """Up to near ties, which sums in another order may decide otherwise."""
    assert choice_of_all(_CUDA, dtype, vocabulary, 2_000) > 0.98


@pytest.mark.parametrize(("heads", "queries", "size"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_other_pieces_are_those_of_tensor_operations(
    dtype: torch.dtype, heads: int, queries: int, size: int
) -> None:
    assert fused_trials.can_attend_by_slot(_CUDA, dtype, size, queries)
    assert fused_trials.can_turn(_CUDA, dtype, size, heads * queries, heads)
    assert fused_trials.can_gate(_CUDA, dtype)
    by_flash = fused_trials.can_attend_to_prefix(_CUDA, dtype, size, queries)
    assert by_flash == (dtype == torch.bfloat16)


def test_the_first_and_the_last_token_with_a_chance_are_reached() -> None:
    assert ends_of_a_vocabulary(_CUDA) == [5, 8_999]
