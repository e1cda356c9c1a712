"""What a model is: a digest over its config and weights, not where it happens to lie."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from selfimprove.files import sha256_of

__all__ = ["file_digest", "weights_digest"]


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 over `config.json` and every `*.safetensors` of a model folder, by name.

    A file is read again only when its size or modification time has changed.

    Raises:
        FileNotFoundError: the folder holds no config.json or no safetensors file.
    """
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) == 1:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return total.hexdigest()


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, read again only when its size or modification time changed."""
    state = file.stat()
    return _file_digest(str(file.resolve()), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """Size and time are arguments so that a rewritten file misses the cache."""
    return sha256_of(Path(path))
