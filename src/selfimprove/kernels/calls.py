"""How the kernels are called: tensors by where they lie, numbers as they are."""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from typing import Final

import torch
from torch import Tensor

from selfimprove.kernels.compiled import loaded

__all__ = ["PAIR", "call", "takes"]

PAIR: Final = 32
"""Numbers of two vectors, of which every row and head is a whole number."""

_DTYPES: Final = (torch.float32, torch.bfloat16)


def takes(device: torch.device, dtype: torch.dtype, width: int = PAIR) -> bool:
    """Tell whether there are kernels here, for rows of this precision and width."""
    fits = device.type == "cpu" and dtype in _DTYPES and width % PAIR == 0
    return fits and loaded() is not None


def call(name: str, first: Tensor, *rest: object) -> None:
    """Call the kernel of that name for the precision of its first tensor.

    Args:
        name: without the precision.
        first: of the tensors that it works on.
        rest: tensors, contiguous unless the kernel is told strides; integers; and what ctypes passes on.
    """
    there = loaded()
    if there is None:
        raise AssertionError("there are no kernels")
    kernel = getattr(there, f"{name}_{str(first.dtype).removeprefix('torch.')}")
    kernel(*map(_argument, (first, *rest)))


def _argument(one: object) -> object:
    if isinstance(one, Tensor):
        return c_void_p(one.data_ptr())
    return c_int64(one) if isinstance(one, int) else one
