"""Checkpoints of a training that is under way: published as they are saved, the newest two kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from selfimprove.remote.markers import checkpoint_step, step_of

__all__ = ["KEPT", "Snapshots", "outdated"]

KEPT: Final = 2
_LAST: Final = "trainer_state.json"  # the trainer writes it last
_SETTLED_S: Final = 1.0  # in which other processes of the training have written theirs


@final
class Snapshots:
    """What the trainer has saved and nobody has taken yet."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._space = root.parent / "snapshot"
        self._taken: dict[str, int] = {}

    def take(self, publish: Callable[[str, Path], None]) -> None:
        """Call `publish(marker, folder)` for the newest checkpoint of each step, unless it was taken.

        The folder holds the files as the marker will name them, and goes when `publish` returns: what
        the trainer replaces or removes meanwhile stays what it was.
        """
        try:
            newest = list(self._newest())
        except FileNotFoundError:  # folders are being removed: there is another look
            return
        for state in newest:
            checkpoint = state.parent
            step, number = checkpoint.parent.parent.name, int(checkpoint.name.rpartition("-")[2])
            shutil.rmtree(self._space, ignore_errors=True)
            try:
                for file, name in _parts(checkpoint, number):
                    _link(file, self._space / name)
            except FileNotFoundError:  # removed by the trainer, which has saved a newer one
                continue
            publish(f"{step}/checkpoints/{checkpoint.name}.json", self._space)
            self._taken[step] = number
        shutil.rmtree(self._space, ignore_errors=True)

    def _newest(self) -> Iterator[Path]:
        found: dict[str, tuple[int, Path]] = {}
        for state in self._root.glob(f"*/checkpoints/checkpoint-*/{_LAST}"):
            step, number = state.parents[2].name, state.parent.name.rpartition("-")[2]
            if number.isdigit() and int(number) > self._taken.get(step, -1):
                found[step] = max(found.get(step, (-1, state)), (int(number), state))
        for step, (_, state) in found.items():
            done = (self._root / step / "done.json").exists()
            if not done and _age(state) > _SETTLED_S:
                yield state


def _age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _parts(checkpoint: Path, number: int) -> Iterator[tuple[Path, str]]:
    """Yield what a training needs to go on from a checkpoint: its files, those beside it, milestones so far."""
    saved, step = checkpoint.parent, checkpoint.parent.parent
    for file in sorted(checkpoint.rglob("*")):
        if file.is_file():
            yield file, f"checkpoints/{file.relative_to(saved)}"
    for file in sorted(saved.iterdir()):
        if file.is_file() and not file.name.endswith((".partial", ".new")):
            yield file, f"checkpoints/{checkpoint.name}.beside/{file.name}"
    for folder in step.glob("milestones/step-*"):
        if int(folder.name.rpartition("-")[2]) <= number:
            for file in sorted(f for f in folder.rglob("*") if f.is_file()):
                yield file, file.relative_to(step).as_posix()


def _link(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(file, to)


def outdated(names: list[str], step: str, keep: int = KEPT) -> list[list[str]]:
    """Return, for each checkpoint of a step but the newest `keep`, its objects, the marker first."""
    markers = [n for n in names if step_of(n) == step and checkpoint_step(n) is not None]
    markers.sort(key=lambda name: checkpoint_step(name) or 0)
    return [
        [marker, *(n for n in names if n.startswith((f"{marker[:-5]}/", f"{marker[:-5]}.beside/")))]
        for marker in markers[: len(markers) - keep]
    ]
