"""Pieces of a decoding step as kernels of our own: on a GPU by Triton, on a CPU in C.

A step is a few large products, and between them much that is bound by what it moves through memory.
Where there are no kernels, the callers do the same in torch's operations.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from selfimprove.kernels import layers
from selfimprove.kernels.calls import takes
from selfimprove.sampling import fused_cpu, fused_gpu
from selfimprove.sampling.attention import KeysValues, Partial, attend_by_products, hiding, merge

__all__ = ["attend_to_own", "can_attend", "can_choose", "choose_among_all", "norm_rows"]

_log = logging.getLogger(__name__)

# Off by more than this from plain products a kernel is wrong: on a GPU those may be of TF32.
_OFF: Final = {torch.float32: 1e-2}
_OFF_ROUNDED: Final = 0.05


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


def can_attend(device: torch.device, dtype: torch.dtype, size: int, queries: int) -> bool:
    """Tell whether the kernel of a row's own keys works here, by a small trial on the device.

    Args:
        device: that it would run on.
        dtype: of keys and values.
        size: of a head.
        queries: a key head.
    """
    if device.type == "cpu":
        there = fused_cpu.takes_heads(device, dtype, size)
    else:
        there = size >= 16 and size & (size - 1) == 0 and _has_triton(device)
    return there and _attends(device, dtype, size, queries)


def can_choose(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the kernel that chooses works here, by a small trial on the device."""
    there = takes(device, dtype) if device.type == "cpu" else _has_triton(device)
    return there and _chooses(device)


def _has_triton(device: torch.device) -> bool:
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
    found = _tried("attention", lambda: attend_to_own(packed, own, last, parts, size**-0.5))
    off = _OFF.get(dtype, _OFF_ROUNDED)
    return found is not None and bool((found - wanted.out).abs().max() <= off)


@cache
@torch.inference_mode()
def _chooses(device: torch.device) -> bool:
    """Of chances that are powers of two, sums are exact."""
    chances = torch.full((3, 10_000), -torch.inf, device=device)
    chances[:, [3, 5000, 9999]] = torch.tensor([0.5, 0.25, 0.25], device=device).log()
    u = torch.tensor([0.1, 0.6, 0.9], device=device)
    found = _tried("choice", lambda: choose_among_all(chances, u, 1.0))
    return found is not None and found.tolist() == [3, 5000, 9999]


def _tried(name: str, kernel: Callable[[], Tensor]) -> Tensor | None:
    try:
        return kernel()
    # Triton needs a compiler of C, and more; its errors have no common ancestor but this.
    except Exception as problem:  # noqa: BLE001
        _log.info("no kernel for %s: %s", name, problem)
        return None
