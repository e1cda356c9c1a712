"""A place that keeps runs, in memory: every write in its order, and whatever goes wrong that a test asks for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from selfimprove.errors import RemoteError
from selfimprove.remote import keeper, reading
from selfimprove.remote.objects import Listed


class Memory:
    """Objects by name, with conditional writes."""

    url = "s3://bucket/run"

    def __init__(self, *, conditional: bool = True) -> None:
        self.conditional = conditional
        self.held: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.history: list[tuple[str, bytes]] = []
        """Writes, in their order."""
        self.fetched: list[str] = []
        self.down = False
        self.refuses = ""
        """Names that begin so cannot be written; empty: all can."""
        self.answer_lost = ""
        """This name is written, and whoever writes it is not told; empty: none."""
        self._count = itertools.count()

    @classmethod
    def after(cls, writes: Iterable[tuple[str, bytes]]) -> Memory:
        """Return a place to which these writes have come through."""
        place = cls()
        for name, content in writes:
            place.put(name, content)
        return place

    def _asked(self) -> None:
        if self.down:
            raise RemoteError(f"{self.url}: it cannot be reached")

    def names(self) -> dict[str, Listed]:
        self._asked()
        return {
            n: Listed(len(c), self.tags[n], float(i)) for i, (n, c) in enumerate(self.held.items())
        }

    def read(self, name: str) -> tuple[bytes, str] | None:
        self._asked()
        return (self.held[name], self.tags[name]) if name in self.held else None

    def fetch(self, name: str, to: Path) -> bool:
        self._asked()
        self.fetched.append(name)
        if name in self.held:
            to.write_bytes(self.held[name])
        return name in self.held

    def put(self, name: str, content: bytes | Path) -> str:
        self._asked()
        if self.refuses and name.startswith(self.refuses):
            raise RemoteError(f"{self.url}/{name}: the bucket is full")
        whole = content.read_bytes() if isinstance(content, Path) else content
        self.held[name] = whole
        self.history.append((name, whole))
        # As at Google, a version has a name of its own, whatever its content.
        self.tags[name] = f"{hashlib.md5(whole).hexdigest()}-{next(self._count)}"
        if name == self.answer_lost:
            raise RemoteError(f"{self.url}/{name}: the connection was broken off")
        return self.tags[name]

    def put_if(self, name: str, content: bytes, tag: str | None) -> str | None:
        self._asked()
        return self.put(name, content) if self.tags.get(name) == tag else None

    def delete(self, names: Iterable[str]) -> None:
        self._asked()
        for name in names:
            self.held.pop(name, None)
            self.tags.pop(name, None)

    def folders(self, depth: int, holding: str) -> list[str]:
        found = (n.split("/") for n in self.held)
        return ["/".join(p[:-1]) for p in found if p[-1] == holding and len(p) <= depth + 1]


Machine = Callable[[Memory, str], str]
"""Makes this process a machine of that name, which sees that place; returns the run's URL."""


def as_machine(patch: pytest.MonkeyPatch, folder: Path) -> Machine:
    """Return a function that makes this process another machine, with a cache of its own."""

    def become(place: Memory, name: str) -> str:
        patch.setenv("SELFIMPROVE_CACHE", str(folder / name))
        patch.setattr("socket.gethostname", lambda: name)
        for module in (keeper, reading):
            patch.setattr(module, "open_objects", lambda _url, _patience: place)
        return place.url

    return become
