"""Which checkpoint to go on from: the newest that can be read."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path

__all__ = ["newest_readable", "step_of"]

_log = logging.getLogger(__name__)

_STATE = "trainer_state.json"  # written last
_ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def newest_readable(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; damaged newer ones are removed with a warning."""
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


def _damage(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint; None: nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        weights = sorted(checkpoint.glob("*.safetensors"))
        if not weights:
            return "no weights"
        for file in weights:
            with safe_open(file, framework="pt"):  # compares the header with the file's size
                pass
        for name in _ARCHIVES:
            with zipfile.ZipFile(checkpoint / name) as archive:
                if broken := archive.testzip():
                    return f"{name}: {broken} does not match its checksum"
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        return f"{type(error).__name__}: {error}"
    return None
