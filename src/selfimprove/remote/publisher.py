"""Publishes what a run has written, in the order in which it was written, in a thread of its own.

What lies at the URL is at any moment a state that the run's folder had: a marker goes up after what it
marks. The run goes on meanwhile; where the place cannot be reached, it goes on for as long as requests
are tried again, and stops at the next thing it wants published.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, final

from selfimprove.errors import LockedRunError, RemoteError
from selfimprove.files import sha256_of, write_replacing
from selfimprove.remote.checkpoints import Snapshots, outdated
from selfimprove.remote.lease import Lease
from selfimprove.remote.markers import marked, step_of, with_files
from selfimprove.remote.objects import Objects
from selfimprove.remote.working_copy import WorkingCopy
from selfimprove.weights import file_digest

__all__ = ["Publisher"]

_LOOK_S: Final = 1.0  # between looks for new checkpoints


@final
class Publisher:
    """From one working copy to its URL, as long as the lease is held."""

    def __init__(
        self, copy: WorkingCopy, objects: Objects, lease: Lease, there: Iterable[str]
    ) -> None:
        self._copy = copy
        self._objects = objects
        self._lease = lease
        self._there = set(there)
        """Names at the URL."""
        self._up: dict[str, str] = {}
        """Digests of what this process has put there, by name."""
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._snapshots = Snapshots(copy.root)
        self._failed: Exception | None = None
        self._told = False
        self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
        self._thread.start()

    def add(self, marker: str) -> None:
        """Publish a marker, and before it what it marks, after everything that was added before.

        Raises:
            RemoteError: something added before could not be published.
            LockedRunError: another writer has taken this one's place.
        """
        self._refuse_if_failed()
        self._waiting.put(marker)

    def close(self, announce: Callable[[str], None]) -> None:
        """Publish what is left, and end.

        Raises:
            RemoteError, LockedRunError: as `add`, unless that was said before.
        """
        if not self._waiting.empty() and self._failed is None:
            announce(f"publishing what is left to {self._objects.url}")
        self._waiting.put(None)
        self._thread.join()
        if not self._told:
            self._refuse_if_failed()

    def _refuse_if_failed(self) -> None:
        if self._failed is None:
            return
        self._told = True
        if isinstance(self._failed, LockedRunError):
            raise self._failed
        if isinstance(self._failed, RemoteError):
            raise RemoteError(
                f"{self._failed}. What was published before is whole, and everything that this run "
                f"made lies in {self._copy.root}: the same command on this machine publishes it and "
                "goes on; on another it goes on from what was published"
            ) from self._failed
        raise self._failed

    def _work(self) -> None:
        while True:
            try:
                marker = self._waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                self._tried(lambda: self._snapshots.take(self._publish_checkpoint))
                continue
            if marker is None:
                return
            self._tried(lambda name=marker: self._publish(name))  # type: ignore[misc]

    def _tried(self, task: Callable[[], None]) -> None:
        """Do it, unless something went wrong before: what comes later would rest on what is missing."""
        if self._failed is not None:
            return
        try:
            task()
        except Exception as error:  # noqa: BLE001  told to whoever adds the next
            self._failed = error

    def _publish(self, marker: str) -> None:
        root, step = self._copy.root, step_of(marker)
        path = root / marker
        files = marked(root, marker)
        for file in files:
            self._put(file.relative_to(root).as_posix(), file)
        before = path.read_bytes()
        content = with_files(before, root / step, files)
        if content != before:  # here it says the same: what was deleted here can be pulled again
            written = path.stat()
            write_replacing(path, content)
            os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
        tag = self._mark(marker, content)
        self._copy.log(marker, tag, sha256_of(path))
        if path.name == "done.json":
            self._remove(outdated(sorted(self._there), step, keep=0))

    def _publish_checkpoint(self, marker: str, folder: Path) -> None:
        step = step_of(marker)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        for file in files:
            self._put(f"{step}/{file.relative_to(folder).as_posix()}", file)
        self._mark(marker, with_files(b"{}", folder, files))
        self._remove(outdated(sorted(self._there), step))

    def _put(self, name: str, file: Path) -> None:
        digest = file_digest(file)
        if self._up.get(name) != digest:
            self._lease.require()
            self._objects.put(name, file)
            self._up[name] = digest
            self._there.add(name)

    def _mark(self, marker: str, content: bytes) -> str:
        """Write a marker over the version that this copy knows, and over no other one; return its tag."""
        self._lease.require()
        sent = self._copy.sent.get(marker)
        tag = self._objects.put_if(marker, content, sent.tag if sent else None)
        if tag is None:
            # Left by a writer before this one, or by a request whose answer was lost.
            self._lease.renew()
            self._lease.require()
            held = self._objects.read(marker)
            tag = self._objects.put_if(marker, content, held[1] if held else None)
        if tag is None:
            raise RemoteError(f"{self._objects.url}/{marker} was changed by somebody else just now")
        self._there.add(marker)
        return tag

    def _remove(self, groups: Iterable[list[str]]) -> None:
        for names in groups:
            self._lease.require()
            for some in ([names[0]], names[1:]):  # the marker first
                self._objects.delete(some)
            self._there.difference_update(names)
