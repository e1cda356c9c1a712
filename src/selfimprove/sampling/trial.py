"""A faster way through a model is tried first: what it may fail with, and how near it must come."""

from __future__ import annotations

import logging
from typing import Final

import torch
from torch import Tensor

__all__ = ["UNABLE", "are_near"]

_log = logging.getLogger(__name__)

UNABLE: Final = (LookupError, TypeError, ValueError, AttributeError, RuntimeError)
"""What a model raises that cannot be run so."""

_TOLERANCE: Final = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Largest difference of logits or states, as a share of the largest, that rounding explains."""


def are_near(name: str, found: Tensor, wanted: Tensor) -> bool:
    """Whether numbers are the wanted ones, up to rounding; where not, the log says so of `name`."""
    off = (found - wanted).abs().max()
    error = (off / wanted.abs().max().clamp(min=1e-6)).item()
    if not error <= _TOLERANCE.get(found.dtype, 0.0):
        _log.info("%s differs by %g", name, error)
        return False
    return True
