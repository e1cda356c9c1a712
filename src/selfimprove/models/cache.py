"""Models kept in the cache: each is there whole or not at all, made by one process at a time.

CACHE/models/<name>-<digest>/   a Hugging Face folder, with origin.json and, where known, LICENSE
CACHE/models/partial/           what a process is making now; a killed one leaves it behind

CACHE is $SELFIMPROVE_CACHE, else $XDG_CACHE_HOME/selfimprove, else ~/.cache/selfimprove.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfimprove.errors import CorruptShardError, EngineError
from selfimprove.files import (
    alone_in,
    cache_folder,
    read_json,
    require_room,
    sync,
    write_json,
    writing_to,
)

__all__ = ["Origin", "find", "keep", "kept", "origin_of", "place_of", "refuse_if_changed"]

_DIGITS = 16  # of the source's digest, in a folder's name
_ORIGIN = "origin.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a kept model came from."""

    name: str
    """What a person calls it."""
    source: str
    """The file, or the package and the file in it."""
    sha256: str
    """Of the source file."""
    licence: str
    """As an SPDX identifier or in the source's own words; empty where it says nothing."""
    weights: str = ""
    """Digest of the folder that was made of it."""


def models_folder() -> Path:
    """Return the folder of all kept models, whether it is there or not."""
    return cache_folder() / "models"


def place_of(name: str, sha256: str) -> Path:
    """Return where the model made of a file with this digest is kept, whether it is there or not."""
    return models_folder() / f"{name}-{sha256[:_DIGITS]}"


def find(name: str, sha256: str) -> Path | None:
    """Return the folder of a kept model; None: it is not there."""
    place = place_of(name, sha256)
    return place if place.is_dir() else None


def kept() -> list[Path]:
    """Return every model of the cache, in the order of their names."""
    folder = models_folder()
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / _ORIGIN).is_file())


def origin_of(folder: Path) -> Origin:
    """Return what was noted when the model was made.

    Raises:
        EngineError: the note is gone or damaged.
    """
    try:
        told: dict[str, Any] = read_json(folder / _ORIGIN)
        return Origin(**told)
    except (CorruptShardError, TypeError) as error:
        raise EngineError(f"{folder} is damaged ({error}): delete it and make it again") from error


def refuse_if_changed(folder: Path, digest: str) -> None:
    """Compare the digest of a folder's weights with the one noted when it was made.

    Raises:
        EngineError: they differ, and the folder belongs to the cache.
    """
    if folder.parent != models_folder():
        return
    if origin_of(folder).weights != digest:
        raise EngineError(
            f"{folder} does not hold the weights that were put there: delete it and make it again"
        )


def keep(
    origin: Origin,
    make: Callable[[Path], None],
    room_bytes: int,
    announce: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Return the folder of this model; where it is missing, `make(workspace)` fills workspace/model.

    It appears under its name complete, synced to disk and by one rename. Of several processes one
    makes it and the others wait; a killed one leaves nothing that is taken for a model.

    Args:
        origin: names it.
        make: writes the Hugging Face folder; the rest of the workspace is thrown away.
        room_bytes: needed on the disk while it is made.
        announce: called with a line for a person when there is something to wait for.

    Raises:
        DiskFullError: there is not enough room.
        StoreError: the cache cannot be written.
        EngineError: whatever `make` says.
    """
    place = place_of(origin.name, origin.sha256)
    if place.is_dir():
        return place
    with writing_to(place), alone_in(place.parent, announce):
        if not place.is_dir():
            workspace = place.parent / "partial"
            shutil.rmtree(workspace, ignore_errors=True)  # of a process that was killed
            try:
                workspace.mkdir()
                require_room(place.parent, room_bytes)
                make(workspace)
                _seal(workspace / "model", origin)
                (workspace / "model").rename(place)
                sync(place.parent)
            finally:
                shutil.rmtree(workspace, ignore_errors=True)
    return place


def _seal(folder: Path, origin: Origin) -> None:
    from selfimprove.weights import weights_digest

    told = asdict(origin) | {"weights": weights_digest(folder)}
    write_json(folder / _ORIGIN, told)
    for path in (*folder.iterdir(), folder):
        sync(path)
