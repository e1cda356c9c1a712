"""Progress bars with the time that is left, on a terminal or in a notebook; silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

__all__ = ["bar", "begun", "track"]

T = TypeVar("T")


def begun(folder: Path) -> Path:
    """Return the file beside a step that is being made which says how much of it there will be.

    It holds `total`, of what (`of`: shards, or steps of training), and how much was `done` when it was written.
    """
    return folder / "begun.json"


def bar(what: str, total: int, done: int = 0) -> tqdm[None]:
    """Return a bar that its owner moves and closes; `total` and `done` in its steps."""
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(
        desc=what, total=total, initial=done, leave=False, dynamic_ncols=True, disable=not watched
    )


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items behind a bar; whoever stops early ends what makes them, too."""
    with bar(what, total) as shown:
        try:
            for item in items:
                yield item
                shown.update()
        finally:
            if isinstance(items, Generator):
                items.close()
