"""A run folder as the report reads it: without its lock, finished or not."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from selfimprove.errors import DataError
from selfimprove.evaluation.summary import Ancestor, Summary
from selfimprove.remote import here, whole

__all__ = ["RunFolder", "Step", "read_run"]

T = TypeVar("T")

_REMEDY = "delete that file and run the recipe again with the same --out, which writes it anew"


@dataclass(frozen=True, slots=True)
class Step:
    """One step and what it cost."""

    name: str
    done: bool
    record: dict[str, Any]
    """`done.json`, or the sums over the shards of a step that is still being made."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """All that the report knows of a run before it reads rows."""

    path: Path
    recipe: dict[str, Any]
    summary: Summary
    """What was measured; empty while the run is not finished."""
    finished: bool
    """Whether the summary, which a run writes last, is there."""
    lineage: tuple[Ancestor, ...]
    harness: dict[str, Any] | None
    """What lm-evaluation-harness says of it; None: it was not asked."""
    steps: tuple[Step, ...]
    """In the order in which they finished; unfinished ones last."""

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.recipe.get("seed") or 0)

    def inputs(self, step: str) -> dict[str, Any]:
        """Return what a step says it was made from, by the name of the input.

        Raises:
            DataError: it cannot be read.
        """
        told = _read_json(self.path / step / "step.json") or {}
        return dict(told.get("inputs") or {})

    def rows(
        self, step: str, columns: Sequence[str], questions: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return columns of a step's rows, of all or of some questions; none where it has no rows.

        Raises:
            DataError: a shard cannot be read.
        """
        whole(self.path / step, ("shard-*",))
        shards = sorted((self.path / step).glob("shard-*.parquet"))
        return [row for shard in shards for row in _read_shard(shard, columns, questions)]


def read_run(path: Path) -> RunFolder:
    """Read what a run folder says about itself.

    Raises:
        DataError: the folder is not a run, or one of its files is damaged.
    """
    path = here(path)
    recipe = _read_json(path / "recipe.json")
    if not isinstance(recipe, dict):
        raise DataError(_not_a_run(path))
    raw = _read_json(path / "summary.json")
    lineage = _read_json(path / "lineage.json") or []
    return RunFolder(
        path=path,
        recipe=recipe,
        summary=_checked(TypeAdapter(Summary), raw or {}, path / "summary.json"),
        finished=raw is not None,
        lineage=_checked(TypeAdapter(tuple[Ancestor, ...]), lineage, path / "lineage.json"),
        harness=_read_json(path / "harness.json"),
        steps=_steps(path),
    )


def _not_a_run(path: Path) -> str:
    if not path.is_dir():
        return f"there is no folder {path}; give the folder that `selfimprove run --out` wrote"
    within = sorted(p.parent.name for p in path.glob("*/recipe.json"))
    if within:
        return f"{path} is not a run but holds some: give {', '.join(str(path / n) for n in within[:3])}"
    return (
        f"{path} is not a run: it has no recipe.json; give the folder that "
        "`selfimprove run --out` wrote"
    )


def _read_json(path: Path) -> Any:  # noqa: ANN401  plain JSON data
    """Return a JSON file's content, None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {_REMEDY}") from error


def _checked(shape: TypeAdapter[T], value: object, path: Path) -> T:
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {place}: {first['msg']}; {_REMEDY}") from None


def _steps(path: Path) -> tuple[Step, ...]:
    folders = sorted((p.parent for p in path.glob("*/step.json")), key=_when_done)
    steps = [_read_step(folder) for folder in folders]
    # The record's time is in whole seconds; within one, the files' own times keep their order.
    return tuple(sorted(steps, key=lambda s: (not s.done, str(s.record.get("finished", "")))))


def _when_done(folder: Path) -> tuple[float, str]:
    done = folder / "done.json"
    return (done.stat().st_mtime_ns if done.exists() else math.inf, folder.name)


def _read_step(folder: Path) -> Step:
    done = _read_json(folder / "done.json")
    if done is not None:
        return Step(folder.name, done=True, record=done)
    sidecars = [_read_json(p) or {} for p in sorted(folder.glob("shard-*.json"))]
    keys = ("rows", "seconds", "tokens_sampled", "prompt_tokens")
    return Step(
        folder.name, done=False, record={k: sum(s.get(k, 0) for s in sidecars) for k in keys}
    )


def _read_shard(
    path: Path, columns: Sequence[str], questions: Collection[str] | None
) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=list(columns)).select(list(columns))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete its step to remake it") from error
    if questions is not None:
        wanted = pa.array(sorted(questions), type=pa.string())
        table = table.filter(pc.is_in(table["question_id"], value_set=wanted))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
