"""Who may publish: one writer at a time, by an object that it renews and that nobody else may renew.

    URL/lock.json   term, owner, who, seconds, beat, released

A writer takes the object by a conditional write and renews it four times in `seconds`, each time by a
condition on the version that it wrote last. Another one may replace it where it was given back, or where
it has not changed for `seconds` by the *other* machine's own watch: no two clocks are compared. Whoever
was replaced, stopped for a while or cut off, finds out at its next renewal, and a writer renews before it
publishes unless it just has. Where writes have no conditions the same is done by looking, writing, and
looking again after a moment: two that start within that moment are told apart, a frozen one that wakes
up between its look and its write is not.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Final, final

from selfimprove.errors import LockedRunError, RemoteError
from selfimprove.remote.objects import Objects

__all__ = ["LOCK", "Held", "Lease"]

LOCK: Final = "lock.json"
_SETTLE_S: Final = 1.0  # in which two writes without conditions have both arrived


@dataclass(frozen=True, slots=True)
class Held:
    """What `lock.json` says."""

    term: int
    """One more for each writer."""
    owner: str
    """The working copy that is published from."""
    who: str
    """Its machine and process, for a person."""
    seconds: float
    """Without a sign of life after which it may be replaced."""
    beat: int = 0
    """Renewals."""
    renewed: str = ""
    """When, by the owner's clock; for a person."""
    released: bool = False

    @classmethod
    def read(cls, objects: Objects) -> tuple[Held, str] | None:
        """Return what is there, and its tag; None: nobody has written here.

        Raises:
            RemoteError: it is damaged.
        """
        found = objects.read(LOCK)
        if found is None:
            return None
        try:
            return cls(**json.loads(found[0])), found[1]
        except (ValueError, TypeError) as error:
            raise RemoteError(
                f"{objects.url}/{LOCK} is damaged ({error}): where no run writes there, delete it"
            ) from error


@final
class Lease:
    """The right to publish below a URL, as long as it is renewed."""

    def __init__(self, objects: Objects, owner: str, seconds: float) -> None:
        self._objects = objects
        self._owner = f"{owner}@{socket.gethostname()}"
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._mine: Held | None = None
        self._tag: str | None = None
        self._renewed_at = 0.0
        self._lost = ""
        self._thread: threading.Thread | None = None

    @property
    def term(self) -> int:
        """Of this writer."""
        return self._mine.term if self._mine else 0

    def take(self, announce: Callable[[str], None]) -> int:
        """Become the writer and stay it, in a thread of its own; return the term of the one before (0: none).

        A writer that died on this machine, whose working copy this process holds, is replaced at once;
        another is watched for as long as its lease runs.

        Raises:
            LockedRunError: another one is alive.
            RemoteError: the place cannot be reached.
        """
        while True:
            found = Held.read(self._objects)
            before, tag = found if found else (None, None)
            if before and not before.released and before.owner != self._owner:
                before, tag = self._outlived(before, tag, announce)
            term = before.term if before else 0
            mine = Held(term + 1, self._owner, f"{socket.gethostname()}, process {os.getpid()}",
                        self._seconds)  # fmt: skip
            if self._write(mine, tag):
                self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
                self._thread.start()
                return term

    def _outlived(
        self, before: Held, tag: str | None, announce: Callable[[str], None]
    ) -> tuple[Held, str | None]:
        """Wait until a writer has given no sign of life for as long as its lease runs."""
        announce(f"{self._objects.url} was being written by {before.who}: waiting up to "
                 f"{before.seconds:.0f} s for a sign of life")  # fmt: skip
        until = time.monotonic() + before.seconds
        while time.monotonic() < until:
            time.sleep(min(1.0, before.seconds / 10))
            found = Held.read(self._objects)
            if found is None or found[0].released:
                return found if found else (before, None)
            if found[1] != tag:
                raise LockedRunError(
                    f"{self._objects.url} is being written by {found[0].who}: wait for it, or choose "
                    "another place with --out"
                )
        return before, tag

    def require(self) -> None:
        """Make sure that this is still the writer.

        Raises:
            LockedRunError: it was replaced; what it has not published stays in its working copy.
            RemoteError: that cannot be told, as the place cannot be reached.
        """
        self._refuse_if_lost()
        if time.monotonic() - self._renewed_at > self._seconds / 2:
            self.renew()
            self._refuse_if_lost()

    def _refuse_if_lost(self) -> None:
        if self._lost:
            raise LockedRunError(
                f"{self._objects.url}: this process gave no sign of life for {self._seconds:.0f} s, and "
                f"{self._lost} writes there now: nothing more is published from here. Wait for that one, "
                "or choose another place with --out"
            )

    def renew(self) -> None:
        """Give a sign of life, unless this writer was replaced.

        Raises:
            RemoteError: the place cannot be reached.
        """
        with self._lock:
            if self._lost or self._mine is None:
                return
            if self._write(replace(self._mine, beat=self._mine.beat + 1), self._tag):
                return
            found = Held.read(self._objects)
            if found is None:
                self._lost = "nobody (its lock.json was deleted)"
            elif (found[0].owner, found[0].term) != (self._owner, self._mine.term):
                self._lost = found[0].who
            else:  # a sign of life had come through while its answer was lost
                self._write(replace(self._mine, beat=found[0].beat + 1), found[1])

    def _write(self, held: Held, tag: str | None) -> bool:
        started = time.monotonic()
        told = replace(held, renewed=datetime.now(UTC).isoformat())
        content = json.dumps(asdict(told), indent=2).encode()
        made = self._objects.put_if(LOCK, content, tag)
        if made is not None and self._mine is None and not self._objects.conditional:
            time.sleep(_SETTLE_S)
            found = self._objects.read(LOCK)
            made = found[1] if found and found[0] == content else None
        if made is None:
            return False
        self._mine, self._tag, self._renewed_at = told, made, started
        return True

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds / 4):
            try:
                self.renew()
            except RemoteError:  # whoever publishes next is told
                continue

    def release(self) -> None:
        """Let others write at once; what cannot be reached expires by itself."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._mine is None or self._lost:
                return
            try:
                self._write(replace(self._mine, released=True), self._tag)
            except RemoteError:
                return
