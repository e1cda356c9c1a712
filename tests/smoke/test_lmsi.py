"""LMSI from end to end on the shipped model, on a handful of questions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.smoke.dry_runs import check_bounds
from tests.smoke.killing import differences, run_killed

from selfimprove.errors import ConfigError
from selfimprove.report.figures import figures
from selfimprove.report.page import write
from selfimprove.runtime.launch import launch, plan_recipe
from selfimprove.tiny.shipped import folder
from selfimprove.training.export import stored_dtype
from selfimprove.weights import weights_digest

_SMALL = Path(__file__).parent / "small.yaml"


def _silent(_line: str) -> None:
    """Announce nothing."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lmsi") / "run"
    launch(_SMALL, [], root, _silent)
    return root


@pytest.mark.slow
def test_a_run_leaves_scores_of_every_arm_lineage_and_gate(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert [a["name"] for a in summary["arms"]] == ["base", "round-1", "unfiltered", "gold"]
    modes = {(s["domain"], s["mode"]) for s in summary["arms"][0]["scores"]}
    assert modes == {(d, m) for d in ("in", "out") for m in ("standard", "cot", "self_consistency")}
    assert summary["headline"]["n"] == 24
    lineage = json.loads((finished / "lineage.json").read_text())
    assert lineage[1]["parent"] == lineage[0]["digest"] != lineage[1]["digest"]
    assert summary["gate"][0]["set"] == "dev"


@pytest.mark.slow
def test_what_is_measured_is_what_leaves_the_run(finished: Path) -> None:
    """Rounded to the tiny model's bfloat16 once; the control arm likewise."""
    leaving = {}
    for name in ("round-1", "gold"):
        rounded = finished / f"{name}-export"
        assert stored_dtype(finished / f"{name}-model" / "model") == "float32"
        assert stored_dtype(rounded / "model") == "bfloat16"
        leaving[name] = weights_digest(rounded / "model")
    for step, name in (
        ("eval-round-1", "round-1"),
        ("gate-round-1", "round-1"),
        ("eval-gold", "gold"),
    ):
        made = json.loads((finished / step / "step.json").read_text())
        assert made["inputs"]["model"]["weights"] == leaving[name]
    (decided,) = json.loads((finished / "summary.json").read_text())["gate"]
    left = finished / "round-1-export" / "model" if decided["promoted"] else folder("tiny")
    assert finished / json.loads((finished / "finished.json").read_text())["model"] == left


@pytest.mark.slow
def test_rows_and_training_record_the_arithmetic_and_why(finished: Path) -> None:
    (engine,) = json.loads((finished / "eval-base" / "done.json").read_text())["engines"]
    assert (engine["engine"], engine["dtype"]) == ("torch", "float32")
    told = json.loads((finished / "round-1-model" / "done.json").read_text())["training"]
    assert told["arithmetic"] == f"float32: {engine['dtype_because']}"


@pytest.mark.slow
def test_every_kept_path_agrees_with_its_vote(finished: Path) -> None:
    votes = {v["question_id"]: v for v in _rows(finished / "round-1-votes")}
    kept = _rows(finished / "round-1-kept")
    assert kept
    assert all(p["index"] in votes[p["question_id"]]["agreeing"] for p in kept)
    assert len(kept) == sum(len(v["agreeing"]) for v in votes.values())
    assert all(v["confidence"] == len(v["agreeing"]) / 4 for v in votes.values())


def _rows(step: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    shards = sorted(step.glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    started = time.monotonic()
    assert launch(_SMALL, [], finished, _silent).was_finished
    assert time.monotonic() - started < 3
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


@pytest.mark.slow
def test_killed_twice_and_resumed_equals_uninterrupted(finished: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    run_killed(_SMALL, killed, [], [6.0, 9.0])
    assert differences(finished, killed) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        ["iterations=2", "formats.deduplicate=true", "keep.max_per_question=2"],
        ["questions={count: 64, seeds: 10, min_confidence: 0.25}", "data.train_limit=10"],
        ["exemplars={sets: 2, shots: 2, max_tokens: 64}", "restart=false"],
        ["student=tinier", "formats.use=[standard,direct]"],
    ],
    ids=["rounds", "own questions", "own exemplars", "distillation"],
)
def test_every_switch_runs_to_the_end(switches: list[str], tmp_path: Path) -> None:
    small = ["controls=[]", "data.ood=[]", "evaluation.modes=[cot]", *switches]
    root = launch(_SMALL, small, tmp_path / "run", _silent).root
    assert json.loads((root / "summary.json").read_text())["headline"]["n"] == 24


def test_a_dry_run_lists_the_steps_and_makes_nothing(tmp_path: Path) -> None:
    plan = plan_recipe(_SMALL, [], tmp_path / "run")
    assert {s.state for s in plan.steps} == {"to do"}
    (drawn,) = [s.tokens_sampled for s in plan.steps if s.name == "round-1-paths"]
    assert drawn == 48 * 4 * 64
    assert plan.needs.memory_bytes is not None
    assert plan.needs.disk_bytes is not None
    assert plan.needs.memory_bytes > 15_000_000  # a million parameters under Adam
    # Three trained models in float32 and in bfloat16, two checkpoints of 12 bytes a parameter.
    assert plan.needs.disk_bytes > 967_808 * (3 * (4 + 2) + 2 * 12)
    assert not plan.root.exists()


def test_control_arms_may_be_asked_in_fewer_ways_and_the_dry_run_counts_them_so(
    tmp_path: Path,
) -> None:
    asked = ["evaluation.modes=[standard,cot,self_consistency]", "evaluation.votes=8"]
    plan = plan_recipe(_SMALL, [*asked, "evaluation.control_modes=[cot]"], tmp_path / "run")
    tokens = {s.name: s.tokens_sampled for s in plan.steps}
    assert tokens["eval-base"] == tokens["eval-round-1"] == 10 * tokens["eval-unfiltered"]
    with pytest.raises(ConfigError, match="control_modes must hold cot"):
        plan_recipe(_SMALL, ["evaluation.control_modes=[standard]"], tmp_path / "run")


@pytest.mark.slow
def test_control_arms_that_are_asked_in_fewer_ways_are_and_the_report_is_written(
    tmp_path: Path,
) -> None:
    fewer = ["controls=[unfiltered]", "data.ood=[]", "evaluation.control_modes=[cot]"]
    root = launch(_SMALL, fewer, tmp_path / "run", _silent).root
    asked = {
        name: {row["mode"] for row in _rows(root / f"eval-{name}")}
        for name in ("base", "round-1", "unfiltered")
    }
    every = {"standard", "cot", "self_consistency"}
    assert asked == {"base": every, "round-1": every, "unfiltered": {"cot"}}
    told = figures(root)["controls"]
    rows = {
        arm["arm"]: dict(zip(told["columns"], arm["cells"], strict=True)) for arm in told["arms"]
    }
    measured = {name: {c for c, cell in cells.items() if cell} for name, cells in rows.items()}
    assert measured["unfiltered"] == {"chain of thought, accuracy"}
    assert measured["round-1"] == set(told["columns"]) > measured["unfiltered"]
    page = write([root], tmp_path / "report.html").read_text()
    assert 'id="run-1-controls"' in page


def test_a_dry_run_fetches_no_model(tmp_path: Path) -> None:
    plan = plan_recipe(_SMALL, ["model=some/model-on-the-hub"], tmp_path / "run")
    assert plan.needs.stages == ()
    assert sum(step.tokens_trained for step in plan.steps) > 0


@pytest.mark.slow
def test_without_dev_the_gate_holds_training_questions_back(tmp_path: Path) -> None:
    small = ["data.dev=[]", "data.ood=[]", "controls=[]", "evaluation.modes=[cot]"]
    root = launch(_SMALL, small, tmp_path / "run", _silent).root
    (told,) = json.loads((root / "summary.json").read_text())["gate"]
    assert (told["set"], told["n"]) == ("held-back training questions", 12)
    apart = {r["question_id"] for r in _rows(root / "gate-base")}
    assert len(apart) == 12
    assert not apart & {r["question_id"] for r in _rows(root / "round-1-paths")}
    assert len(_rows(root / "round-1-votes")) == 48 - 12
    check_bounds(_SMALL, small, root)


@pytest.mark.slow
def test_a_control_arm_is_added_to_a_finished_run_and_nothing_is_made_anew(tmp_path: Path) -> None:
    small = ["data.ood=[]", "evaluation.modes=[cot]"]
    root = launch(_SMALL, [*small, "controls=[]"], tmp_path / "run", _silent).root
    before = {p: p.read_bytes() for p in root.glob("*/done.json")}
    assert not launch(_SMALL, [*small, "controls=[unfiltered]"], root, _silent).was_finished
    assert before == {p: p.read_bytes() for p in before}
    arms = json.loads((root / "summary.json").read_text())["arms"]
    assert [arm["name"] for arm in arms] == ["base", "round-1", "unfiltered"]
