"""A run kept at a URL: whatever was published when it was killed, another machine ends with the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.objects_in_memory import Machine, Memory, as_machine

from selfimprove.errors import CorruptShardError, LockedRunError, RemoteError
from selfimprove.methods.one_model import becoming, put_on_top
from selfimprove.models import locate
from selfimprove.remote import as_url, here, kept_at, lease, told, whole
from selfimprove.remote.lease import LOCK
from selfimprove.remote.markers import files_of, is_marker
from selfimprove.rows import Batch
from selfimprove.store import Run
from selfimprove.types import ModelRef


@dataclass(frozen=True, slots=True)
class Row:
    number: int


@dataclass(frozen=True, slots=True)
class Written:
    tokens: int = 0


made: list[int] = []


def squares(chunks: Sequence[Sequence[int]]) -> Iterator[Batch[Row]]:
    for chunk in chunks:
        made.extend(chunk)
        yield Batch([Row(n * n) for n in chunk])


def large(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.number > 3]


def copied(base: ModelRef, rows: Sequence[Row], *, out: Path, checkpoints: Path) -> Written:
    out.mkdir(parents=True)
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(bytes(len(rows)))
    return Written()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made.clear()
    return as_machine(monkeypatch, tmp_path)


def _run(place: str, *, to: int = 2) -> Path:
    """Run the first step of a small method, or all of them, and return its folder."""
    root, keeper = kept_at(place)
    with closing(Run(root, keeper=keeper)) as run:
        rows = run.sharded("squares", squares, range(6), shard_items=3)
        if to > 1:
            kept = run.rows("large", large, rows)
            run.model("copied", copied, ModelRef("base", "", "0"), kept)
            run.write("finished.json", {"model": "copied/model"})
    return root


def _contents(root: Path) -> dict[str, bytes]:
    files = [*root.rglob("*.parquet"), *root.rglob("*.safetensors"), *root.glob("*.json")]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def test_every_marker_is_published_after_what_it_names(machine: Machine) -> None:
    place = Memory()
    _run(machine(place, "a"))
    there: dict[str, bytes] = {}
    for name, content in place.history:
        if is_marker(name):
            for file, (size, _digest) in files_of(content).items():
                assert len(there[f"{name.partition('/')[0]}/{file}"]) == size
        there[name] = content
    assert set(files_of(there["copied/done.json"])) == {
        "model/config.json",
        "model/model.safetensors",
    }
    assert place.history[-1][0] == LOCK  # given back
    assert place.history[-2][0] == "finished.json"


def test_killed_at_any_moment_another_machine_ends_with_the_same_run(
    machine: Machine, tmp_path: Path
) -> None:
    whole_run = _contents(_run(str(tmp_path / "local")))
    place = Memory()
    _run(machine(place, "a"))
    # A lock that was not given back is waited for: test_remote_lease.
    writes = [write for write in place.history if write[0] != LOCK]
    for count in range(0, len(writes), 2):  # each takes up what the one before it had not
        root = _run(machine(Memory.after(writes[:count]), f"after-{count}"))
        for step in ("squares", "large", "copied"):
            whole(root / step)
        assert _contents(root) == whole_run


def test_a_shard_that_was_published_is_not_made_again(machine: Machine) -> None:
    place = Memory()
    _run(machine(place, "a"), to=1)
    written = next(
        i for i, (name, _) in enumerate(place.history) if name == "squares/shard-00000.json"
    )
    kept = [write for write in place.history[: written + 1] if write[0] != LOCK]
    made.clear()
    _run(machine(Memory.after(kept), "b"), to=1)
    assert made == [3, 4, 5]


def test_rows_and_models_are_pulled_when_they_are_read(machine: Machine) -> None:
    place = Memory()
    _run(machine(place, "a"))
    root = here(machine(place, "b"))
    assert json.loads((root / "squares" / "done.json").read_text())["rows"] == 6
    assert place.fetched == []
    whole(root / "copied" / "model")
    assert set(place.fetched) == {"copied/model/config.json", "copied/model/model.safetensors"}
    place.fetched.clear()
    here(place.url)
    whole(root / "copied")
    assert place.fetched == []


@pytest.mark.parametrize("who", ["wrote it", "pulled it"])
def test_what_was_changed_there_is_named_and_made_again_once_deleted(
    machine: Machine, who: str
) -> None:
    place = Memory()
    url = machine(place, "wrote it")
    before = _contents(_run(url))
    _run(machine(place, "pulled it"))
    name = "squares/shard-00001.parquet"
    for bad, said in (
        (b"x" * len(place.held[name]), "does not match"),
        (place.held[name][:9], "has 9 bytes"),
    ):
        place.put(name, bad)
        root = here(machine(place, f"reader of {said}"))
        with pytest.raises(
            CorruptShardError, match=rf"{url}/{name} {said}.*shard-00001.json and {url}"
        ):
            whole(root / "squares")
    made.clear()
    place.delete([name, "squares/shard-00001.json", "squares/done.json"])
    assert _contents(_run(machine(place, who))) == before
    assert made == [3, 4, 5]


def test_a_step_deleted_there_is_made_again_by_who_published_it(machine: Machine) -> None:
    place = Memory()
    url = machine(place, "a")
    _run(url)
    place.delete([name for name in place.held if name.startswith("squares/")])
    made.clear()
    _run(url)
    assert made == [0, 1, 2, 3, 4, 5]


def test_what_could_not_be_published_is_kept_here_and_published_next_time(machine: Machine) -> None:
    place = Memory()
    url = machine(place, "a")
    place.refuses = "large/"
    with pytest.raises(
        RemoteError, match=r"full\. What was published before is whole.*publishes it"
    ):
        _run(url)
    assert "squares/done.json" in place.held
    assert "large/step.json" not in place.held
    place.refuses = ""
    made.clear()
    _run(url)
    assert made == []
    assert "finished.json" in place.held


@pytest.mark.parametrize(
    "name", ["squares/step.json", "squares/shard-00001.json", "large/shard-00000.json", "large/done.json"]
)  # fmt: skip
def test_what_was_published_without_an_answer_is_published_again(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    whole_run = _contents(_run(str(tmp_path / "local")))
    place = Memory()
    place.answer_lost = name
    url = machine(place, "a")
    with pytest.raises(RemoteError, match="broken off"):
        _run(url)
    assert name in place.held
    place.answer_lost = ""
    assert _contents(_run(url)) == whole_run
    elsewhere = _run(machine(place, "b"))
    for step in ("squares", "large", "copied"):
        whole(elsewhere / step)
    assert _contents(elsewhere) == whole_run


def test_work_that_was_not_published_goes_where_another_machine_has_written_since(
    machine: Machine,
) -> None:
    place = Memory()
    url = machine(place, "a")
    place.refuses = "large/"
    with pytest.raises(RemoteError):
        _run(url)
    place.refuses = ""
    _run(machine(place, "b"))
    theirs = dict(place.held)
    root = here(machine(place, "a"))
    whole(root / "large")
    assert (root / "large/done.json").read_bytes() == theirs["large/done.json"]
    assert dict(place.held) == theirs


def test_a_writer_that_was_replaced_publishes_nothing_more(machine: Machine) -> None:
    place = Memory()
    root, keeper = kept_at(machine(place, "a"))
    run = Run(root, keeper=keeper)
    told_before = json.loads(place.held[LOCK])
    place.put(
        LOCK, json.dumps({**told_before, "term": 2, "owner": "b@b", "who": "b, process 7"}).encode()
    )
    assert keeper._lease is not None  # type: ignore[attr-defined]
    keeper._lease.renew()  # type: ignore[attr-defined]
    before = dict(place.held)
    with pytest.raises(LockedRunError, match="b, process 7 writes there now"):
        run.rows("one", one)
        run.close()
    assert place.held == before


def one() -> list[Row]:
    return [Row(1)]


def test_a_reader_leaves_a_copy_alone_that_a_living_process_writes(machine: Machine) -> None:
    place = Memory()
    url = machine(place, "a")
    root, keeper = kept_at(url)
    with closing(Run(root, keeper=keeper)) as run:
        run.write("recipe.json", {})
        (root / "new.json").write_text("{}")  # not published, and of nobody's term
        place.delete([LOCK])
        assert here(url) == root
        assert (root / "new.json").exists()
    here(url)
    assert not (root / "new.json").exists()


def test_a_place_is_known_by_its_url(machine: Machine) -> None:
    root = _run(machine(Memory(), "a"), to=1)
    assert told(root / "squares") == "s3://bucket/run/squares"
    assert as_url(Path("s3://bucket/run")) == "s3://bucket/run"
    assert as_url("C:/runs") is None


def test_a_place_without_conditional_writes_keeps_a_run_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made.clear()
    monkeypatch.setattr(lease, "_SETTLE_S", 0.01)
    url = f"memory://{tmp_path.name}/run"
    contents = []
    for name in ("a", "b"):
        monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / name))
        root = _run(url)
        for step in ("squares", "large", "copied"):
            whole(root / step)
        contents.append(_contents(root))
    assert contents[0] == contents[1]
    assert made == [0, 1, 2, 3, 4, 5]  # by the first alone


@pytest.mark.parametrize("kept", ["in a folder", "at a URL"])
def test_what_becomes_a_model_is_found_by_where_it_is_kept(
    machine: Machine, tmp_path: Path, kept: str
) -> None:
    place = Memory()
    url = machine(place, "a")
    out = Path(url) if kept == "at a URL" else tmp_path / "out"
    with becoming(out, lambda _line: None) as run:
        rows = run.sharded("squares", squares, range(6), shard_items=3)
        put_on_top(Path(run.model("training", copied, ModelRef("base", "", "0"), rows).path), run)
    machine(place, "b")
    found = Path(locate(str(out)).path)
    assert (found / "model.safetensors").read_bytes() == bytes(6)
    assert (found / "config.json").is_file()
