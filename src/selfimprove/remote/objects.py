"""What a run needs of the place that keeps it: named objects, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["Listed", "Objects", "open_objects"]


class Listed(NamedTuple):
    """One object of a listing."""

    size: int
    """In bytes."""
    tag: str
    """Changes with the content."""
    when: float
    """Written last, in seconds since 1970."""


class Objects(Protocol):
    """The objects below one URL, by their names relative to it.

    Every method raises `RemoteError` where the place cannot be reached or refuses, after bounded retries.
    """

    url: str

    @property
    def conditional(self) -> bool:
        """Whether `put_if` is one step for everybody; otherwise it looks first and writes then."""
        ...

    def names(self) -> dict[str, Listed]:
        """Return everything that is there."""
        ...

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return an object's content and tag; None: there is none."""
        ...

    def fetch(self, name: str, to: Path) -> bool:
        """Write an object's content into a file; False: there is none."""
        ...

    def put(self, name: str, content: bytes | Path) -> str:
        """Write an object, whatever was there, and return its tag."""
        ...

    def put_if(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Write an object where the one there still has this tag (None: where there is none).

        Returns its new tag; None: it was changed by somebody, and is left as it is.
        """
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        ...

    def folders(self, depth: int, holding: str) -> list[str]:
        """Return the folders, at most `depth` levels down, that hold an object of this name."""
        ...


def open_objects(url: str, patience_s: float) -> Objects:
    """Return what a URL stands for, of a kind by its scheme; nothing is asked of it yet.

    Args:
        url: without a slash at its end.
        patience_s: for which a request is tried again where a server fails or is not reached.

    Raises:
        ConfigError: nothing here reads such a URL, or its extra is missing.
        RemoteError: its settings cannot be used.
    """
    from selfimprove.remote import cloud, others

    return cloud.Cloud(url, patience_s) if cloud.is_cloud(url) else others.Others(url)
