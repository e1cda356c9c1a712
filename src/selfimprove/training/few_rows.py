"""A few rows of a matrix at a time: on a CPU, what is computed of them stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

__all__ = ["few_rows"]


def few_rows(numbers: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield parts of tensors of as many rows each, (rows, ...), side by side.

    Args:
        numbers: about as many of the first tensor are in a part, or one row.
        tensors: of one length.
    """
    rows = max(numbers // max(tensors[0].shape[1:].numel(), 1), 1)
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
