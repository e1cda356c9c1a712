"""Several processes that train one model, each on its share of every batch (data parallel)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from selfimprove.errors import TrainingError

__all__ = ["everyones", "first_process", "leave", "processes", "share_of", "take_own_gpu"]


def processes() -> int:
    """Return how many processes train this model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Return whether this is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def share_of(batch_size: int) -> int:
    """Return how many rows of a batch each process takes.

    Raises:
        TrainingError: the batch cannot be divided.
    """
    count = processes()
    if batch_size % count:
        raise TrainingError(
            f"batch_size {batch_size} cannot be shared by {count} processes: choose a multiple"
        )
    return batch_size // count


def everyones(values: Sequence[Any]) -> list[Any]:
    """Return the values of all processes, the first one's first; a process alone gets its own."""
    if processes() == 1:
        return list(values)
    from accelerate.utils import gather_object

    return list(gather_object(list(values)))


def take_own_gpu() -> None:
    """Let `cuda` mean the GPU of this process, for whatever is loaded from now on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    """Take leave of the other processes; one that just ends may be torn down by their threads."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
