"""Hands what a step held back to the system, so that a run needs no more memory than its largest step."""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["hand_back"]


def hand_back(*, cycles: bool = False) -> None:
    """Let the C library return the memory that was freed, of which it would keep much for later.

    Args:
        cycles: also of objects that hold each other, as trainers and their models do; a sixth of a second.
    """
    if cycles:
        gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
