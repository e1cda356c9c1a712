"""The newest texts that a run wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, final

from selfimprove.errors import DataError
from selfimprove.report.links import Links
from selfimprove.report.run_folder import read_run
from selfimprove.report.texts import asked_of

__all__ = ["Newest", "Sample"]


class Sample(NamedTuple):
    """One text."""

    step: str
    asked: str
    text: str
    answer: str | None
    score: float | None


@final
class Newest:
    """Reads the newest shard of texts; one that was read before is not read again."""

    def __init__(self, root: Path, count: int) -> None:
        self._root, self._count = root, count
        self._shard: Path | None = None
        self._samples: tuple[Sample, ...] = ()
        self._asked: tuple[str, dict[str, str]] = ("", {})

    def samples(self) -> tuple[Sample, ...]:
        """Return the last texts of the newest shard that holds some, the newest first."""
        shards = sorted(
            # What a filter kept was seen when it was written.
            (
                path
                for path in self._root.glob("*/shard-*.json")
                if not path.parent.name.endswith("-kept")
            ),
            key=_when,
            reverse=True,
        )
        for sidecar in shards[:40]:
            shard = sidecar.with_suffix(".parquet")
            if shard == self._shard:
                break
            if found := self._read(shard):
                self._shard, self._samples = shard, found
                break
        return self._samples

    def _read(self, shard: Path) -> tuple[Sample, ...]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names = set(pq.read_schema(shard).names)
            if "text" not in names or not names & {"finish", "new_tokens"}:
                return ()
            wanted = ("question_id", "prompt_id", "prompt", "text", "answer", "score")
            table = pq.read_table(shard, columns=[name for name in wanted if name in names])
        except (OSError, pa.ArrowException):
            return ()  # being removed, or on another machine's disk: the next look finds another
        distinct = {row["text"]: row for row in table.to_pylist() if row["text"]}
        rows = list(distinct.values())[-self._count :]
        asked = self._asked_in(shard.parent.name) if rows and "prompt" not in names else {}
        return tuple(_sample(shard.parent.name, row, asked) for row in reversed(rows))

    def _asked_in(self, step: str) -> dict[str, str]:
        if self._asked[0] != step:
            try:
                self._asked = step, asked_of(Links(read_run(self._root)), step)
            except DataError:
                self._asked = step, {}
        return self._asked[1]


def _when(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sample(step: str, row: dict[str, Any], asked: dict[str, str]) -> Sample:
    id = str(row.get("question_id") or row.get("prompt_id") or "")
    said = row.get("prompt") or asked.get(id, "")
    return Sample(step, said, row["text"], row.get("answer"), row.get("score"))
