"""Checkpoints of a training under way: published whole, two at most, and gone on from elsewhere."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.objects_in_memory import Machine, Memory, as_machine

from selfimprove.remote import kept_at
from selfimprove.remote.checkpoints import Snapshots, outdated
from selfimprove.remote.markers import marked
from selfimprove.store import Run
from selfimprove.types import ModelRef


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return as_machine(monkeypatch, tmp_path)


def _save(step: Path, number: int, *, ago_s: float = 60.0) -> Path:
    """Save a checkpoint as the trainer does, its state last."""
    folder = step / "checkpoints" / f"checkpoint-{number}"
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "trainer_state.json"):
        (folder / name).write_text(f"{name} of {number}")
        os.utime(folder / name, (time.time() - ago_s,) * 2)
    (folder.parent / "tried.json").write_text(f"tried up to {number}")
    milestone = step / "milestones" / f"step-{number}"
    milestone.mkdir(parents=True)
    (milestone / "model.safetensors").write_text(f"milestone {number}")
    return folder


def test_a_snapshot_is_of_what_was_there_whatever_the_trainer_does_next(tmp_path: Path) -> None:
    root = tmp_path / "copy" / "run"
    _save(root / "dpo", 10)
    newest = _save(root / "dpo", 20)
    _save(root / "dpo", 30, ago_s=0.0)  # other processes may still write theirs
    (root / "dpo/checkpoints/tried.json").write_text("tried up to 20")
    seen: dict[str, str] = {}

    def publish(marker: str, folder: Path) -> None:
        (newest / "model.safetensors").unlink()
        assert marker == "dpo/checkpoints/checkpoint-20.json"
        for file in (f for f in folder.rglob("*") if f.is_file()):
            seen[file.relative_to(folder).as_posix()] = file.read_text()

    snapshots = Snapshots(root)
    (root / "dpo/checkpoints/checkpoint-30/trainer_state.json").unlink()
    snapshots.take(publish)
    snapshots.take(publish)  # once
    assert seen == {
        "checkpoints/checkpoint-20/model.safetensors": "model.safetensors of 20",
        "checkpoints/checkpoint-20/trainer_state.json": "trainer_state.json of 20",
        "checkpoints/checkpoint-20.beside/tried.json": "tried up to 20",
        "milestones/step-10/model.safetensors": "milestone 10",
        "milestones/step-20/model.safetensors": "milestone 20",
    }


def test_a_done_step_is_what_stays_of_it_while_checkpoints_are_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "sft"
    _save(step, 10)
    for name in ("model/config.json", "model/tokenizer.json", "train_log.jsonl", "order.json",
                 "model.partial/config.json", "done.json", "step.json"):  # fmt: skip
        (step / name).parent.mkdir(exist_ok=True)
        (step / name).write_text("{}")
    looked: list[str] = []
    scandir = os.scandir

    def noting(place: str | Path) -> object:
        looked.append(Path(place).name)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", noting)
    found = [f.relative_to(step).as_posix() for f in marked(tmp_path, "sft/done.json")]
    assert found == [
        "milestones/step-10/model.safetensors", "model/config.json", "model/tokenizer.json", "train_log.jsonl"
    ]  # fmt: skip
    assert "model" in looked
    assert "checkpoints" not in looked


def test_all_but_the_newest_two_go_with_their_marker_first() -> None:
    at = "sft/checkpoints/checkpoint-"
    names = [f"{at}{n}{part}" for n in (9, 10, 100) for part in (".json", "/a", ".beside/b")]
    assert outdated([*names, "other/checkpoints/checkpoint-1.json"], "sft") == [
        [f"{at}9.json", f"{at}9/a", f"{at}9.beside/b"]
    ]
    assert [group[0] for group in outdated(names, "sft", keep=0)] == [
        f"{at}{n}.json" for n in (9, 10, 100)
    ]


def _trained(base: ModelRef, *, out: Path, checkpoints: Path) -> object:
    raise InterruptedError


def test_another_machine_gets_the_newest_whole_checkpoint_and_what_belongs_to_it(
    machine: Machine,
) -> None:
    place = Memory()
    root, keeper = kept_at(machine(place, "a"))
    with closing(Run(root, keeper=keeper)) as run:
        with pytest.raises(InterruptedError):
            run.model("sft", _trained, ModelRef("base", "", "0"))  # type: ignore[arg-type]
        for number in (10, 20):
            _save(root / "sft", number)
            _wait_for(place, f"sft/checkpoints/checkpoint-{number}.json")

    def resumed(name: str) -> tuple[set[str], str]:
        copy, other = kept_at(machine(place, name))
        with closing(Run(copy, keeper=other)):
            folders = {p.name for p in copy.glob("sft/checkpoints/checkpoint-*")}
            return folders, (copy / "sft/checkpoints/tried.json").read_text()

    assert resumed("b") == ({"checkpoint-20"}, "tried up to 20")
    place.put("sft/checkpoints/checkpoint-20/model.safetensors", b"cut")
    assert resumed("c") == ({"checkpoint-10"}, "tried up to 10")


def _wait_for(place: Memory, name: str) -> None:
    until = time.monotonic() + 20
    while name not in place.held:
        assert time.monotonic() < until, sorted(place.held)
        time.sleep(0.01)
