"""Steps are made once, refused when stale, remade shard by shard, and never half read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from selfimprove import files
from selfimprove.errors import (
    CorruptShardError,
    DiskFullError,
    LockedRunError,
    StaleStepError,
    TrainingError,
)
from selfimprove.files import read_json
from selfimprove.rows import Batch, Drop, Filtered, Funnel, decode, encode, rows_digest
from selfimprove.store import Run
from selfimprove.types import ModelRef


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    votes: int


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    text: str | None
    tags: tuple[str, ...]
    inner: tuple[Inner, ...] = ()


made: list[int] = []


def squares(chunks: Sequence[Sequence[int]], factor: int) -> Iterator[Batch[Row]]:
    for chunk in chunks:
        made.extend(chunk)
        yield Batch([Row(n * n * factor, None, ("a", "b")) for n in chunk], tokens_sampled=10)


def big(rows: Sequence[Row], least: int) -> Filtered[Row]:
    kept = [r for r in rows if r.number >= least]
    drops = (Drop("too small", len(rows) - len(kept)),)
    return Filtered(kept, (Funnel("big", len(rows), len(kept), drops),))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made.clear()
    opened = Run(tmp_path / "run")
    yield opened
    opened.close()


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        Row(1, "ü \u2028 </script>", ("x",), (Inner("a", 2),)),
        Row(2, None, (), ()),
    ]
    path = tmp_path / "rows.parquet"
    path.write_bytes(encode(rows, Row))
    assert decode(path, Row) == rows
    assert rows_digest(decode(path, Row)) == rows_digest(rows)
    assert rows_digest(rows[:1]) != rows_digest(rows)


def test_a_step_is_made_once_and_then_read_back(run: Run) -> None:
    first = run.sharded("squares", squares, range(5), 2, shard_items=2)
    again = run.sharded("squares", squares, range(5), 2, shard_items=2)
    assert made == [0, 1, 2, 3, 4]
    assert first.items == again.items
    assert [r.number for r in first] == [0, 2, 8, 18, 32]
    done = json.loads((first.folder / "done.json").read_text())
    assert (done["tokens_sampled"], done["rows"], done["shards"]) == (30, 5, 3)


def test_another_input_is_refused_and_named(run: Run) -> None:
    run.sharded("squares", squares, range(5), 2, shard_items=2)
    with pytest.raises(StaleStepError, match=r"squares.*factor was 2, now 3.*--out"):
        run.sharded("squares", squares, range(5), 3, shard_items=2)


def test_a_step_made_where_its_function_stood_before_is_still_good(run: Run) -> None:
    first = run.sharded("squares", squares, range(5), 2, shard_items=2)
    path = first.folder / "step.json"
    told = json.loads(path.read_text())
    assert told["made_by"] == "squares"
    path.write_text(json.dumps({**told, "made_by": "selfimprove.methods.elsewhere.squares"}))
    assert run.sharded("squares", squares, range(5), 2, shard_items=2).items == first.items
    assert made == [0, 1, 2, 3, 4]


def test_another_upstream_row_makes_the_next_step_stale(run: Run) -> None:
    rows = run.sharded("squares", squares, range(5), 2, shard_items=2)
    run.rows("big", big, rows, 8)
    other = run.sharded("others", squares, range(6), 2, shard_items=2)
    with pytest.raises(StaleStepError, match="rows was"):
        run.rows("big", big, other, 8)


def test_only_the_missing_shards_are_made_again(run: Run) -> None:
    whole = run.sharded("squares", squares, range(6), 1, shard_items=2)
    made.clear()
    (whole.folder / "done.json").unlink()
    for name in ("shard-00001.json", "shard-00001.parquet"):
        (whole.folder / name).unlink()
    again = run.sharded("squares", squares, range(6), 1, shard_items=2)
    assert made == [2, 3]
    assert again.digest == whole.digest


def by(engine: str) -> Callable[..., Iterator[Batch[Row]]]:
    """Make rows by an engine of this name: the same rows, as the step's identity does not hold it."""

    def drawn(chunks: Sequence[Sequence[int]]) -> Iterator[Batch[Row]]:
        for chunk in chunks:
            yield Batch([Row(n, None, ()) for n in chunk], engine={"dtype": engine})

    return drawn


