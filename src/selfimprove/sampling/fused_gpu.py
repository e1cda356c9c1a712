"""Pieces of a decoding step as GPU kernels: of our own, written in Triton (`_kernels.py`), and torch's flash attention.

As tensor operations, a row's attention to its own few keys is a dozen kernels, and the choice of a token
eight passes over all logits; both are bound by what they move through memory. Here each is one kernel that
reads its inputs once, or where they are larger than a multiprocessor keeps, three times. So are what lies between
the products of a layer, and attention to a prompt, whose rows are read and written where they lie.

Triton comes with torch for CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from selfimprove.sampling import _kernels
from selfimprove.sampling.attention import KeysValues, Partial

__all__ = ["attend_by_slot", "attend_to_own", "attend_to_prefix", "choose_among_all", "gated",
           "turn_and_keep"]  # fmt: skip

_KEYS_AT_ONCE: Final = 16
_KEYS_OF_A_SLOT: Final = 32
_MOST_QUERIES: Final = 64
"""Of rows of a slot, in one program."""
_GATED_AT_ONCE: Final = 1024
_LOGITS_AT_ONCE: Final = 4096


def attend_to_own(
    packed: Tensor, own: KeysValues, last: Tensor, parts: Sequence[Partial], scale: float
) -> Tensor:
    """Do as `fused.attend_to_own`."""
    rows, heads, queries, size = packed.shape
    packed = packed.to(own.values.dtype).contiguous()
    out = torch.empty_like(packed)
    first, second = [*parts, *[Partial(packed, packed)] * 2][:2]
    exact = packed.dtype == torch.float32
    with torch.cuda.device_of(packed):  # where Triton launches
        _kernels.own_keys[(rows, heads)](
            packed, *own, last, *first, *second, out, scale,
            *own.keys.stride()[:2], *first.out.stride()[:3], *first.lse.stride()[:3],
            *second.out.stride()[:3], *second.lse.stride()[:3],
            HEADS=heads, QUERIES=queries, PADDED=max(16, 1 << (queries - 1).bit_length()),
            SIZE=size, BLOCK=_KEYS_AT_ONCE, PARTS=len(parts),
            PRECISION="ieee" if exact else "tf32", num_warps=max(1, size // 64),
        )  # fmt: skip
    return out


def attend_to_prefix(
    packed: Tensor, prefix: KeysValues, ends: tuple[Tensor, Tensor], scale: float
) -> Partial:
    """Do as `fused.attend_to_prefix`, by flash attention: queries that share a key head need not be packed."""
    rows, heads, queries, size = packed.shape
    keys, values = (kept[0].transpose(0, 1) for kept in prefix)
    kernel: Any = torch.ops.aten._flash_attention_forward
    out, lse, *_ = kernel(
        packed.to(values.dtype).reshape(rows, heads * queries, size), keys, values, *ends, rows,
        len(keys), 0.0, False, False, scale=scale,
    )  # fmt: skip
    lse = lse.reshape(heads, queries, rows).permute(2, 0, 1)
    return Partial(out.view(rows, heads, queries, size), lse)


def attend_by_slot(
    packed: Tensor, kept: KeysValues, seats: tuple[Tensor, Tensor], lengths: Tensor, scale: float
) -> Partial:
    """Do as `fused.attend_by_slot`."""
    rows, heads, queries, size = packed.shape
    slots, (members, places) = len(kept.keys), seats
    packed = packed.to(kept.values.dtype).contiguous()
    out = torch.empty_like(packed)
    lse = torch.empty(rows, heads, queries, dtype=torch.float32, device=packed.device)
    width = len(members) // slots
    at_once = min(max(16, 1 << (width * queries - 1).bit_length()), _MOST_QUERIES)
    exact = packed.dtype == torch.float32
    with torch.cuda.device_of(packed):
        _kernels.slot_keys[(slots, heads, -(-width * queries // at_once))](
            packed, *kept, members, places, lengths, out, lse, scale, *kept.keys.stride()[:3],
            HEADS=heads, QUERIES=queries, WIDTH=width, SIZE=size, ROWS=at_once, BLOCK=_KEYS_OF_A_SLOT,
            PRECISION="ieee" if exact else "tf32", num_warps=4,
        )  # fmt: skip
    return Partial(out, lse)


def turn_and_keep(
    mixed: Tensor, turn: tuple[Tensor, Tensor], last: Tensor, own: KeysValues
) -> Tensor:
    """Do as `fused.turn_and_keep`."""
    rows, heads, size = mixed.shape
    kept = own.keys.shape[1]
    query = mixed.new_empty(rows, heads - 2 * kept, size)
    with torch.cuda.device_of(mixed):
        _kernels.turned_and_kept[(rows,)](
            mixed, *turn, last, query, *own, *own.keys.stride()[:2], QUERIES=heads - 2 * kept,
            HEADS=kept, SIZE=size, PADDED=1 << (heads - 1).bit_length(), num_warps=4,
        )  # fmt: skip
    return query


def gated(both: Tensor) -> Tensor:
    """Do as `fused.gated`."""
    *shape, width = both.shape
    out = both.new_empty(*shape, width // 2)
    grid = both.numel() // width, -(-width // 2 // _GATED_AT_ONCE)
    with torch.cuda.device_of(both):
        _kernels.gated[grid](both, out, WIDTH=width // 2, BLOCK=_GATED_AT_ONCE, num_warps=4)
    return out


def choose_among_all(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Do as `fused.choose_among_all`."""
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    with torch.cuda.device_of(logits):
        _kernels.first_exceeding[(rows,)](
            logits, u, tokens, 1 / temperature, logits.stride(0), VOCABULARY=vocabulary,
            BLOCK=_LOGITS_AT_ONCE, num_warps=8,
        )  # fmt: skip
    return tokens
