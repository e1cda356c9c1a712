"""Two pieces of a decoding step as GPU kernels of their own, written in Triton.

As tensor operations, a row's attention to its own few keys is a dozen kernels, and the choice of a token
eight passes over all logits; both are bound by what they move through memory. Here each is one kernel that
reads its inputs once, or where they are larger than a multiprocessor keeps, three times.

Triton comes with torch for CUDA. Without it, and on a CPU, nothing here is used.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor

from selfimprove.sampling import _kernels
from selfimprove.sampling.attention import KeysValues, Partial, attend_by_products, hiding, merge

__all__ = ["attend_to_own", "can_attend", "can_choose", "choose_among_all"]

_log = logging.getLogger(__name__)

_KEYS_AT_ONCE: Final = 16
_LOGITS_AT_ONCE: Final = 4096


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
    """Return a token for each row of `logits` [rows, vocabulary]: the first whose running sum exceeds u.

    Args:
        logits: of any precision; a row begins behind the last one's end.
        u: a uniform number in [0, 1) for each row.
        temperature: of the softmax whose chances are summed up.
    """
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    tokens = torch.empty(rows, dtype=torch.long, device=logits.device)
    with torch.cuda.device_of(logits):
        _kernels.first_exceeding[(rows,)](
            logits, u, tokens, 1 / temperature, logits.stride(0), VOCABULARY=vocabulary,
            BLOCK=_LOGITS_AT_ONCE, num_warps=8,
        )  # fmt: skip
    return tokens


def can_attend(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Tell whether the kernel of a row's own keys works here, by a small trial on the device.

    Args:
        device: that it would run on.
        dtype: of keys and values.
        size: of a head.
        queries: a key head.
    """
    whole = size >= 16 and size & (size - 1) == 0
    return whole and _there(device) and _attends(device, dtype, size, queries)


def can_choose(device: torch.device) -> bool:
    """Tell whether the kernel that chooses works here, by a small trial on the device."""
    return _there(device) and _chooses(device)


def _there(device: torch.device) -> bool:
    return device.type == "cuda" and bool(find_spec("triton"))


@cache
@torch.inference_mode()
def _attends(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    numbers = torch.Generator(device).manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=numbers, device=device, dtype=dtype)

    packed = some(5, 2, queries, size)
    own = KeysValues(some(5, 2, 32, size), some(5, 2, 32, size))
    last = torch.tensor([0, 3, 15, 16, 31], device=device)
    parts = [Partial(some(5, 2, queries, size), some(5, 2, queries).float()) for _ in range(2)]
    bias = hiding(torch.arange(32, device=device) > last[:, None, None, None], dtype)
    wanted = attend_by_products(packed, own, bias, size**-0.5)
    for part in parts:
        wanted = merge(part, wanted)
    found = _tried("attention", attend_to_own, packed, own, last, parts, size**-0.5)
    off = 1e-2 if dtype == torch.float32 else 0.05  # products may be of TF32
    return found is not None and bool((found - wanted.out).abs().max() <= off)


@cache
@torch.inference_mode()
def _chooses(device: torch.device) -> bool:
    """Of chances that are powers of two, sums are exact."""
    chances = torch.full((3, 10_000), -torch.inf, device=device)
    chances[:, [3, 5000, 9999]] = torch.tensor([0.5, 0.25, 0.25], device=device).log()
    u = torch.tensor([0.1, 0.6, 0.9], device=device)
    found = _tried("choice", choose_among_all, chances, u, 1.0)
    return found is not None and found.tolist() == [3, 5000, 9999]


def _tried(name: str, kernel: Any, *inputs: object) -> Tensor | None:  # noqa: ANN401
    try:
        found: Tensor = kernel(*inputs)
    # Triton needs a compiler of C, and more; its errors have no common ancestor but this.
    except Exception as problem:  # noqa: BLE001
        _log.info("no kernel for %s: %s", name, problem)
        return None
    return found
