"""Pieces of a decoding step as C functions of our own (`_kernels.c`), which `compiled` compiles.

Between its products a step on a CPU is many small operations, each of which reads and writes memory, and
torch's attention kernel is made for long rows: a row's own few keys take it as long as all products of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, byref, c_float, c_int64, c_void_p
from typing import Final

import torch
from torch import Tensor

from selfimprove.sampling.attention import KeysValues, Partial
from selfimprove.sampling.compiled import library

__all__ = [
    "attend_to_own",
    "choose_among_all",
    "norm_rows",
    "takes",
    "takes_heads",
    "turn_and_keep",
]

_PAIR: Final = 32
_LARGEST_HEAD: Final = 256
_WORDS: Final = 256
_DTYPES: Final = (torch.float32, torch.bfloat16)


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


def takes(dtype: torch.dtype, width: int = _PAIR) -> bool:
    """Tell whether there are kernels here, for rows of this precision and width."""
    return dtype in _DTYPES and width % _PAIR == 0 and library() is not None


def takes_heads(dtype: torch.dtype, size: int) -> bool:
    """Tell whether there are kernels here, for heads of this precision and size."""
    return size <= _LARGEST_HEAD and takes(dtype, size)


def norm_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return the root mean square norm of the last dimension, as `rms_norm` does."""
    hidden, out = hidden.contiguous(), torch.empty_like(hidden)
    width = hidden.shape[-1]
    _call("norm_rows", hidden, weight, out, hidden.numel() // width, width, c_float(epsilon))
    return out


def attend_to_own(
    packed: Tensor, own: KeysValues, last: Tensor, parts: Sequence[Partial], scale: float
) -> Tensor:
    """Do as `fused.attend_to_own`."""
    packed = packed.to(own.values.dtype).contiguous()
    out = torch.empty_like(packed)
    found = (_Part * len(parts))(*(_part(part, packed.dtype) for part in parts))
    row, head = own.keys.stride()[:2]
    sizes = _Sizes(*packed.shape, row, head, len(parts), scale)
    _call("own_keys", packed, *own, last, found, out, byref(sizes))
    return out


def choose_among_all(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Do as `fused.choose_among_all`."""
    rows, words = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    tokens = torch.empty(rows, dtype=torch.long)
    sums = torch.empty(rows, -(-words // _WORDS))
    sizes = (rows, words, logits.stride(0), c_float(1 / temperature))
    _call("choose", logits, u, tokens, sums, *sizes)
    return tokens


def turn_and_keep(
    mixed: Tensor, turn: tuple[Tensor, Tensor], last: Tensor, own: KeysValues
) -> Tensor:
    """Turn queries and keys by their positions; keep keys and values; return the queries.

    Args:
        mixed: heads of queries, keys and values side by side, [rows, heads, size].
        turn: cosines and sines [rows, size], the sines of the first half negated.
        last: where each row keeps its keys, [rows].
        own: what is kept of every row, [rows, key heads, length, size].

    Returns:
        [rows, query heads, size].
    """
    rows, heads, size = mixed.shape
    kept = own.keys.shape[1]
    query = mixed.new_empty(rows, heads - 2 * kept, size)
    row, head = own.keys.stride()[:2]
    sizes = _Turned(rows, heads - 2 * kept, kept, size, row, head)
    _call("turn_and_keep", mixed, *turn, last, query, *own, byref(sizes))
    return query


def _part(part: Partial, dtype: torch.dtype) -> _Part:
    out, lse = part
    if out.dtype != dtype or lse.dtype != torch.float32 or out.stride(-1) != 1:
        raise AssertionError("a part of another precision or layout")
    return _Part(out.data_ptr(), lse.data_ptr(), *out.stride()[:3], *lse.stride()[:3])


def _call(name: str, first: Tensor, *rest: object) -> None:
    """Call the function of the first tensor's precision."""
    there = library()
    if there is None:
        raise AssertionError("there are no kernels")
    function = getattr(there, f"{name}_{str(first.dtype).removeprefix('torch.')}")
    function(*(_argument(one) for one in (first, *rest)))


def _argument(one: object) -> object:
    if isinstance(one, Tensor):
        return c_void_p(one.data_ptr())
    return c_int64(one) if isinstance(one, int) else one
