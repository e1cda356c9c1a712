"""What lies between the products of a layer, with gradients: tensors of a CPU, contiguous, of `calls.takes`.

Results are of the precision of the first tensor; sums are float32.
"""

from __future__ import annotations

from ctypes import Structure, byref, c_float, c_int64
from typing import Final

import torch
from torch import Tensor

from selfimprove.kernels.calls import PAIR, call

__all__ = [
    "add_rounded",
    "gated",
    "gated_gradient",
    "norm",
    "norm_gradient",
    "softmax",
    "softmax_gradient",
]

# A gradient of a norm's weight is summed up in so many parts, however many threads there are: so
# that it is the same for every number of them.
_PARTS: Final = 16
_BLOCK: Final = 1 << 12


class _Scores(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "keys", "queries", "rows_of_one", "biases")),
        ("scale", c_float),
    ]


def norm(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return weight x / sqrt(mean(x^2) + epsilon), like `x`, and the scales of x's rows."""
    width = len(weight)
    rows = x.numel() // width
    out, scales = torch.empty_like(x), torch.empty(rows)
    call("norm", x, weight, out, scales, rows, width, c_float(epsilon))
    return out, scales


def norm_gradient(x: Tensor, weight: Tensor, grad: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and weight, that of the weight in float32."""
    width = len(weight)
    of_x, of_weight = torch.empty_like(x), torch.empty(_PARTS, width)
    call(
        "norm_gradient", x, weight, grad, scales, of_x, of_weight, len(scales), width, _PARTS,
    )  # fmt: skip
    whole = of_weight.sum(0)
    if x.dtype == torch.bfloat16:  # even numbers lie before odd ones in each pair of vectors
        whole = whole.view(-1, 2, PAIR // 2).transpose(1, 2).reshape(-1)
    return of_x, whole


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return SiLU(gate) * up."""
    out = torch.empty_like(gate)
    call("gated", gate, up, out, *_blocks(gate))
    return out


def gated_gradient(gate: Tensor, up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of gate and up."""
    of_gate, of_up = torch.empty_like(gate), torch.empty_like(up)
    call("gated_gradient", gate, up, grad, of_gate, of_up, *_blocks(gate))
    return of_gate, of_up


def softmax(scores: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Turn scores into the softmax of scale scores + bias, in place.

    Args:
        scores: (rows, key heads, heads x queries, keys).
        bias: of every head's queries, (rows or 1, 1, queries, keys).
        scale: of the scores.
    """
    keys, queries = bias.shape[-1], bias.shape[-2]
    rows = scores.numel() // keys
    sizes = _Scores(rows, keys, queries, rows // len(bias), bias.numel(), scale)
    call("softmax", scores, bias, byref(sizes))
    return scores


def softmax_gradient(chances: Tensor, grad: Tensor, scale: float) -> Tensor:
    """Turn the gradient of the chances that `softmax` returned into that of the scores, in place."""
    keys = chances.shape[-1]
    sizes = _Scores(chances.numel() // keys, keys, scale=scale)
    call("softmax_gradient", chances, grad, byref(sizes))
    return grad


def add_rounded(known: Tensor, more: Tensor) -> None:
    """Add a bfloat16 tensor to a float32 one of its size."""
    call("add_rounded", known, more, _BLOCK, known.numel())


def _blocks(x: Tensor) -> tuple[int, int]:
    """A row is a block."""
    return x.numel() // x.shape[-1], x.shape[-1]
