"""Self-Rewarding from end to end on the shipped model, on a handful of prompts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.smoke.dry_runs import check_bounds
from tests.smoke.killing import differences, run_killed
from tests.smoke.random_model import random_qwen2

from selfimprove.errors import ConfigError
from selfimprove.methods.self_rewarding.config import SelfRewardingConfig
from selfimprove.report.page import write
from selfimprove.runtime.launch import launch, plan_recipe, read_config

Find = Callable[[str], Path]

_SMALL = Path(__file__).parent / "small-self-rewarding.yaml"
_RECIPES = Path(__file__).parents[2] / "recipes"


def _silent(_line: str) -> None:
    """Announce nothing."""


def _rows(step: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    shards = sorted(step.glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("self-rewarding") / "run"
    launch(_SMALL, [], root, _silent)
    return root


@pytest.mark.slow
def test_a_run_measures_every_arm_judge_pair_and_round(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    names = [a["name"] for a in summary["arms"]]
    assert names == ["sft", "m1", "m2", "random-judge", "no-eft", "m3"]
    compared = {(h["first"], h["second"]) for h in summary["head_to_head"]}
    assert {("m3", "m2"), ("m3", "m1"), ("m3", "sft"), ("random-judge", "m1")} <= compared
    assert all(h["n"] == 48 for h in summary["head_to_head"])
    assert {c["arm"] for c in summary["judge_cards"]} == {"sft", "m1", "m2", "m3"}
    assert [p["round"] for p in summary["pairs"]] == [1, 2]
    assert [len(g["tried"]) > 1 for g in summary["gate"]] == [True, True]


@pytest.mark.slow
def test_lineage_names_the_parent_that_each_model_was_trained_from(finished: Path) -> None:
    lineage = {a["role"]: a for a in json.loads((finished / "lineage.json").read_text())}
    assert lineage["m2"]["parent"] == lineage["m1"]["digest"]
    assert lineage["control:no-eft"]["parent"] == lineage["sft"]["digest"]


@pytest.mark.slow
def test_pairs_hold_the_best_and_the_worst_of_what_the_model_itself_said(finished: Path) -> None:
    scores: dict[tuple[str, int], list[float]] = {}
    for v in _rows(finished / "m1-verdicts"):
        if v["score"] is not None:
            scores.setdefault((v["prompt_id"], v["index"]), []).append(v["score"])
    means = {k: sum(v) / len(v) for k, v in scores.items()}
    pairs = _rows(finished / "m1-pairs")
    assert pairs
    for pair in pairs:
        own = [m for (prompt, _), m in means.items() if prompt == pair["prompt_id"]]
        assert (pair["chosen_score"], pair["rejected_score"]) == (max(own), min(own))


@pytest.mark.slow
def test_no_own_prompt_is_a_held_out_one(finished: Path) -> None:
    held_out = {r["text"] for r in _rows(finished / "held-out-prompts")}
    own = [r["text"] for n in (1, 2) for r in _rows(finished / f"m{n}-prompts")]
    assert own
    assert not held_out & set(own)


@pytest.mark.slow
def test_the_report_of_a_run_shows_its_sections(finished: Path) -> None:
    page = write([finished], finished / "report.html").read_text()
    for anchor in ("scores", "head_to_head", "judge", "rounds", "responses"):
        assert f'id="run-1-{anchor}"' in page or f"-{anchor}" in page
    assert "of 5" in page


@pytest.mark.slow
def test_killed_twice_and_resumed_equals_uninterrupted(finished: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    run_killed(_SMALL, killed, [], [7.0, 11.0])
    assert differences(finished, killed) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        ["learn=positives", "iterations=1", "controls=[]"],
        ["judge={kind: pairwise, votes: 1, max_unscored: 1.0, max_tokens: 8, prompt: PAIRWISE}",
         "iterations=1", "controls=[]", "evaluation.judging=[]", "evaluation.validation=[]"],
        ["pairs={length_control: 0.3, per_prompt: 2}", "dpo.nll_alpha=1.0", "dpo.try_every=null",
         "prompts.writer=tiny", "iterations=1", "controls=[]"],
    ],
)  # fmt: skip
def test_every_switch_runs_to_the_end(switches: list[str], tmp_path: Path) -> None:
    short = tmp_path / "pairwise.yaml"
    short.write_text(
        "version: 1\nlowest: 0\nhighest: 1\n"
        'text: "{prompt}\\n{response}\\n{other}\\nBetter: A, B or tie?"\n'
    )
    switches = [s.replace("PAIRWISE", str(short)) for s in switches]
    if "pairwise" in switches[0]:
        with pytest.raises(Exception, match=r"no pair to train on"):
            launch(_SMALL, switches, tmp_path / "run", _silent)
        return
    launch(_SMALL, switches, tmp_path / "run", _silent)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["headline"]["arm"] in ("m1", "m2")


def test_a_dry_run_lists_the_steps_and_runs_nothing(tmp_path: Path) -> None:
    plan = plan_recipe(_SMALL, [], tmp_path / "run")
    names = [s.name for s in plan.steps]
    assert names.index("m1-candidates") < names.index("m1-verdicts") < names.index("m2-model")
    assert all(s.tokens_sampled for s in plan.steps if s.name.endswith("-candidates"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_dry_run_tells_every_step_and_bounds_its_cost(finished: Path) -> None:
    check_bounds(_SMALL, [], finished)


@pytest.mark.parametrize("name", ["self-rewarding-8b", "self-rewarding-paper"])
def test_shipped_recipes_are_valid(name: str) -> None:
    config = read_config(_RECIPES / f"{name}.yaml", [])
    assert isinstance(config, SelfRewardingConfig)
    # Judge quality is half of what the method promises; it is measured on what no seed is taken from.
    seeds = {s.source for s in (*config.seeds.ift, *config.seeds.eft, *config.seeds.ranked)}
    judging = {s.source for s in config.evaluation.judging}
    assert judging
    assert not judging & seeds


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.scorer=judge", "a model that measures itself measures nothing"),
        (
            "evaluation.prompts=alpaca_eval:x.json",
            "the oracle knows prompts of format 'tiny' alone",
        ),
        ("seeds.eft=[]", "no_eft says nothing"),
        ("judge.votez=2", "did you mean 'votes'"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_the_reason(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(_SMALL, [override])


@pytest.mark.slow
def test_the_8b_recipe_runs_on_real_conversations(shared_data: Find, tmp_path: Path) -> None:
    model = random_qwen2(tmp_path / "random-qwen2")
    trees = shared_data("oasst/en_tree.jsonl")
    prompts = shared_data("alpaca_eval/text_davinci_003_model_outputs.json")
    small = [
        f"model={model}",
        f"seeds.ift={{format: oasst, source: {trees}, limit: 20}}",
        f"seeds.ranked={{format: oasst, source: {trees}, limit: 12}}",
        f"evaluation.prompts={{format: alpaca_eval, source: {prompts}, limit: 4}}",
        f"evaluation.validation={{format: mt_bench, source: "
        f"{shared_data('mt_bench/question.jsonl')}, limit: 4}}",
        f"evaluation.judging={{format: oasst, source: {trees}, limit: 4}}",
        "evaluation.judge={kind: random, votes: 1}",
        "evaluation.max_tokens=16",
        "prompts.count=72",
        "prompts.max_tokens=160",
        "prompts.temperature=2.0",
        "prompts.top_p=1.0",
        "prompts.min_words=1",
        "prompts.rounds=1",
        "candidates.max_tokens=160",
        "judge.max_tokens=160",
        "judge.temperature=1.0",
        "judge.top_p=1.0",
        "judge.max_unscored=1.0",
        "sft.max_steps=2",
        "dpo.max_steps=2",
        "dpo.try_every=1",
        "sft.batch_size=4",
        "dpo.batch_size=4",
        "sft.max_length=1024",
        "engine.device=cpu",
        "iterations=1",
    ]
    root = launch(_RECIPES / "self-rewarding-8b.yaml", small, tmp_path / "run", _silent).root
    summary = json.loads((root / "summary.json").read_text())
    assert [a["name"] for a in summary["arms"]] == ["sft", "m1", "m2"]
    funnels = json.loads((root / "eft" / "done.json").read_text())["funnels"]
    assert funnels[0]["given"] == 12  # none of them a prompt of IFT or of the judging set
    of = {
        step: {row["prompt"] for row in _rows(root / step)}
        for step in ("ift-alone", "ranked-alone")
    }
    judged_on = {row["response"]["prompt"] for row in _rows(root / "judging-set")}
    assert [len(of["ift-alone"]), len(of["ranked-alone"]), len(judged_on)] == [20, 12, 4]
    assert len(of["ift-alone"] | of["ranked-alone"] | judged_on) == 36
    assert funnels[0]["kept"] + sum(d["count"] for d in funnels[0]["dropped"]) == 12


@pytest.mark.slow
def test_a_run_starts_and_stops_a_real_server_as_its_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="transformers[serving] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    program = Path(sys.executable).parent / "transformers"
    served = (
        f"judge.engine={{kind: server, chat: true, server: {{concurrency: 2, command: [{program}, "
        'serve, "{model}", --host, 127.0.0.1, --port, "{port}"]}}'
    )
    small = [
        served,
        "judge.votes=1",
        "judge.temperature=0",
        "prompts.count=8",
        "prompts.rounds=1",
        "candidates.n=2",
        "iterations=1",
        "controls=[]",
        "evaluation.judging=[]",
        "evaluation.validation=[]",
    ]
    launch(_SMALL, small, tmp_path / "run", _silent)
    verdicts = _rows(tmp_path / "run" / "m1-verdicts")
    assert len(verdicts) == 2 * len(_rows(tmp_path / "run" / "m1-prompts"))
    assert all(v["score"] is not None for v in verdicts)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert not [line for line in listed.stdout.splitlines() if f"{tmp_path}" in line]
