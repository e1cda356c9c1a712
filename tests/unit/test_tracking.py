"""What trackers are told of a run, from its folder alone; that none of it changes or stops the run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from selfimprove.config import IDENTITY, Config, fingerprint
from selfimprove.errors import ConfigError
from selfimprove.methods.recipe import Recipe
from selfimprove.rows import Batch, Drop, Filtered, Funnel
from selfimprove.store import Run
from selfimprove.tracking import folder, measures, telling, trackers
from selfimprove.tracking.config import Tracker
from selfimprove.tracking.folder import Event, Told, news


@dataclass(frozen=True, slots=True)
class Verdict:
    prompt_id: str
    index: int
    vote: int
    score: float | None
    unscored: str | None
    finish: str


@dataclass(frozen=True, slots=True)
class Pair:
    prompt: str
    chosen_score: float
    rejected_score: float


def judge(chunks: list[list[int]]) -> Iterator[Batch[Verdict]]:
    """Two verdicts a response: alike on the first, unlike on the second; the last cannot be read."""
    for chunk in chunks:
        yield Batch(
            [
                Verdict(
                    "p", i // 2, i % 2, (4.0, 4.0, 1.0, None)[i], None, "length" if i else "stop"
                )
                for i in chunk
            ],
            tokens_sampled=30,
        )


def pair(verdicts: list[Verdict]) -> Filtered[Pair]:
    return Filtered(
        [Pair("p", 4.0, 1.0)], (Funnel("pairs", 4, 1, (Drop("tied, or not read", 3),)),)
    )


def made(root: Path, *, pairs: bool = True) -> Path:
    with closing(Run(root)) as run:
        verdicts = run.sharded("m2-verdicts", judge, range(4), shard_items=2)
        if pairs:
            run.rows("m2-pairs", pair, verdicts)
    return root


def told_of(root: Path, told: Told | None = None) -> dict[tuple[str, int], dict[str, float]]:
    return {(event.series, event.at): event.values for event in news(root, told or Told())}


def test_verdicts_tell_how_many_could_be_read_and_how_often_votes_agree(tmp_path: Path) -> None:
    values = told_of(made(tmp_path))["stage/verdicts", 2]
    assert values["score"] == 3.0  # of 4, 4 and 1
    assert values["parse_rate"] == 0.75
    assert values["votes_agree"] == 1.0  # of the one response that has two scores
    assert values["cut_off"] == 0.75
    assert values["tokens_sampled"] == 60.0


def test_pairs_tell_their_margin_and_what_the_filter_kept_and_why(tmp_path: Path) -> None:
    values = told_of(made(tmp_path))["stage/pairs", 2]
    assert values["margin"] == 3.0
    assert values["filter/pairs/kept_rate"] == 0.25
    assert values["filter/pairs/dropped/tied, or not read"] == 3


def test_shards_are_told_as_they_come_and_nothing_is_told_twice(tmp_path: Path) -> None:
    told = Told()
    first = told_of(made(tmp_path, pairs=False), told)
    assert {at for series, at in first if series == "m2-verdicts"} == {1, 2}
    assert told_of(tmp_path, told) == {}
    again = Told(
        **json.loads(json.dumps({"lines": told.lines, "shards": told.shards, "done": told.done}))
    )
    later = told_of(made(tmp_path), again)
    assert {series for series, _ in later} == {"stage/pairs", "run"}
    assert later["run", 2]["steps_done"] == 2.0


def test_a_training_log_is_told_line_by_line_and_a_line_half_written_is_left(
    tmp_path: Path,
) -> None:
    (tmp_path / "m2-dpo").mkdir()
    (tmp_path / "m2-dpo" / "step.json").write_text("{}")
    log = tmp_path / "m2-dpo" / "train_log.jsonl"
    log.write_text('{"loss": 0.69, "kl": 0.5, "step": 1}\n{"loss": 0.6')
    told = Told()
    assert told_of(tmp_path, told) == {("m2-dpo", 1): {"loss": 0.69, "kl": 0.5}}
    log.write_text('{"loss": 0.69, "kl": 0.5, "step": 1}\n{"loss": 0.61, "step": 2}\n')
    assert told_of(tmp_path, told) == {("m2-dpo", 2): {"loss": 0.61}}
    # A training that goes on from a checkpoint writes its lines anew: those of before are known.
    log.write_text('{"loss": 0.69, "kl": 0.5, "step": 1}\n')
    assert told_of(tmp_path, told) == {}


def test_the_summary_tells_the_result_and_the_judges_card(tmp_path: Path) -> None:
    head = {
        "metric": "x",
        "before": 0.5,
        "after": 0.6,
        "difference": 0.1,
        "interval": [0.02, 0.18],
        "n": 50,
    }
    card = {
        "arm": "m2",
        "set": "dev",
        "parse_rate": 0.9,
        "pairwise_accuracy": {"value": 0.7, "n": 3},
    }
    (tmp_path / "summary.json").write_text(json.dumps({"headline": head, "judge_cards": [card]}))
    told = told_of(tmp_path)
    assert told["result", 0]["interval_low"] == 0.02
    assert told["judge/dev/m2", 2] == {"parse_rate": 0.9, "pairwise_accuracy": 0.7}


class Fake:
    """Stands in for a tracker: keeps what it is told, and fails where it is asked to."""

    told: ClassVar[list[Event]] = []
    ids: ClassVar[list[str | None]] = []
    fails = False

    def __init__(self, _name: Tracker, _root: Path, _recipe: object, id: str | None) -> None:
        self.ids.append(id)
        self.id = id or "first"

    def tell(self, event: Event, _number: int) -> None:
        if self.fails:
            raise ConnectionError("no  network")
        self.told.append(event)

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    monkeypatch.setattr(telling, "Opened", Fake)
    monkeypatch.setattr(telling, "require", lambda _names: None)
    monkeypatch.setattr(telling, "_EVERY", 0.01)
    Fake.told, Fake.ids, Fake.fails = [], [], False
    return Fake


def test_a_resumed_run_goes_on_in_the_same_place(tmp_path: Path, fake: type[Fake]) -> None:
    recipe = Recipe(method="own", model="tiny")
    with telling.telling(("wandb",), recipe, tmp_path, print):
        made(tmp_path, pairs=False)
    before = len(fake.told)
    with telling.telling(("wandb",), recipe, tmp_path, print):
        made(tmp_path)
    assert fake.ids == [None, "first"]
    assert [event.series for event in fake.told[before:]] == ["stage/pairs", "run"]


def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(
    tmp_path: Path, fake: type[Fake]
) -> None:
    fake.fails = True
    said: list[str] = []
    with telling.telling(("wandb",), Recipe(method="own", model="tiny"), tmp_path, said.append):
        made(tmp_path)
    assert said == ["tracker wandb failed and is left out: no network"]
    assert (tmp_path / "m2-pairs" / "done.json").exists()


def test_what_fails_once_is_told_at_the_next_look(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Once(Fake):
        def tell(self, event: Event, number: int) -> None:
            failed, Fake.fails = Fake.fails, False
            if failed:
                raise ConnectionError("away for a moment")
            super().tell(event, number)

    monkeypatch.setattr(telling, "Opened", Once)
    Fake.fails = True
    said: list[str] = []
    with telling.telling(("wandb",), Recipe(method="own", model="tiny"), tmp_path, said.append):
        made(tmp_path, pairs=False)
    assert said == []
    assert [event.series for event in fake.told] == ["m2-verdicts"] * 2 + ["stage/verdicts", "run"]


def test_trackers_are_no_part_of_what_a_run_is_made_from() -> None:
    quiet, told = (Recipe(method="own", model="tiny", trackers=t) for t in ((), ("wandb",)))
    assert fingerprint(quiet) == fingerprint(told)
    assert "trackers" not in told.model_dump(context=IDENTITY)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _name: None)
    with pytest.raises(
        ConfigError, match=r"mlflow is not installed: pip install 'selfimprove\[mlflow\]'"
    ):
        trackers.require(("mlflow",))


def test_names_and_numbers_that_trackers_refuse_are_mended_or_left_out() -> None:
    class Kept:
        def log(self, values: dict[str, float], step: int) -> None:
            self.logged = values

    opened = object.__new__(trackers.Opened)
    opened._is_wandb, opened._tracker = False, Kept()
    opened.tell(Event("m2", 1, {"dropped/tied, or not": 1.0, "loss": math.nan}), 0)
    assert opened._tracker.logged == {"m2/dropped/tied_ or not": 1.0}


def test_examples_in_docstrings_hold() -> None:
    import doctest

    for module in (folder, measures, trackers):
        assert doctest.testmod(module).failed == 0


def test_every_recipe_can_name_trackers() -> None:
    from selfimprove.methods.table import METHODS

    kinds: list[type[Config]] = [method.config for method in METHODS.values()]
    assert all("trackers" in kind.model_fields and "trackers" in kind.aside for kind in kinds)
