"""Several processes that train one model, each on its share of every batch (data parallel)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from selfimprove.errors import TrainingError

__all__ = [
    "everyones",
    "first_process",
    "leave",
    "mean_of_everyone",
    "on_one_gpu",
    "processes",
    "share_of",
    "take_own_gpu",
]


def processes() -> int:
    """Return how many processes train this model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def mean_of_everyone(told: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each figure over the values of all processes.

    Every process must call this, with the same names.
    """
    sums = everyones([{name: (sum(v), len(v)) for name, v in told.items() if v}])
    names = dict.fromkeys(name for own in sums for name in own)
    return {
        name: sum(own[name][0] for own in sums if name in own)
        / sum(own[name][1] for own in sums if name in own)
        for name in names
    }


def first_process() -> bool:
    """Return whether this is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def on_one_gpu(arguments: Any) -> Any:  # noqa: ANN401
    """Return a trainer's arguments such that each process takes one GPU, however many there are.

    transformers would spread the rows of a process that is alone over all GPUs it sees, and take as
    many times the rows.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


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


def leave() -> NoReturn:
    """Take leave of the other processes, and end this one.

    At once: threads of the group that outlive it may abort an interpreter that winds down.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
