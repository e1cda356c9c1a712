"""Checkpoints of trainings that share weights out: every process writes its part, any number reads them.

Made by `torch.distributed.checkpoint`: what is there is told by name and place in a weight, not by
process. One process that shares nothing out can go on from them, too.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import distributed

from selfimprove.errors import TrainingError

__all__ = ["damage", "is_one", "load_moments", "load_weights", "save"]

_PARTS: Final = "sharded"
_SCHEDULER: Final = "scheduler.pt"
_INDEX: Final = ".metadata"  # written last, by the first process


def is_one(checkpoint: Path) -> bool:
    """Tell whether a checkpoint holds weights in parts."""
    return (checkpoint / _PARTS).is_dir()


def save(checkpoint: Path, model: Any, optimizer: Any, scheduler: Any) -> None:  # noqa: ANN401
    """Write this process's part of the weights that learn and of their moments; every process must."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save as save_parts

    moments = get_optimizer_state_dict(model, _inner(optimizer), options=_options())
    with _quiet():
        save_parts({"model": _weights(model), "optimizer": moments},
                   checkpoint_id=checkpoint / _PARTS)  # fmt: skip
    if distributed.get_rank() == 0:
        torch.save(scheduler.state_dict(), checkpoint / _SCHEDULER)


def load_weights(checkpoint: Path, model: Any) -> None:  # noqa: ANN401
    """Read the weights that learn.

    Raises:
        TrainingError: the checkpoint is of a training that shared nothing out.
    """
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    if not is_one(checkpoint):
        raise TrainingError(
            f"{checkpoint} was made by a training that kept its weights whole: go on with "
            "parallel.fsdp=false, or delete the folder, and the training starts anew"
        )
    weights = _weights(model)
    _read(checkpoint, {"model": weights})
    set_model_state_dict(model, weights, options=_options(strict=False))


def load_moments(checkpoint: Path, model: Any, optimizer: Any, scheduler: Any) -> None:  # noqa: ANN401
    """Read the moments of the weights, and where the learning rate was."""
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    inner = _inner(optimizer)
    moments = get_optimizer_state_dict(model, inner, options=_options())
    _read(checkpoint, {"optimizer": moments})
    set_optimizer_state_dict(model, inner, moments, options=_options())
    scheduler.load_state_dict(torch.load(checkpoint / _SCHEDULER, weights_only=True))


def damage(checkpoint: Path) -> str | None:
    """Say what is wrong with the parts of a checkpoint; None: nothing."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    folder = checkpoint / _PARTS
    if not (folder / _INDEX).is_file():
        return "not all processes had written their part"
    try:
        places = FileSystemReader(folder).read_metadata().storage_data.values()
    except (pickle.UnpicklingError, EOFError, AttributeError) as error:
        return f"{_INDEX}: {type(error).__name__}: {error}"
    for place in places:
        file = folder / place.relative_path
        if not file.is_file():
            return f"{file.name} is missing"
        with file.open("rb") as opened:
            opened.seek(place.offset)
            part = io.BytesIO(opened.read(place.length))
        # Each tensor is an archive of its own; what is no tensor lies there as it is.
        if len(part.getbuffer()) < place.length:
            return f"{file.name} is cut off"
        if zipfile.is_zipfile(part) and zipfile.ZipFile(part).testzip():
            return f"{file.name} does not match its checksums"
    return None


def _options(*, strict: bool = True) -> Any:  # noqa: ANN401
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(ignore_frozen_params=True, strict=strict)


def _weights(model: Any) -> dict[str, Any]:  # noqa: ANN401
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return dict(get_model_state_dict(model, options=_options()))


def _inner(optimizer: Any) -> Any:  # noqa: ANN401
    """Return torch's optimizer within accelerate's."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _read(checkpoint: Path, state: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.state_dict_loader import load

    with _quiet():
        load(state, checkpoint_id=checkpoint / _PARTS, no_dist=not _together())


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.distributed")
        yield
