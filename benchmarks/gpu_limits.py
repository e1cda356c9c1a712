"""What the card can do at most: a large matrix product in bfloat16, and copying its own memory."""

from __future__ import annotations

from typing import Any

from gpu_parts import Setting
from machine import say

# isort: split
import torch
from matrix_limit import rate

__all__ = ["limits"]


def limits(setting: Setting, _: str) -> dict[str, Any]:
    """Return TFLOP/s of square products, the peak that shares are told of, and GB/s of a copy."""
    side, count = (128, 2**16) if setting.tiny else (8192, 2**30)
    here: dict[str, Any] = {"device": setting.device, "dtype": torch.bfloat16}
    left, right = torch.randn(side, side, **here), torch.randn(side, side, **here)
    source = torch.zeros(count, **here)
    target = torch.empty_like(source)
    products = rate(lambda: torch.mm(left, right), setting.device)
    copies = rate(lambda: target.copy_(source), setting.device)
    told: dict[str, Any] = {
        "matrix_side": side,
        "tflops": float(f"{2 * side**3 * products / 1e12:.4g}"),
        "gb_per_s": float(f"{2 * source.nbytes * copies / 1e9:.4g}"),  # read and written
    }
    if setting.device == "cuda":
        about = torch.cuda.get_device_properties(0)
        told |= {"device": about.name, "memory_gib": round(about.total_memory / 2**30, 1)}
    say(f"  bf16 product of {side} squares: {told['tflops']:,.1f} TFLOP/s; "
        f"copy: {told['gb_per_s']:,.0f} GB/s")  # fmt: skip
    return told
