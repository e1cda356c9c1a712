"""Pieces of a decoding step as C functions of our own (`kernels/decoding.c`).

Between its products a step on a CPU is many small operations, each of which reads and writes memory, and
torch's attention kernel is made for long rows: a row's own few keys take it as long as all products of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from typing import Final

import torch
from torch import Tensor

from selfimprove.kernels.calls import call, takes
from selfimprove.sampling.attention import KeysValues, Partial

__all__ = ["attend_to_own", "choose_among_all", "takes_heads", "turn_and_keep"]

# As in the C: the size of the largest head, and the words of a block, whose chances are summed up.
_LARGEST_HEAD: Final = 256
_WORDS: Final = 256


class _Part(Structure):
    _fields_ = (
        [("out", c_void_p), ("lse", c_void_p)]
        + [(f"out_{of}", c_int64) for of in ("row", "head", "query")]
        + [(f"lse_{of}", c_int64) for of in ("row", "head", "query")]
    )


class _Sizes(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "heads", "queries", "size", "row", "head", "parts")),
        ("scale", c_float),
    ]


class _Turned(Structure):
    _fields_ = [(name, c_int64) for name in ("rows", "queries", "heads", "size", "row", "head")]


def takes_heads(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Tell whether there are kernels here, for heads of this precision and size."""
    return size <= _LARGEST_HEAD and takes(device, dtype, size)


def attend_to_own(
    packed: Tensor, own: KeysValues, last: Tensor, parts: Sequence[Partial], scale: float
) -> Tensor:
    """Do as `fused.attend_to_own`."""
    packed = packed.to(own.values.dtype).contiguous()
    out = torch.empty_like(packed)
    found = (_Part * len(parts))(*(_part(part, packed.dtype) for part in parts))
    row, head = own.keys.stride()[:2]
    sizes = _Sizes(*packed.shape, row, head, len(parts), scale)
    call("own_keys", packed, *own, last, found, out, byref(sizes))
    return out


def choose_among_all(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Do as `fused.choose_among_all`."""
    rows, words = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    tokens = torch.empty(rows, dtype=torch.long)
    sums = torch.empty(rows, -(-words // _WORDS))
    sizes = (rows, words, logits.stride(0), c_float(1 / temperature))
    call("choose", logits, u, tokens, sums, *sizes)
    return tokens


def turn_and_keep(
    mixed: Tensor, turn: tuple[Tensor, Tensor], last: Tensor, own: KeysValues
) -> Tensor:
    """Do as `fused.turn_and_keep`."""
    rows, heads, size = mixed.shape
    kept = own.keys.shape[1]
    query = mixed.new_empty(rows, heads - 2 * kept, size)
    row, head = own.keys.stride()[:2]
    sizes = _Turned(rows, heads - 2 * kept, kept, size, row, head)
    call("turn_and_keep", mixed, *turn, last, query, *own, byref(sizes))
    return query


def _part(part: Partial, dtype: torch.dtype) -> _Part:
    out, lse = part
    if out.dtype != dtype or lse.dtype != torch.float32 or out.stride(-1) != 1:
        raise AssertionError("a part of another precision or layout")
    return _Part(out.data_ptr(), lse.data_ptr(), *out.stride()[:3], *lse.stride()[:3])