def test_a_step_records_which_engines_made_its_rows(run: Run) -> None:
    rows = run.sharded("drawn", by("float32"), range(6), shard_items=2)
    assert read_json(rows.folder / "done.json")["engines"] == [{"dtype": "float32"}]
    for file in ("shard-00001.json", "done.json"):
        (rows.folder / file).unlink()
    run.sharded("drawn", by("bfloat16"), range(6), shard_items=2)
    assert read_json(rows.folder / "done.json")["engines"] == [
        {"dtype": "float32"}, {"dtype": "bfloat16"}
    ]  # fmt: skip


def test_what_belongs_together_lies_in_one_shard(run: Run) -> None:
    given: list[list[int]] = []

    def by_tens(chunks: Sequence[Sequence[int]]) -> Iterator[Batch[Row]]:
        given.extend(list(chunk) for chunk in chunks)
        for chunk in chunks:
            yield Batch([Row(n, None, ()) for n in chunk])

    run.sharded("tens", by_tens, [1, 2, 10, 11, 12, 20, 31, 32, 33, 34, 35], shard_items=4,
                together=lambda n: n // 10)  # fmt: skip
    assert given == [[1, 2], [10, 11, 12, 20], [31, 32, 33, 34, 35]]


def test_a_changed_shard_is_named(run: Run) -> None:
    rows = run.sharded("squares", squares, range(4), 1, shard_items=2)
    shard = rows.folder / "shard-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-7] + b"damaged")
    with pytest.raises(CorruptShardError, match=r"shard-00001.parquet.*delete it"):
        run.sharded("squares", squares, range(4), 1, shard_items=2)


def test_a_funnel_is_stored_with_its_reasons(run: Run) -> None:
    rows = run.sharded("squares", squares, range(5), 1, shard_items=5)
    kept = run.rows("big", big, rows, 4)
    done = json.loads((kept.folder / "done.json").read_text())
    assert done["funnels"] == [
        {"name": "big", "given": 5, "kept": 3, "dropped": [{"why": "too small", "count": 2}]}
    ]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"good": True})

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no room left to write .*value.json"):
        files.write_json(path, {"good": False})
    assert files.read_json(path) == {"good": True}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_second_writer_is_refused_while_the_first_lives(run: Run) -> None:
    with pytest.raises(LockedRunError, match=str(os.getpid())):
        Run(run.root)


def test_a_dead_writer_holds_no_lock(tmp_path: Path) -> None:
    root = tmp_path / "run"
    code = (
        "import os, signal, sys; from pathlib import Path; from selfimprove.store import Run;"
        f"Run(Path({str(root)!r})); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    Run(root).close()


@dataclass(frozen=True, slots=True)
class Job:
    base: ModelRef
    rows: Sequence[Row]

    def fit(self, *, out: Path, checkpoints: Path) -> Trained:
        assert not out.exists()
        out.mkdir(parents=True)
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes(b"weights of " + self.base.name.encode())
        made.append(len(self.rows))
        assert checkpoints.parent == out.parent
        return Trained(tokens=7)


def train(base: ModelRef, rows: Sequence[Row]) -> Job:
    return Job(base, rows)


@dataclass(frozen=True, slots=True)
class Trained:
    tokens: int


def test_a_trained_model_is_pinned_by_its_weights(run: Run) -> None:
    base = ModelRef("base", "nowhere", "0" * 64)
    model = run.train("model", train, base, [Row(1, None, ())])
    assert run.train("model", train, base, [Row(1, None, ())]) == model
    assert made == [1]
    assert model.name == "base + model"
    with pytest.raises(StaleStepError, match=r"base\.weights was"):
        run.train("model", train, ModelRef("base", "nowhere", "1" * 64), [Row(1, None, ())])
    (Path(model.path) / "model.safetensors").write_bytes(b"other weights of the same model")
    with pytest.raises(CorruptShardError, match="does not hold the weights"):
        run.train("model", train, base, [Row(1, None, ())])


def test_what_has_no_stable_form_cannot_identify_a_step(run: Run) -> None:
    with pytest.raises(TypeError, match="no stable form"):
        run.rows("step", big, object(), 3)


def exhaust(base: ModelRef) -> Job:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 GB")


def test_a_training_that_runs_out_of_memory_says_what_to_lower(run: Run) -> None:
    base = ModelRef("base", "nowhere", "0" * 64)
    with pytest.raises(TrainingError, match=r"big: out of memory: lower piece_tokens .*--dry-run"):
        run.train("big", exhaust, base)
