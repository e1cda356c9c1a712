"""Who keeps a run: its folder alone, or a URL that its folder is the working copy of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, final

from selfimprove.files import alone_in
from selfimprove.remote.lease import Lease
from selfimprove.remote.markers import is_marker
from selfimprove.remote.objects import open_objects
from selfimprove.remote.place import as_url
from selfimprove.remote.publisher import Publisher
from selfimprove.remote.reading import follow
from selfimprove.remote.settings import lease_seconds, patience
from selfimprove.remote.working_copy import WorkingCopy

__all__ = ["Here", "Keeper", "Mirror", "kept_at"]


class Keeper(Protocol):
    """What a run tells whoever keeps it."""

    @property
    def behind(self) -> bool:
        """Whether something that was made before has still to be published."""
        ...

    def hold(self, announce: Callable[[str], None]) -> None:
        """Become the one who writes, and bring the folder up to date; its own lock is held.

        Raises:
            LockedRunError: somebody else writes.
            RemoteError: the place cannot be reached.
        """
        ...

    def publish(self, marker: Path) -> None:
        """Take note that a marker (`markers`) was written, after what it marks.

        Raises:
            LockedRunError: somebody else has become the one who writes.
            RemoteError: what was to be published before could not be.
        """
        ...

    def release(self) -> None:
        """Publish what is left, and let others write.

        Raises:
            LockedRunError, RemoteError: as `publish`.
        """
        ...


@final
class Here:
    """The folder keeps itself."""

    behind: Final = False

    def hold(self, announce: Callable[[str], None]) -> None:
        """Do nothing: the folder's lock is enough."""

    def publish(self, marker: Path) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


@final
class Mirror:
    """A URL keeps the run; its folder is a working copy."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher: Publisher | None = None
        self._lease: Lease | None = None
        self._announce: Callable[[str], None] = lambda _line: None
        self._root, self.behind = follow(url)

    @property
    def root(self) -> Path:
        """The run's folder on this machine."""
        return self._root

    def hold(self, announce: Callable[[str], None]) -> None:
        """Become the one who writes there, bring the working copy up to date, and publish what is newer here.

        Raises:
            LockedRunError: somebody else writes.
            RemoteError: the place cannot be reached.
        """
        self._announce = announce
        objects = open_objects(self._url, patience())
        copy = WorkingCopy(self._url)
        lease = Lease(objects, copy.note.copy, lease_seconds())
        last = lease.take(announce)
        try:
            with alone_in(copy.root.parent, announce):
                newer, there = copy.follow(objects, last_term=last, resumes=True)
                copy.writes_in(lease.term)
        except BaseException:
            lease.release()
            raise
        self._lease = lease
        self._publisher = Publisher(copy, objects, lease, there)
        for marker in newer:
            self._publisher.add(marker)

    def publish(self, marker: Path) -> None:
        """Publish a marker and what it marks, while the run goes on."""
        name = marker.relative_to(self._root).as_posix()
        if self._publisher is not None and is_marker(name):
            self._publisher.add(name)

    def release(self) -> None:
        """Publish what is left, and let others write."""
        try:
            if self._publisher is not None:
                self._publisher.close(self._announce)
        finally:
            if self._lease is not None:
                self._lease.release()


_HERE: Final = Here()


def kept_at(place: str | Path) -> tuple[Path, Keeper]:
    """Return the folder that a run at a place works in, and who keeps it.

    Raises:
        ConfigError: the URL is of no kind that is known here, or its extra is missing.
        RemoteError: the place cannot be reached.
    """
    url = as_url(place)
    if url is None:
        return Path(place), _HERE
    mirror = Mirror(url)
    return mirror.root, mirror
