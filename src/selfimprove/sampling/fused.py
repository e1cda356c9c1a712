"""Pieces of a decoding step as kernels of our own: on a GPU by Triton, on a CPU in C.

A step is a few large products, and between them much that is bound by what it moves through memory.
Where there are none (`fused_trials.py` tells), the callers do the same in torch's operations.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import rms_norm

from selfimprove.kernels import layers
from selfimprove.kernels.calls import takes
from selfimprove.sampling import fused_cpu, fused_gpu
from selfimprove.sampling.attention import KeysValues, Partial

__all__ = [
    "attend_by_slot",
    "attend_to_own",
    "attend_to_prefix",
    "choose_among_all",
    "gated",
    "norm_rows",
    "turn_and_keep",
]


def attend_to_own(
    packed: Tensor, own: KeysValues, last: Tensor, parts: Sequence[Partial], scale: float
) -> Tensor:
    """Return attention over each row's own keys and the parts together, like `packed`.

    Args:
        packed: queries, [rows, key heads, queries, size].
        own: keys and values of rows, [rows, key heads, length, size].
        last: the last key that each row sees, [rows].
        parts: what the same queries found elsewhere; two at most.
        scale: of a product of query and key.
    """
    if packed.device.type == "cpu":
        return fused_cpu.attend_to_own(packed, own, last, parts, scale)
    return fused_gpu.attend_to_own(packed, own, last, parts, scale)


def attend_by_slot(
    packed: Tensor, kept: KeysValues, members: Tensor, places: Tensor, lengths: Tensor, scale: float
) -> Partial:
    """Return attention over each row's own slot; what a row without one gets means nothing.

    Args:
        packed: queries, [rows, key heads, queries, size].
        kept: keys and values of slots, [slots, key heads, length, size].
        members: the row of each seat, slot after slot; any row where no one sits.
        places: the seat of each row, [rows].
        lengths: of every slot's keys, one at least, [slots or more].
        scale: of a product of query and key.
    """
    return fused_gpu.attend_by_slot(packed, kept, (members, places), lengths, scale)


def attend_to_prefix(
    packed: Tensor, prefix: KeysValues, ends: tuple[Tensor, Tensor], scale: float
) -> Partial:
    """Return attention of all rows over what all of them begin with.

    Args:
        packed: queries, [rows, key heads, queries, size].
        prefix: its keys and values, [1, key heads, length, size].
        ends: 0 and the number of rows, 0 and how many keys are read; [2] each, int32.
        scale: of a product of query and key.
    """
    return fused_gpu.attend_to_prefix(packed, prefix, ends, scale)


def turn_and_keep(
    mixed: Tensor, turn: tuple[Tensor, Tensor], last: Tensor, own: KeysValues
) -> Tensor:
    """Turn queries and keys by their positions; keep keys and values; return the queries.

    Args:
        mixed: heads of queries, keys and values side by side, [rows, heads, size].
        turn: cosines and sines of every row, the sines of the first half negated.
        last: where each row keeps its keys, [rows].
        own: what is kept of every row, [rows, key heads, length, size].

    Returns:
        [rows, query heads, size].
    """
    if mixed.device.type == "cpu":
        return fused_cpu.turn_and_keep(mixed, turn, last, own)
    return fused_gpu.turn_and_keep(mixed, turn, last, own)


def gated(both: Tensor) -> Tensor:
    """Return silu(gate) times up, (..., width), of gate and up side by side, (..., 2 width)."""
    return fused_gpu.gated(both)


def choose_among_all(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Return a token for each row of `logits` [rows, vocabulary]: the first whose running sum exceeds u.

    Args:
        logits: a row begins behind the last one's end.
        u: a uniform number in [0, 1) for each row.
        temperature: of the softmax whose chances are summed up.
    """
    if logits.device.type == "cpu":
        return fused_cpu.choose_among_all(logits, u, temperature)
    return fused_gpu.choose_among_all(logits, u, temperature)


def norm_rows(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return the root mean square norm of the last dimension, as torch's `rms_norm`."""
    if hidden.dtype == weight.dtype and takes(hidden.device, hidden.dtype, len(weight)):
        return layers.norm(hidden.contiguous(), weight, epsilon)[0]
    return rms_norm(hidden, weight.shape, weight, epsilon)
