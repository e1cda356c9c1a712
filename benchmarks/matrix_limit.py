"""How fast a plain matrix product is here, and how many tokens a second that allows a model at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

__all__ = ["gflops", "rate", "synchronised", "tokens_per_s"]

_ROWS, _INNER, _COLUMNS = 256, 576, 1536
_SECONDS, _ROUNDS = 0.3, 5
_WARM, _AT_ONCE = 3, 10


def gflops(dtype: torch.dtype) -> float:
    """Return 10^9 operations a second of a (256, 576) x (576, 1536) product, the median of some rounds.

    Those are the rows of a batch of draws and the widest product of a layer of SmolLM2-135M.
    """
    left, right = torch.randn(_ROWS, _INNER).to(dtype), torch.randn(_INNER, _COLUMNS).to(dtype)
    operations = 2 * _ROWS * _INNER * _COLUMNS
    return median(operations * rate(lambda: left @ right) for _ in range(_ROUNDS)) / 1e9


def tokens_per_s(parameters: int, dtype: torch.dtype) -> float:
    """Return the limit of decoding: two operations a parameter and token, all as fast as `gflops`."""
    return gflops(dtype) * 1e9 / (2 * parameters)


def rate(work: Callable[[], object], device: str = "cpu") -> float:
    """Return how often a second the device does some work."""
    with torch.inference_mode():
        for _ in range(_WARM):
            work()
        began, count = synchronised(device), 0
        while (now := synchronised(device)) - began < _SECONDS:
            for _ in range(_AT_ONCE):
                work()
            count += _AT_ONCE
    return count / (now - began)


def synchronised(device: str) -> float:
    """Return the time when all that was begun on the device is done, in seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
