"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from selfimprove.errors import CorruptShardError, DiskFullError

__all__ = ["read_json", "sha256_of", "write_json", "write_replacing"]


def write_replacing(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, sync it to disk, and rename it into place.

    Raises:
        DiskFullError: there is no room; what stood at `path` before is untouched.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"no room left to write {path} ({len(content):,} bytes): free some space and run "
            "again; all that was finished is kept"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
