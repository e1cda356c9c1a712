"""Which runs are kept at a URL, and where their working copies lie on this machine.

    CACHE/runs/<digest of the URL>/kept.json         the URL, whose copy this is, its last term as writer
    CACHE/runs/<digest of the URL>/published.jsonl   a line for each marker that was published or pulled
    CACHE/runs/<digest of the URL>/<name>/           the run's folder, as it would be without a URL

A copy may be deleted at any time when no run writes it: what was published is pulled again.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from selfimprove.errors import ConfigError
from selfimprove.files import cache_folder, read_json

__all__ = ["NOTE", "PUBLISHED", "as_url", "copies_in", "copy_of", "told"]

NOTE: Final = "kept.json"
PUBLISHED: Final = "published.jsonl"
_DIGITS: Final = 16
# One slash is enough: a pathlib.Path has made one of two. A single letter would be a drive.
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)")


def as_url(place: str | Path) -> str | None:
    """Return the URL that a place is named by, without a slash at its end; None: it is a folder.

    >>> as_url("s3://bucket/run/"), as_url(Path("gs://bucket/run")), as_url("runs/first")
    ('s3://bucket/run', 'gs://bucket/run', None)

    Raises:
        ConfigError: it is a `file:` URL, or names nothing within a bucket.
    """
    found = _URL.fullmatch(str(place))
    if found is None:
        if str(place).startswith("file:"):
            raise ConfigError(f"{place}: give a folder of this machine by its path, without file:")
        return None
    scheme, rest = found.groups()
    return f"{scheme}://{rest.rstrip('/')}"


def copy_of(url: str) -> Path:
    """Return the run folder of a URL's working copy, whether it is there or not."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:_DIGITS]
    return copies_in() / digest / url.rpartition("/")[2]


def copies_in() -> Path:
    """Return the folder of all working copies."""
    return cache_folder() / "runs"


def told(path: Path) -> str:
    """Return how a person knows a path: by its URL, if it is one or lies in a working copy.

    >>> told(Path("runs/first")), told(Path("s3://bucket/run"))
    ('runs/first', 's3://bucket/run')
    """
    if url := as_url(path):
        return url
    whole, copies = path.resolve(), copies_in().resolve()
    for folder in (whole, *whole.parents) if whole.is_relative_to(copies) else ():
        note = folder.parent / NOTE
        if note.is_file():
            return "/".join((read_json(note)["url"], *whole.relative_to(folder).parts))
    return str(path)
