"""Tells that memory ran out from what else may have gone wrong."""

from __future__ import annotations

import torch

__all__ = ["out_of_memory"]


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch raised this because there was no memory left."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "not enough memory" in text or "can't allocate memory" in text
