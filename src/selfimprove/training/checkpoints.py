"""Which checkpoint to go on from: the newest that can be read."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["newest_readable", "step_of"]

_log = logging.getLogger(__name__)

_STATE = "trainer_state.json"  # written last
_ARCHIVES = ("optimizer.pt", "scheduler.pt")
_RANDOM = "rng_state*.pth"  # one for each process


def newest_readable(folder: Path, accelerator: Any) -> Path | None:  # noqa: ANN401
    """Return the newest checkpoint that is whole; damaged newer ones are removed with a warning.

    Of several processes the first one removes them, before the others look.
    """
    with accelerator.main_process_first():
        return _newest_readable(folder)


def _newest_readable(folder: Path) -> Path | None:
    found = [p for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(found, key=step_of, reverse=True):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        _log.warning("%s is damaged (%s): going on from the one before it", checkpoint, damage)
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """Return how many steps had been made: checkpoint-200 has 200."""
    return int(checkpoint.name.rpartition("-")[2])


def _weights_read(checkpoint: Path) -> bool:
    """Open all files of weights, and say whether there is one."""
    from safetensors import safe_open

    weights = sorted(checkpoint.glob("*.safetensors"))
    for file in weights:
        with safe_open(file, framework="pt"):  # compares the header with the file's size
            pass
    return bool(weights)


def _damage(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint; None: nothing."""
    from safetensors import SafetensorError

    from selfimprove.training import sharded_checkpoints  # needs torch

    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        if in_parts := sharded_checkpoints.is_one(checkpoint):
            if damage := sharded_checkpoints.damage(checkpoint):
                return damage
        elif not _weights_read(checkpoint):
            return "no weights"
        random = sorted(checkpoint.glob(_RANDOM))
        if not random:
            return "no state of the random numbers"
        archives = _ARCHIVES[in_parts:]  # what lies in parts has no optimizer.pt
        for file in (*(checkpoint / name for name in archives), *random):
            with zipfile.ZipFile(file) as archive:
                if broken := archive.testzip():
                    return f"{file.name}: {broken} does not match its checksum"
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        return f"{type(error).__name__}: {error}"
    return None
