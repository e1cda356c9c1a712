"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import CorruptShardError, DiskFullError, StoreError

__all__ = [
    "alone_in",
    "cache_folder",
    "make_folder",
    "read_json",
    "require_room",
    "sha256_of",
    "sync",
    "told",
    "write_json",
    "write_replacing",
    "writing_to",
]

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WAYS_OUT: Final = {
    errno.ENOSPC: "free some space, and run again",
    errno.EDQUOT: "free some space, and run again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and run again",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another place",
    errno.EEXIST: "a file stands where a folder is needed: choose another place",
    errno.EISDIR: "a folder stands where a file is needed: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the name",
    errno.EIO: "the disk does not work as it should: choose another place",
}
# Libraries that write in Rust and C++ say it in words of their own.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter failed writing", "inline_container")


def write_replacing(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, sync it to disk, and rename it into place.

    Raises:
        DiskFullError: there is no room; what stood at `path` before is untouched.
        StoreError: the place cannot be written.
    """
    temporary = path.with_name(f"{path.name}.partial")
    with writing_to(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
        except OSError:
            _remove(temporary)
            raise


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:  # where nothing could be written, nothing is to be removed
        return


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Say what, where and what to do when something cannot be written inside the block.

    Raises:
        DiskFullError: there is no room left.
        StoreError: a file stands where a folder is needed, permissions are missing, and the like.
    """
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        if error.errno in _FULL or error.errno in _WAYS_OUT:
            raise _cannot_write(place, error.errno, error) from error
        raise
    except (RuntimeError, SafetensorError) as error:
        number = _hidden_number(str(error))
        if number is None:
            raise
        raise _cannot_write(place, number, error) from error


def _hidden_number(text: str) -> int | None:
    """Return the system's error number that a library's message stands for; None: none."""
    if any(words in text for words in _TORCH_CANNOT_WRITE):
        return errno.ENOSPC
    found = _OS_ERROR.search(text)
    return int(found.group(1)) if found else None


def _cannot_write(place: Path, number: int | None, error: Exception) -> StoreError:
    if number in _FULL:
        return DiskFullError(
            f"no room left to write {place}: free some space, or choose a place on another disk, and "
            "run again; all that was finished is kept"
        )
    return StoreError(
        told(error) if isinstance(error, OSError) else f"cannot write {place}: {error}"
    )


def told(error: OSError) -> str:
    """Return a message about what the system refused: what, where, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    way = _WAYS_OUT.get(error.errno or 0)
    said = (error.strerror or str(error)).lower()
    return f"{where}{said}{f'; {way}' if way else ''}"


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StoreError: a file stands there, or the place cannot be written.
    """
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def alone_in(folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder's lock, which the system drops when this process dies; of several, one waits.

    `announce` is called with a line for a person when there is something to wait for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"waiting for another process that fills {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_room(folder: Path, count: int) -> None:
    """Check that so many bytes can be written below a folder.

    Raises:
        DiskFullError: they cannot.
    """
    free = shutil.disk_usage(folder).free
    if free < count:
        raise DiskFullError(
            f"{folder} has room for {free / 1e6:,.0f} MB, and {count / 1e6:,.0f} MB are needed: free "
            "some space, or choose a place on another disk, and run again"
        )


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        DiskFullError: there is no room left.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2)
    write_replacing(path, (text + "\n").encode())


def read_json(path: Path) -> Any:  # noqa: ANN401  plain JSON data
    """Read a JSON file that this program wrote.

    Raises:
        CorruptShardError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise CorruptShardError(
            f"{path} is missing or damaged ({error}): delete {path.parent} to remake that step"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return $SELFIMPROVE_CACHE, else the `selfimprove` of $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SELFIMPROVE_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser().absolute() / "selfimprove"
