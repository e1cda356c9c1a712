"""What the card can do at most: a large matrix product in bfloat16, and copying its own memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gpu_parts import Setting
from machine import say

# isort: split
import torch

__all__ = ["limits", "synchronised"]

_TIMES, _WARM = 10, 3


def limits(setting: Setting, _: str) -> dict[str, Any]:
    """Return TFLOP/s of square products, the peak that shares are told of, and GB/s of a copy."""
    side, count = (128, 2**16) if setting.tiny else (8192, 2**30)
    here: dict[str, Any] = {"device": setting.device, "dtype": torch.bfloat16}
    left, right = torch.randn(side, side, **here), torch.randn(side, side, **here)
    source = torch.zeros(count, **here)
    target = torch.empty_like(source)
    with torch.inference_mode():
        product = _seconds(setting.device, lambda: torch.mm(left, right))
        copy = _seconds(setting.device, lambda: target.copy_(source))
    told: dict[str, Any] = {
        "matrix_side": side,
        "tflops": float(f"{2 * side**3 / product / 1e12:.4g}"),
        "gb_per_s": float(f"{2 * source.nbytes / copy / 1e9:.4g}"),  # read and written
    }
    if setting.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        told |= {"device": about.name, "memory_gib": round(about.total_memory / 2**30, 1)}
    say(f"  bf16 product of {side} squares: {told['tflops']:,.1f} TFLOP/s; "
        f"copy: {told['gb_per_s']:,.0f} GB/s")  # fmt: skip
    return told


def _seconds(device: str, work: Callable[[], object]) -> float:
    for _ in range(_WARM):
        work()
    began = synchronised(device)
    for _ in range(_TIMES):
        work()
    return (synchronised(device) - began) / _TIMES


def synchronised(device: str) -> float:
    """Return the time when all that was begun on the device is done, in seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
