"""Pieces of a decoding step as GPU kernels of our own, written in Triton (`_kernels.py`).

As tensor operations, a row's attention to its own few keys is a dozen kernels, and the choice of a token
eight passes over all logits; both are bound by what they move through memory. Here each is one kernel that
reads its inputs once, or where they are larger than a multiprocessor keeps, three times.

Triton comes with torch for CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from selfimprove.sampling import _kernels
from selfimprove.sampling.attention import KeysValues, Partial

__all__ = ["attend_to_own", "choose_among_all"]

_KEYS_AT_ONCE: Final = 16
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
