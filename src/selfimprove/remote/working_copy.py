"""The working copy of a run that is kept at a URL: what it knows of what lies there, and how it follows it.

What lies at the URL is the truth. A copy is ahead of it where its own process was the last to write
there and was stopped before it had published everything: that is kept, and published. Anything else that
differs goes, and comes from there.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, final

from selfimprove.errors import CorruptShardError
from selfimprove.files import make_folder, read_json, sha256_of, write_json, write_replacing
from selfimprove.remote.markers import (
    checkpoint_step,
    files_of,
    is_here,
    is_marker,
    local_markers,
    marked,
    step_of,
)
from selfimprove.remote.objects import Listed, Objects
from selfimprove.remote.place import NOTE, PUBLISHED, copy_of

__all__ = ["WorkingCopy", "missing"]

_AT_ONCE: Final = 16  # requests


@dataclass(frozen=True, slots=True)
class _Note:
    """What a copy knows of itself."""

    url: str
    copy: str
    """Names this copy, among those of all machines."""
    term: int = 0
    """In which a process wrote from it last."""


class _Sent(NamedTuple):
    """A marker as it was published or pulled."""

    tag: str
    """Of the object."""
    sha256: str
    """Of the file here."""


@final
class WorkingCopy:
    """The copy of one URL."""

    def __init__(self, url: str) -> None:
        self.root = copy_of(url)
        make_folder(self.root)
        path = self.root.parent / NOTE
        if not path.exists():
            write_json(path, asdict(_Note(url, uuid.uuid4().hex)))
        self.note = _Note(**read_json(path))
        self.sent = self._read_log()

    @classmethod
    def at(cls, root: Path) -> WorkingCopy:
        """Return the working copy that is this run folder."""
        return cls(str(read_json(root.parent / NOTE)["url"]))

    def writes_in(self, term: int) -> None:
        """Note that what is here follows the URL, whose writer this copy is in that term."""
        self.note = replace(self.note, term=term)
        write_json(self.root.parent / NOTE, asdict(self.note))

    def _read_log(self) -> dict[str, _Sent]:
        path = self.root.parent / PUBLISHED
        sent: dict[str, _Sent] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                told = json.loads(line)
                sent[told["marker"]] = _Sent(told["tag"], told["sha256"])
            except (ValueError, KeyError):  # a line that a kill has cut short: it is pulled again
                continue
        return sent

    def log(self, marker: str, tag: str, sha256: str) -> None:
        """Note that a marker lies at the URL as it lies here, in this version."""
        self.sent[marker] = _Sent(tag, sha256)
        line = json.dumps({"marker": marker, "tag": tag, "sha256": sha256})
        with (self.root.parent / PUBLISHED).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def follow(
        self, objects: Objects, *, last_term: int, resumes: bool
    ) -> tuple[list[str], dict[str, Listed]]:
        """Bring the copy to where the URL stands; return the markers that are to be published, and what is there.

        Markers are pulled at once; what they mark when it is read, but for shards of a step that is
        not done, and the newest checkpoint of one: they are pulled where the run `resumes`.

        Args:
            objects: below the URL.
            last_term: of the writer that wrote there last; 0: nobody has.
            resumes: whether steps that are not done are gone on with.
        """
        there = objects.names()
        ahead = last_term == self.note.term > 0
        unpublished = self._drop_what_differs(there, keeps=ahead)
        self._pull(objects, there, unpublished, resumes=resumes)
        return unpublished, there

    def _drop_what_differs(self, there: Mapping[str, Listed], *, keeps: bool) -> list[str]:
        """Remove what is not as it lies at the URL; return what is newer here, where that is kept."""
        newer = []
        for marker in local_markers(self.root):
            if not (self.root / marker).exists() or self._agrees(marker, there):
                continue
            if _is_shard(marker) and self._agrees(f"{step_of(marker)}/done.json", there):
                continue  # the step's last marker names it
            sent, now = self.sent.get(marker), there.get(marker)
            # Nobody else has written since: what lies there unknown is this copy's, and its answer was
            # lost. What is gone was deleted.
            deleted = sent is not None and now is None
            if keeps and not deleted:
                newer.append(marker)
            else:
                self.drop(marker)
        return newer

    def _agrees(self, marker: str, there: Mapping[str, Listed]) -> bool:
        """Tell whether a marker is here as it lies at the URL."""
        sent, now, path = self.sent.get(marker), there.get(marker), self.root / marker
        if sent is None or now is None or sent.tag != now.tag or not path.exists():
            return False
        return sent.sha256 == sha256_of(path)

    def drop(self, marker: str) -> None:
        """Remove a marker and what it marks; with the identity of a step, the step."""
        self.sent.pop(marker, None)
        path = self.root / marker
        if path.name == "step.json":
            shutil.rmtree(path.parent)
            return
        # What a step's last marker names in addition to shards, which have markers of their own.
        files = [f for f in marked(self.root, marker) if path.name != "done.json" or
                 not f.name.startswith("shard-")]  # fmt: skip
        path.unlink()
        for file in files:
            file.unlink(missing_ok=True)

    def _pull(
        self,
        objects: Objects,
        there: Mapping[str, Listed],
        newer: Iterable[str],
        *,
        resumes: bool,
    ) -> None:
        kept = set(newer)
        wanted = [
            marker
            for marker in filter(is_marker, there)
            if marker not in kept
            and checkpoint_step(marker) is None
            and not (self.root / marker).exists()
            and (not _is_shard(marker) or f"{step_of(marker)}/done.json" not in there)
        ]
        # A step is there once its identity is, and done once everything else is.
        wanted.sort(key=lambda marker: (there[marker].when, marker.endswith("done.json"), marker))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            contents = pool.map(objects.read, wanted)
            for marker, found in zip(wanted, contents, strict=True):
                if found is not None:
                    self._take(objects, marker, *found, when=there[marker].when)
        if resumes:
            for step in {step_of(marker) for marker in there} - {""}:
                if f"{step}/done.json" not in there:
                    self.pull_files(objects, step)
                    self._pull_checkpoint(objects, there, step)

    def pull_files(self, objects: Objects, step: str, patterns: tuple[str, ...] = ("*",)) -> None:
        """Pull what the markers of a step name and is not here, of the files that fit a pattern.

        Raises:
            CorruptShardError: an object does not match its digest, or is missing.
        """
        wanted = missing(self.root / step, patterns)

        def pull(name: str) -> str | None:
            """Pull one, and return its tag where it is a marker of a shard."""
            fetch(objects, f"{step}/{name}", self.root / step / name, *wanted[name])
            held = objects.read(f"{step}/{name}") if is_marker(f"{step}/{name}") else None
            return held[1] if held else None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, tag in zip(wanted, pool.map(pull, wanted), strict=True):
                if tag is not None:
                    self.log(f"{step}/{name}", tag, wanted[name][1])

    def _take(
        self, objects: Objects, marker: str, content: bytes, tag: str, *, when: float
    ) -> None:
        path = self.root / marker
        for name, (size, digest) in _named(objects, marker, content).items():
            file = path.parent / name
            if not is_here(file, size, digest):
                file.unlink(missing_ok=True)
        make_folder(path.parent)
        write_replacing(path, content)
        os.utime(path, (when, when))  # by which reports put steps in order
        self.log(marker, tag, sha256_of(path))

    def _pull_checkpoint(self, objects: Objects, there: Mapping[str, Listed], step: str) -> None:
        """Pull the newest checkpoint of a step that is whole, unless this copy has one as new."""
        folder = self.root / step
        found = sorted(
            (n, m) for m in there if step_of(m) == step and (n := checkpoint_step(m)) is not None
        )
        own = (p.name.rpartition("-")[2] for p in folder.glob("checkpoints/checkpoint-*"))
        newest_here = max((int(n) for n in own if n.isdigit()), default=-1)
        for number, marker in reversed(found):
            if number <= newest_here:
                return
            held = objects.read(marker)
            if held is not None and self._take_checkpoint(objects, marker, held[0]):
                return

    def _take_checkpoint(self, objects: Objects, marker: str, content: bytes) -> bool:
        step = step_of(marker)
        partial = self.root / step / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for name, (size, digest) in _named(objects, marker, content).items():
                fetch(objects, f"{step}/{name}", partial / name, size, digest)
        except CorruptShardError:  # the one before it will do
            shutil.rmtree(partial, ignore_errors=True)
            return False
        checkpoint = Path(marker).stem
        shutil.rmtree(self.root / step / "checkpoints" / checkpoint, ignore_errors=True)
        beside = f"checkpoints/{checkpoint}.beside/"
        for file in [f for f in partial.rglob("*") if f.is_file()]:
            name = file.relative_to(partial).as_posix()
            place = self.root / step / name.replace(beside, "checkpoints/")
            make_folder(place.parent)
            file.replace(place)
        shutil.rmtree(partial)
        return True


def _is_shard(marker: str) -> bool:
    return marker.rpartition("/")[2].startswith("shard-")


def missing(step: Path, patterns: tuple[str, ...]) -> dict[str, tuple[int, str]]:
    """Return what the markers in a step's folder name and is not here: size and digest by name."""
    done = step / "done.json"
    markers = [done] if done.exists() else sorted(step.glob("shard-*.json"))
    named = {n: told for marker in markers for n, told in files_of(marker.read_bytes()).items()}
    return {
        name: told
        for name, told in named.items()
        if any(Path(name).match(pattern) for pattern in patterns)
        and not is_here(step / name, told[0])
    }


