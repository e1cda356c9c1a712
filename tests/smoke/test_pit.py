"""PIT from end to end on the shipped model, on a handful of preferences."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.smoke.dry_runs import check_bounds
from tests.smoke.killing import differences, run_killed
from tests.smoke.random_model import random_qwen2
from typer.testing import CliRunner

from selfimprove.cli import app
from selfimprove.errors import ConfigError, DataError, EngineError, StaleStepError
from selfimprove.report.page import write
from selfimprove.runtime.launch import launch, read_config
from selfimprove.tiny.truth import right_parts
from selfimprove.training.export import stored_dtype
from selfimprove.types import Message
from selfimprove.weights import weights_digest

Find = Callable[[str], Path]

_SMALL = Path(__file__).parent / "small-pit.yaml"
_RECIPES = Path(__file__).parents[2] / "recipes"


def _silent(_line: str) -> None:
    """Announce nothing."""


def _rows(step: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    shards = sorted(step.glob("*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pit") / "run"
    launch(_SMALL, [], root, _silent)
    return root


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((finished / "summary.json").read_text())
    return told


@pytest.mark.slow
def test_a_run_measures_chains_controls_baselines_and_ablations(summary: dict[str, Any]) -> None:
    names = [a["name"] for a in summary["arms"]]
    assert names == [
        "policy-sft", "policy-sft-again", "policy-rl", "policy-rl-again", "pit-y1", "pit-y2",
        "pit-stopped", "pit-on-rl-y1", "pit-on-rl-y2", "supervised-only-y1", "first-round-only-y1",
        "second-round-only-y1", "gap-difference-y1", "best-of-2", "self-refine-y1",
    ]  # fmt: skip
    assert summary["headline"]["arm"] == "pit-y2"
    pairs = len(names) * (len(names) - 1) // 2
    assert len(summary["pairs_of_systems"]) == 2 * pairs  # by R_P, and by the oracle
    for told in summary["pairs_of_systems"]:
        assert told["win"] + told["tie"] + told["lose"] == pytest.approx(1)
        assert told["difference"] == pytest.approx(told["win"] - told["lose"])
    assert [row["name"] for row in summary["ablations"]] == [
        "pit", "supervised-only", "first-round-only", "second-round-only", "gap-difference",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_measures_whether_the_reference_is_read(
    finished: Path, summary: dict[str, Any]
) -> None:
    told = summary["reads_reference"]
    assert (told["prompts"], told["parts"], len(told["examples"])) == (4, "right parts", 4)
    assert sum(share["value"] for share in told["gaps"].values()) == pytest.approx(1)
    assert (
        told["gaps"]["interaction"]["n"]
        == told["information"]["n"]
        == told["placebo_right"]["n"]
        == 4
    )
    of = told["examples"][0]
    for side in of["sides"]:
        was, now = (right_parts(of["prompt"], side[text]) for text in ("reference", "improved"))
        parts = {name: set(side["parts"][name]) for name in ("kept", "repaired", "broken")}
        assert parts == {"kept": was & now, "repaired": now - was, "broken": was - now}
    grid = _rows(finished / "reference-use-grid")
    assert len(grid) == 4 * 3 * 3
    # The same random numbers, whichever reference is shown: what is equal is equal for that reason alone.
    asked = {w: _rows(finished / f"reference-use-{w}-asked") for w in ("own", "other", "placebo")}
    assert asked["own"] != asked["other"] != asked["placebo"]


@pytest.mark.slow
def test_nothing_that_is_measured_on_was_learnt_from(finished: Path) -> None:
    learnt = {json.dumps(r["prompt"]) for r in _rows(finished / "preferences")}
    held_out = {json.dumps(r["turns"]) for r in _rows(finished / "held-out-prompts")}
    assert held_out
    assert not learnt & held_out


@pytest.mark.slow
def test_rounds_improve_on_what_the_paper_says(finished: Path) -> None:
    fold = _rows(finished / "rl-fold")
    first = [r["reference"] for r in _rows(finished / "first-round-tasks")]
    assert first == [text for p in fold for text in (p["rejected"], p["chosen"])]
    drawn = {r["prompt_id"]: r["text"] for r in _rows(finished / "references")}
    second = _rows(finished / "second-round-tasks")
    assert [drawn[r["id"]] for r in second] == [r["reference"] for r in second]


@pytest.mark.slow
def test_references_come_from_the_policy_whose_responses_are_improved(finished: Path) -> None:
    def model(step: str) -> str:
        told = json.loads((finished / step / "step.json").read_text())["inputs"]["model"]
        return str(told["model"])

    assert json.loads((finished / "recipe.json").read_text())["start"] == "sft"
    assert model("references") == "tiny + policy-sft"
    assert model("policy-sft-responses").startswith(model("references"))  # as it is exported


@pytest.mark.slow
def test_a_stopped_chain_goes_on_only_while_the_gap_reward_says_gain(finished: Path) -> None:
    def of(step: str) -> dict[tuple[str, int], Any]:
        return {(r["prompt_id"], r["index"]): r for r in _rows(finished / step)}

    ends = [of("policy-sft-responses"), of("pit-y1-responses"), of("pit-y2-responses")]
    gains = [of("pit-y1-gains"), of("pit-y2-gains")]
    for (prompt, index), found in of("pit-stopped-responses").items():
        held = ends[0][prompt, index]
        for told, after in zip(gains, ends[1:], strict=True):
            gain = told[prompt, index]["gap"] - told[prompt, index]["still"]
            new = after[prompt, index]
            ended, had_ended = (r["finish"] == "stop" for r in (new, held))
            if not (ended if ended != had_ended else gain > 0):
                break
            held = new
        assert found["text"] == held["text"]


@pytest.mark.slow
def test_the_report_shows_curves_chains_ablations_and_the_gap_reward(finished: Path) -> None:
    page = write([finished], finished / "report.html").read_text()
    for anchor in ("improvement", "ablations", "gap_model", "curriculum", "head_to_head"):
        assert f'id="run-1-{anchor}"' in page
    assert "references from M_P" in page
    assert "<ins>" in page


@pytest.mark.slow
def test_killed_twice_and_resumed_equals_uninterrupted(finished: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    run_killed(_SMALL, killed, [], [8.0, 14.0])
    assert differences(finished, killed) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "switches",
    [
        [
            "rounds=second",
            "evaluation.preferences=[]",
            "evaluation.scorer=reward",
            "engine.chat=false",
            "evaluation.judge={kind: random, votes: 1}",
            "ablations=[placebo_reference, placebo_throughout, reference_dropout, two_references, balanced_contrasts]",
        ],
    ],
)
def test_every_switch_runs_to_the_end(switches: list[str], tmp_path: Path) -> None:
    small = ["baselines={best_of_n: null, self_refine: null}",
             "evaluation.temperatures=[]", "improve.steps=1"]  # fmt: skip
    launch(_SMALL, [*switches, *small], tmp_path / "run", _silent)
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["headline"]["arm"] == "pit-y1"
    assert "placebo-reference-y1" in {arm["name"] for arm in told["arms"]}
    of = {name: {t["of"]: t["reference"] for t in _rows(tmp_path / "run" / f"second-round-{name}")}
          for name in ("tasks", "placebos")}  # fmt: skip
    assert of["tasks"].keys() == of["placebos"].keys()
    assert sorted(of["tasks"].values()) == sorted(of["placebos"].values())
    assert all(of["tasks"][prompt] != of["placebos"][prompt] for prompt in of["tasks"])


@pytest.mark.slow
def test_improve_streams_chains_as_json_and_as_a_table(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "How can Ben make tea with jars?"},
            {"id": "mine", "messages": [{"role": "user", "content": "Write about a owl."}],
             "response": "The owl."}]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))

    def said(*words: str, given: str = "") -> str:
        done = CliRunner().invoke(app, ["improve", str(finished), *words], input=given)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    first, second = (json.loads(line) for line in said(str(file), "--json").splitlines())
    assert [link["step"] for link in first["chain"]] == [0, 1, 2]
    assert first["chain"][0]["gap"] is None
    assert all(isinstance(link["gap"], float) for link in first["chain"][1:])
    assert (second["id"], second["chain"][0]["response"]) == ("mine", "The owl.")
    table = said(str(file), "--steps", "1", "--limit", "1")
    assert "How can Ben make tea with jars?" in table
    assert "y1" in table
    assert "y2" not in table
    assert "y2" in said("temperature=0.3", given="Write about a owl.\n\n")


@pytest.mark.slow
def test_improve_names_a_prompt_that_is_too_long_and_draws_by_its_id(finished: Path) -> None:
    from selfimprove.methods.pit.improve import Improver, Item

    items = [Item.said(name, f"Write about a {name}.") for name in ("owl", "hen", "cat")]
    with closing(Improver.of_run(finished, {"steps": 1})) as improver:
        forth, back = (
            {c.id: c.responses for c in improver.chains(order, stop=False, seed=0)}
            for order in (items, items[::-1])
        )
        assert forth == back
        long = Item.said("essay", "Write about a owl. " * 100)
        with pytest.raises(EngineError, match="prompt 'essay#0' has"):
            list(improver.chains([*items, long], stop=False, seed=0))


@pytest.mark.slow
def test_a_served_run_answers_with_the_end_of_its_chain(finished: Path) -> None:
    pytest.importorskip("fastapi")
    from selfimprove.sampling.engine import SamplingConfig
    from selfimprove.serve.asks import Ask, Line
    from selfimprove.serve.protocol import Improve
    from selfimprove.serve.served_models import Models
    from selfimprove.serve.ways import answered

    turns, line = (Message("user", "Write about a owl."),), Line()

    def told(key: str, **improve: Any) -> Any:
        ask = Ask(key, turns, SamplingConfig(max_tokens=24), Improve.model_validate(improve))
        (answer,) = answered(models, ask, line)
        return answer

    with closing(Models.of(str(finished), {})) as models:
        chain = told("a", method="pit", steps=2)
        assert [link["step"] for link in chain.told["chain"]] == [0, 1, 2]
        assert chain.text == chain.told["chain"][-1]["response"]
        assert 3 <= line.new_tokens <= 3 * 24
        best = told("c", method="best_of_n", n=2)
        assert best.told["by"] == "reward model"
        scores = best.told["scores"]
        assert len(scores) == 2


def test_improve_refuses_two_prompts_of_one_name(tmp_path: Path) -> None:
    from selfimprove.methods.pit.improve import read_items

    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n')
    with pytest.raises(DataError, match=r"line 2: the id 'x' was there before"):
        read_items(file)


def test_improve_refuses_what_is_no_finished_pit_run(tmp_path: Path) -> None:
    from selfimprove.methods.pit.improve import Improver

    with pytest.raises(ConfigError, match="no finished run"):
        Improver.of_run(tmp_path, {})
    (tmp_path / "finished.json").write_text("{}")
    (tmp_path / "recipe.json").write_text('{"method": "lmsi"}')
    with pytest.raises(ConfigError, match="only PIT learns to improve"):
        Improver.of_run(tmp_path, {})


@pytest.mark.slow
def test_policies_and_reward_models_leave_the_run_rounded_once(finished: Path) -> None:
    trained = ("policy-sft", "policy-rl", "pit-sft", "pit-rl-1", "pit-rl-2", "reward-model",
               "gap-reward-model")  # fmt: skip
    assert {stored_dtype(finished / step / "model") for step in trained} == {"float32"}
    rounded = {f.parent.name: stored_dtype(f) for f in finished.glob("*-export/model")}
    assert set(rounded.values()) == {"bfloat16"}
    # A reinforcement learning that keeps its start makes no new model, and none that is rounded anew.
    kept = {"policy-rl-export", "pit-export", "first-round-only-export",
            "second-round-only-export", "gap-difference-export"}  # fmt: skip
    always = {"policy-sft-export", "pit-sft-export", "reward-model-export",
              "gap-reward-model-export"}  # fmt: skip
    assert always <= rounded.keys() <= always | kept
    found = json.loads((finished / "pit-y1-gains" / "step.json").read_text())
    gap_model = finished / "gap-reward-model-export" / "model"
    assert found["inputs"]["model"]["weights"] == weights_digest(gap_model)
    learned = json.loads((finished / "pit-rl-1" / "step.json").read_text())
    exact = finished / "gap-reward-model" / "model"
    assert learned["inputs"]["reward"]["weights"] == weights_digest(exact)


@pytest.mark.slow
def test_a_dry_run_tells_every_step_and_bounds_its_cost(finished: Path) -> None:
    check_bounds(_SMALL, [], finished)


@pytest.mark.slow
def test_a_reward_of_ones_own_takes_the_place_of_the_reward_model(tmp_path: Path) -> None:
    code = tmp_path / "rewards.py"
    code.write_text("def short(prompts, responses):\n    return [-len(r) for r in responses]\n")
    own = [f"reward_function={code}:short", "gap=difference", "ablations=[]", "rounds=first",
           "baselines={best_of_n: 2, self_refine: null}", "evaluation.temperatures=[]",
           "evaluation.reference_use=null", "improve.steps=1"]  # fmt: skip
    root = launch(_SMALL, own, tmp_path / "run", _silent).root
    check_bounds(_SMALL, own, root)
    told = {(r["prompt_id"], r["index"]): r["score"] for r in _rows(root / "pit-y1-rewards")}
    texts = {(r["prompt_id"], r["index"]): r["text"] for r in _rows(root / "pit-y1-responses")}
    assert told == {key: -len(text) for key, text in texts.items()}
    before = {(r["prompt_id"], r["index"]): r["text"] for r in _rows(root / "policy-sft-responses")}
    for gain in _rows(root / "pit-y1-gains"):
        key = gain["prompt_id"], gain["index"]
        assert (gain["gap"], gain["still"]) == (len(before[key]) - len(texts[key]), 0)
    code.write_text(code.read_text().replace("-len", "len"))
    with pytest.raises(StaleStepError, match="function was"):
        launch(_SMALL, own, root, _silent)


@pytest.mark.parametrize("name", ["pit-hh-rlhf", "pit-keeps", "pit-paper", "pit-tiny"])
def test_shipped_recipes_are_valid(name: str) -> None:
    assert read_config(_RECIPES / f"{name}.yaml", []).method == "pit"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "evaluation.preferences=hh_rlhf:x.jsonl",
            "the oracle knows prompts of formats 'tiny' and 'keeps' alone",
        ),
        ("evaluation.scorer=judge", "judge needs evaluation.judge"),
        ("evaluation.judge={kind: rubric}", "takes no part in the run"),
        ("rounds=third", "rounds"),
        ("first_round.n=1", "first_round.n"),
        ("rounds=second", "second_round_only is the run itself"),
        ("gap=difference", "gap_difference is the run itself"),
        ("policy_rl.references=2", "M_P improves nothing"),
        ("first_round={n: 3, references: 2}", "parted evenly among references=2"),
        ("reference_dropout=1", "reference_dropout"),
        (
            "engine={kind: server, server: {command: [serve, '{port}'], adapters: true}}",
            "policy_rl: engine.server.adapters: the server can be given adapters",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_the_reason(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(_SMALL, [override])


@pytest.mark.slow
def test_the_hh_rlhf_recipe_runs_on_real_transcripts(shared_data: Find, tmp_path: Path) -> None:
    model = random_qwen2(tmp_path / "random-qwen2")
    harmless = sorted(shared_data("hh_rlhf").rglob("*.jsonl*"))[0]
    rl = "{learning_rate: 1.0e-4, batch_size: 2, n: 2, max_steps: 2, try_every: 2, lora: {r: 4}}"
    small = [
        f"model={model}",
        f"preferences={{format: hh_rlhf, source: {harmless}, limit: 60}}",
        "evaluation.preferences=[]",
        "evaluation.held_out=0.2",
        "evaluation.prompts=4",
        "evaluation.temperatures=[]",
        "max_prompt_tokens=300",
        "max_response_tokens=120",
        "sft.max_steps=2",
        "sft.batch_size=2",
        "reward.max_steps=2",
        "reward.batch_size=2",
        *(f"{name}={rl}" for name in ("policy_rl", "first_round", "second_round")),
        "validation_prompts=2",
        "improve.steps=2",
        "ablations=[]",
        "baselines={best_of_n: 2, self_refine: 1, feedback_tokens: 16}",
        "engine.device=cpu",
    ]
    root = launch(_RECIPES / "pit-hh-rlhf.yaml", small, tmp_path / "run", _silent).root
    told = json.loads((root / "summary.json").read_text())
    assert told["gap_models"]["gap"]["preferences"] > 0
    assert {a["name"] for a in told["arms"]} >= {"policy-rl", "pit-y2", "self-refine-y1"}
