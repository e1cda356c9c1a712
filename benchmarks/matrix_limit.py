"""How fast a plain matrix product is here, and how many tokens a second that allows a model at most."""

from __future__ import annotations

import time
from statistics import median

import torch

__all__ = ["gflops", "tokens_per_s"]

_ROWS, _INNER, _COLUMNS = 256, 576, 1536
_SECONDS, _ROUNDS = 0.3, 5


def gflops(dtype: torch.dtype) -> float:
    """Return 10^9 operations a second of a (256, 576) x (576, 1536) product, the median of some rounds.

    Those are the rows of a batch of draws and the widest product of a layer of SmolLM2-135M.
    """
    left, right = torch.randn(_ROWS, _INNER).to(dtype), torch.randn(_INNER, _COLUMNS).to(dtype)
    operations = 2 * _ROWS * _INNER * _COLUMNS
    return median(operations * _rate(left, right) for _ in range(_ROUNDS)) / 1e9


def tokens_per_s(parameters: int, dtype: torch.dtype) -> float:
    """Return the limit of decoding: two operations a parameter and token, all as fast as `gflops`."""
    return gflops(dtype) * 1e9 / (2 * parameters)


@torch.inference_mode()
def _rate(left: torch.Tensor, right: torch.Tensor) -> float:
    for _ in range(3):
        left @ right
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        for _ in range(10):
            left @ right
        count += 10
    return count / (time.perf_counter() - began)
