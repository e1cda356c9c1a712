"""Markers: the small JSON files that are written last, and say that what they mark is whole.

    recipe.json, summary.json, finished.json, ...            of the run: mark themselves
    STEP/step.json                                           the step's identity: marks itself
    STEP/shard-00000.json                                    marks its shard
    STEP/done.json                                           marks everything that the step leaves
    STEP/checkpoints/checkpoint-200.json                     marks a checkpoint, and what lay beside it;
                                                             it is published alone, from a snapshot

Where it is published a marker says in `files` what it marks: name within the step, size in bytes, SHA-256.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from selfimprove.weights import file_digest

__all__ = [
    "checkpoint_step",
    "files_of",
    "is_here",
    "is_marker",
    "local_markers",
    "marked",
    "step_of",
    "with_files",
]

_MARKER: Final = re.compile(
    r"[^/]+\.json|[^/]+/(step|done|shard-\d+)\.json|[^/]+/checkpoints/checkpoint-\d+\.json"
)
_CHECKPOINT: Final = re.compile(r"[^/]+/checkpoints/checkpoint-(\d+)\.json")
# What lies in a step's folder while it is made, and what other processes of its training read.
_PASSING_FOLDERS: Final = ("checkpoints", "model.partial", "checkpoint.partial")
_PASSING: Final = (
    "*.partial",
    "order.json",
    "told.json",
    "failure-*.json",
    "step.json",
    "done.json",
)


def is_marker(name: str) -> bool:
    """Tell whether an object of a run is a marker.

    >>> [is_marker(n) for n in ("finished.json", "a/done.json", "a/model/config.json", "lock.json")]
    [True, True, False, False]
    """
    return name != "lock.json" and _MARKER.fullmatch(name) is not None


def step_of(marker: str) -> str:
    """Return the step that a marker belongs to; empty: to the run.

    >>> step_of("votes/done.json"), step_of("finished.json")
    ('votes', '')
    """
    return marker.partition("/")[0] if "/" in marker else ""


def checkpoint_step(marker: str) -> int | None:
    """Return how many training steps a checkpoint's marker stands for; None: it is another marker."""
    found = _CHECKPOINT.fullmatch(marker)
    return int(found.group(1)) if found else None


def local_markers(root: Path) -> list[str]:
    """Return the markers that lie in a run's folder, in an order in which they may be published."""

    def place(name: str) -> tuple[object, ...]:
        step, last = step_of(name), name.rpartition("/")[2]
        order = {"step.json": 0, "done.json": 2}.get(last, 1)
        return (not step, step, last == "finished.json", order, last)

    found = (p.relative_to(root).as_posix() for p in (*root.glob("*.json"), *root.glob("*/*.json")))
    return sorted(filter(is_marker, found), key=place)


def marked(root: Path, marker: str) -> list[Path]:
    """Return the files of this machine that a marker stands for, itself left out."""
    path = root / marker
    if path.name.startswith("shard-"):
        return [path.with_suffix(".parquet")]
    if path.name != "done.json" or not step_of(marker):
        return []
    return sorted(_left_in(path.parent))


def _left_in(step: Path) -> Iterator[Path]:
    """Yield what stays of a step; the run may be removing what does not, so that is not looked into."""
    for place, folders, files in os.walk(step):
        at = Path(place)
        if at == step:
            folders[:] = [name for name in folders if name not in _PASSING_FOLDERS]
            files = [n for n in files if not any(fnmatchcase(n, p) for p in _PASSING)]
        yield from (at / name for name in files)


def with_files(content: bytes, folder: Path, files: Iterable[Path]) -> bytes:
    """Return a marker that names what it marks, by its place in the step's folder."""
    told = {
        file.relative_to(folder).as_posix(): [file.stat().st_size, file_digest(file)]
        for file in files
    }
    if not told:
        return content
    whole: dict[str, Any] = {**json.loads(content), "files": told}
    return (json.dumps(whole, ensure_ascii=False, indent=2) + "\n").encode()


def files_of(content: bytes) -> dict[str, tuple[int, str]]:
    """Return what a marker names: size and digest by name within the step's folder.

    Raises:
        ValueError: it is no JSON.
    """
    told = json.loads(content)
    named = told.get("files", {}) if isinstance(told, dict) else {}
    return {name: (int(size), str(digest)) for name, (size, digest) in named.items()}


def is_here(file: Path, size: int, digest: str | None = None) -> bool:
    """Tell whether a file is on this machine, by its size and, where it is given, its digest."""
    try:
        return file.stat().st_size == size and (digest is None or file_digest(file) == digest)
    except FileNotFoundError:
        return False