def _named(objects: Objects, marker: str, content: bytes) -> dict[str, tuple[int, str]]:
    try:
        return files_of(content)
    except (ValueError, TypeError) as error:
        raise CorruptShardError(
            f"{objects.url}/{marker} is damaged ({error}): delete it, and the next run makes it anew"
        ) from error


def fetch(objects: Objects, name: str, to: Path, size: int, digest: str) -> None:
    """Pull a file, whole or not at all.

    Raises:
        CorruptShardError: what lies there is not what its marker names.
    """
    make_folder(to.parent)
    partial = to.with_name(f"{to.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        found = objects.fetch(name, partial)
        if not found or not is_here(partial, size) or sha256_of(partial) != digest:
            step = step_of(name)
            told = "is missing" if not found else (
                f"has {partial.stat().st_size:,} bytes" if not is_here(partial, size)
                else "does not match its digest")  # fmt: skip
            marker = to.with_suffix(".json").name if _is_shard(name) else ""
            also = f", {objects.url}/{step}/{marker}" if marker else ""
            raise CorruptShardError(
                f"{objects.url}/{name} {told}, not as its marker names it ({size:,} bytes, SHA-256 "
                f"{digest[:12]}): delete it{also} and {objects.url}/{step}/done.json, and the next run "
                f"makes {'that shard' if marker else 'that step'} again"
            )
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)
