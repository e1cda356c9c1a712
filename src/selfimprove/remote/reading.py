"""Reading a run that is kept at a URL: its markers are pulled first, rows and models when they are read."""

from __future__ import annotations

import fcntl
import logging
from pathlib import Path
from typing import Final

from selfimprove.errors import DataError
from selfimprove.files import alone_in
from selfimprove.remote.lease import Held
from selfimprove.remote.objects import open_objects
from selfimprove.remote.place import NOTE, as_url, copies_in
from selfimprove.remote.settings import patience
from selfimprove.remote.working_copy import WorkingCopy, missing

__all__ = ["follow", "here", "runs_below", "send", "whole"]

_log = logging.getLogger(__name__)

_FIRST_S: Final = 20.0  # a name that is wrong should not take minutes to be told
_DEPTH: Final = 2


def here(place: str | Path) -> Path:
    """Return a folder to read a run from: the place itself, or a copy of what a URL keeps, up to date.

    Raises:
        ConfigError: the URL is of no kind that is known here, or its extra is missing.
        DataError: nothing lies there.
        RemoteError: the place cannot be reached.
    """
    url = as_url(place)
    if url is None:
        return Path(place)
    root, _ = follow(url)
    if not any(root.glob("*.json")):
        raise DataError(f"{url} holds no run: give what `selfimprove run --out` was given")
    return root


def follow(url: str) -> tuple[Path, bool]:
    """Bring the working copy of a URL up to date, unless a process of this machine writes it.

    Returns:
        the run's folder, and whether something in it has still to be published.
    """
    objects = open_objects(url, min(_FIRST_S, patience()))
    copy = WorkingCopy(url)
    with alone_in(copy.root.parent, _log.warning):
        if not _is_written(copy.root):
            held = Held.read(objects)
            last = held[0].term if held else 0
            newer, _ = copy.follow(objects, last_term=last, resumes=False)
            return copy.root, bool(newer)
    return copy.root, False


def _is_written(root: Path) -> bool:
    """Tell whether a living process of this machine writes a run's folder."""
    try:
        with (root / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def whole(path: Path, patterns: tuple[str, ...] = ("*",)) -> None:
    """Make sure that what a step left is on this machine, where its run is kept at a URL.

    Args:
        path: the step's folder, or anything in it.
        patterns: which of the step's files.

    Raises:
        CorruptShardError: an object does not match its digest, or is missing.
        RemoteError: the place cannot be reached.
    """
    path = path.resolve()
    if not path.is_relative_to(copies_in().resolve()):
        return
    for folder in (path, *path.parents):
        if (folder.parent.parent / NOTE).is_file():
            _pull(folder, patterns)
            return


def _pull(step: Path, patterns: tuple[str, ...]) -> None:
    if missing(step, patterns):
        copy = WorkingCopy.at(step.parent)
        copy.pull_files(open_objects(copy.note.url, patience()), step.name, patterns)


def runs_below(url: str) -> list[str]:
    """Return the URLs of the runs at a URL, and in folders within it, by name.

    Raises:
        RemoteError: the place cannot be reached.
    """
    objects = open_objects(url, min(_FIRST_S, patience()))
    return [f"{url}/{name}".rstrip("/") for name in sorted(objects.folders(_DEPTH, "recipe.json"))]


def send(file: Path, url: str) -> None:
    """Put a file where a URL says, such as a report beside its run.

    Raises:
        RemoteError: the place cannot be reached, or refuses.
    """
    folder, _, name = url.rpartition("/")
    open_objects(folder, min(_FIRST_S, patience())).put(name, file)
