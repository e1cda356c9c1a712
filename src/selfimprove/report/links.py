"""Which step read which, and what columns its rows have: from what each step says of its own inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from selfimprove.report.run_folder import RunFolder

__all__ = ["Links"]


@final
class Links:
    """The steps of one run, by what they read; looked up once, so a run that goes on needs a new one."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.columns = {step.name: _columns(run.path / step.name) for step in run.steps}
        """Of each step's rows; empty where it has none."""
        self.rows = {step.name: int(step.record.get("rows") or 0) for step in run.steps}
        self._made = _by_digest(run)
        self.sources = {step.name: self._sources(step.name) for step in run.steps}
        """The steps that each one read, by the name of the input."""

    def readers(self, step: str) -> list[str]:
        """Return the steps that read this one, but those that only held it against something newer."""
        return [
            name
            for name, sources in self.sources.items()
            if any(source == step and given != "old" for given, source in sources.items())
        ]

    def alike(self, step: str) -> list[str]:
        """Return the steps of the same columns that this one read: it was chosen or mended from them."""
        columns = self.columns[step]
        return [s for s in self.sources[step].values() if columns and self.columns[s] == columns]

    def _sources(self, step: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for given, value in self.run.inputs(step).items():
            made = self._made.get(value.get("rows", ""), ()) if isinstance(value, dict) else ()
            # Steps of equal content have one digest: the one of the same stage was meant.
            named = [name for name in made if stem(name) == stem(step)] or made
            if named and named[0] != step:
                found[given] = named[0]
        return found


def stem(step: str) -> str:
    """Return what the steps of one stage share of their names.

    >>> stem("round-1-paths"), stem("questions")
    ('round-1', '')
    """
    return step.rpartition("-")[0]


def _by_digest(run: RunFolder) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for step in run.steps:
        if step.done and step.record.get("digest"):
            made.setdefault(step.record["digest"], []).append(step.name)
    return made


def _columns(folder: Path) -> frozenset[str]:
    return frozenset(_names(next(iter(sorted(folder.glob("shard-*.parquet"))), None)))


def _names(shard: Path | None) -> Iterator[str]:
    if shard is not None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names: list[Any] = pq.read_schema(shard).names
        except (pa.ArrowException, OSError):
            return  # being written, or damaged: whoever reads its rows says so
        yield from names
