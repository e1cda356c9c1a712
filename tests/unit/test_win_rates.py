"""Arms under a judge that compares and gives no points: win rates that can be counted by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from selfimprove.config import load
from selfimprove.errors import ConfigError, DataError
from selfimprove.evaluation import meetings, promotion, response_board
from selfimprove.evaluation.head_to_head import HeadToHead, head_to_head
from selfimprove.evaluation.open_prompts import ResponsesConfig
from selfimprove.evaluation.promotion import Gate
from selfimprove.evaluation.response_board import ResponseArm
from selfimprove.evaluation.self_rewarding_board import SelfRewardingBoard
from selfimprove.evaluation.win_rates import mirrored
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.report.figures import figures
from selfimprove.report.page import write
from selfimprove.rows import Batch
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.served import Served
from selfimprove.store import Run
from selfimprove.terminal import show_outcome
from selfimprove.types import Draw, ModelRef, Outcome, Prompt, Response, UserPrompt, Verdict

PROMPTS = 6
ENGINE = EngineConfig(chat=True)


@dataclass
class Judge:
    """Prefers what holds more GOOD, as people would; `biased`: whatever it is shown first."""

    biased: bool = False
    asked: int = 0

    identity: ClassVar[dict[str, str]] = {"engine": "fake"}

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        for prompt in prompts:
            self.asked += 1
            text = prompt.content if isinstance(prompt.content, str) else prompt.content[0].content
            yield Draw(prompt.key, 0, f"Better: {self._choice(text)}", "stop", 1, 1)

    def _choice(self, text: str) -> str:
        if self.biased:
            return "A"
        first, second = text.split("Response A: ")[1].split("Response B: ")
        ahead = first.count("GOOD") - second.count("GOOD")
        return "A" if ahead > 0 else "B" if ahead < 0 else "tie"

    def close(self) -> None:
        """Nothing to give back."""


def said(
    chunks: Sequence[Sequence[UserPrompt]],
    by: Served,
    sampling: SamplingConfig,
    seed: int,
) -> Iterator[Batch[Response]]:
    """Answer as the model's name says: 'm2:4' is good on the first four prompts."""
    good = int(by.model.name.partition(":")[2] or 0)
    for chunk in chunks:
        yield Batch([
            Response(p.id, p.text, i, "GOOD" if int(p.id.rsplit("-", 1)[1]) < good else "so so",
                     "stop", 2)
            for p in chunk
            for i in range(sampling.n)
        ])  # fmt: skip


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    found = Judge()
    monkeypatch.setattr(served, "open_engine", lambda _folder, _config: found)
    for module in (response_board, promotion):
        monkeypatch.setattr(module, "respond", said)
    return found


def model(name: str) -> ModelRef:
    return ModelRef(name, f"/{name}", name)


def as_it_is(_name: str, trained: ModelRef) -> ModelRef:
    """Round nothing."""
    return trained


def config(draws: int = 1, **further: Any) -> ResponsesConfig:
    tree = {
        "prompts": {"format": "tiny", "source": "test", "limit": PROMPTS}, "draws": draws,
        "judge": {"kind": "pairwise", "model": "tiny", "votes": 1, "temperature": 0},
        "shard_prompts": 4,
    }  # fmt: skip
    return load(ResponsesConfig, tree | further, "test")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with closing(Run(tmp_path / "run")) as made:
        yield made


@pytest.fixture
def board(run: Run, judge: Judge) -> Callable[[int], SelfRewardingBoard]:
    """Measure sft and m1 (nothing good), m2 (good on 4 of 6), m3 (good on 3) and a control."""

    def measured(draws: int) -> SelfRewardingBoard:
        run.write("recipe.json", {"method": "self_rewarding", "model": "tiny", "seed": 0})
        made = SelfRewardingBoard(run, config(draws), as_it_is)
        made.measure("sft", model("sft"), "baseline")
        made.measure("m1", model("m1"), "base")
        made.measure("m2", model("m2:4"), "method", parent=model("m1"), round_number=1)
        made.measure("random-judge", model("random:1"), "control", parent=model("m1"))
        made.measure("m3", model("m3:3"), "method", parent=model("m2:4"), round_number=2)
        return made

    return measured


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_a_pairwise_judge_compares_each_arm_with_the_arm_before_it(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path, draws: int
) -> None:
    board(draws).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    told = figures(tmp_path / "run")
    rates = {row["arm"]: (row["against"], row["value"]) for row in told["win_rates"]}
    assert rates == {
        "m1": ("sft", 0.5),  # six ties
        "m2": ("m1", pytest.approx((4 + 2 / 2) / 6)),
        "random-judge": ("m1", pytest.approx((1 + 5 / 2) / 6)),
        "m3": ("m2", pytest.approx((0 + 5 / 2) / 6)),  # worse on the fourth, a tie elsewhere
    }
    assert {row["n"] for row in told["win_rates"]} == {PROMPTS}
    assert {h["n"] for h in told["head_to_head"]} == {PROMPTS * draws}


def test_the_headline_is_the_win_rate_over_where_the_method_started(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path
) -> None:
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    head = figures(tmp_path / "run")["headline"]
    assert (head["metric"], head["unit"], head["arm"]) == ("win rate against m1", "wins", "m3")
    assert head["after"] == pytest.approx((3 + 3 / 2) / 6)
    assert head["difference"] == pytest.approx(0.25)
    assert "is 75.0%, +25.0 points from an even match" in head["sentence"]
    assert "6 prompts" in head["sentence"]


def test_the_command_line_states_the_win_rate(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    (tmp_path / "run" / "finished.json").write_text('{"model": "m3/model"}')
    show_outcome(tmp_path / "run", was_finished=False)
    said = capsys.readouterr().out
    assert "m3: win rate against m1 on 6 held-out prompts: 75.0% (+25.0 points from an even" in said


def test_a_run_that_kept_its_base_is_an_even_match(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path
) -> None:
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m1")
    head = figures(tmp_path / "run")["headline"]
    assert (head["after"], head["difference"], head["n"]) == (0.5, 0.0, PROMPTS)


def test_a_win_that_one_order_alone_sees_is_a_tie(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path, judge: Judge
) -> None:
    judge.biased = True
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    assert {row["value"] for row in figures(tmp_path / "run")["win_rates"]} == {0.5}


def test_each_two_arms_are_judged_and_compared_once_and_in_both_orders(
    board: Callable[[int], SelfRewardingBoard], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counter[tuple[str, str]]()

    def counting(*outcomes: Any, **told: Any) -> HeadToHead:
        counted[told["first"], told["second"]] += 1
        return head_to_head(*outcomes, **told)

    monkeypatch.setattr(meetings, "head_to_head", counting)
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    assert len(counted) == 6 + 2
    assert set(counted.values()) == {1}
    # Six pairs of sft, m1, m2, m3; the control against its start and against m2.
    assert judge.asked == (6 + 2) * PROMPTS * 2


def test_the_page_speaks_of_win_rates_and_of_no_points(
    board: Callable[[int], SelfRewardingBoard], tmp_path: Path
) -> None:
    board(1).summarise("self_rewarding", "Self-Rewarding", "tiny", last="m3")
    told = figures(tmp_path / "run")
    assert told["scores"] is None
    assert told["accuracy"] is None
    assert told["responses"]["total"] == PROMPTS
    page = write([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert 'id="run-1-win_rates"' in page
    assert "Mean score" not in page


@pytest.mark.usefixtures("judge")
def test_the_gate_of_a_pairwise_judge_compares_the_child_with_its_parent(run: Run) -> None:
    asked = config(validation={"format": "tiny", "source": "dev", "limit": PROMPTS})
    by = JudgeConfig(kind="pairwise", votes=1, temperature=0)
    gate = Gate(run, asked, by, as_it_is)
    children = [("step-20", model("step:2")), ("m2", model("m2:5"))]
    decision = gate.decide(("m1", model("m1:3")), children)
    assert [t.win_rate for t in decision.tried] == pytest.approx([2.5 / 6, 4 / 6])
    assert (decision.chosen, decision.promoted) == ("m2", True)
    assert decision.reason == "m2 is not worse than m1 by m1's own judgement: 2 won, 0 lost, 4 tied"
    worse = gate.decide(("m2", model("m2:5")), [("m3", model("m3:4"))])
    assert not worse.promoted


def test_the_other_side_of_an_outcome_has_the_rest_of_the_win() -> None:
    one = Outcome("a", "p", 1.0, None, 3, 8)
    silent = Outcome("b", "p", None, "no choice", 3, 8)
    assert mirrored([one, silent]) == [
        Outcome("a", "p", 0.0, None, 8, 3), Outcome("b", "p", None, "no choice", 8, 3)
    ]  # fmt: skip


def test_a_judge_that_never_chooses_stops_the_run_at_the_first_comparison(
    board: Callable[[int], SelfRewardingBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "_choice", lambda _self, _text: "neither")
    with pytest.raises(DataError, match=r"m1 against sft: none of 6 matches was judged"):
        board(1)


@pytest.mark.usefixtures("judge")
def test_a_judge_that_gives_no_points_stops_the_run_at_the_first_arm(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "open_engine", lambda _folder, _config: Judge(biased=True))
    points = config(judge={"kind": "rubric", "model": "tiny", "votes": 1, "temperature": 0})
    board = SelfRewardingBoard(run, points, as_it_is)
    with pytest.raises(DataError, match="none of the responses of sft was scored by the rubric"):
        board.measure("sft", model("sft"), "baseline")


def test_a_judge_that_takes_part_in_the_run_is_still_refused() -> None:
    with pytest.raises(ConfigError, match="measures itself measures nothing"):
        config(judge={"kind": "pairwise", "model": "self"})


def test_what_is_missing_for_measuring_ends_a_run_before_the_first_token(run: Run) -> None:
    for missing in ("validation", "judging"):
        asked = config(1, **{missing: "oasst:missing.jsonl"})
        with pytest.raises(DataError, match=r"missing\.jsonl"):
            SelfRewardingBoard(run, asked, as_it_is).prepare()


def test_validation_prompts_that_are_reported_choose_no_model(run: Run) -> None:
    same = config(validation={"format": "tiny", "source": "test", "limit": PROMPTS})
    with pytest.raises(DataError, match=r"each of its 6 prompts is one of evaluation\.prompts"):
        SelfRewardingBoard(run, same, as_it_is).prepare()


def test_half_reported_validation_prompts_leave_the_other_half(tmp_path: Path, run: Run) -> None:
    more = config(validation={"format": "tiny", "source": "test", "limit": 2 * PROMPTS})
    SelfRewardingBoard(run, more, as_it_is).prepare()
    funnels = json.loads((tmp_path / "run" / "validation-prompts" / "done.json").read_text())
    assert (funnels["funnels"][0]["given"], funnels["funnels"][0]["kept"]) == (12, 6)


@pytest.mark.parametrize(
    ("judge", "highest"),
    [
        ({"kind": "reward_model", "model": "folder"}, None),
        ({"kind": "rubric", "model": "folder", "prompt": "multiple_choice"}, 5),
    ],
)
def test_a_headline_speaks_of_a_scale_only_where_there_is_one(
    tmp_path: Path, judge: dict[str, str], highest: int | None
) -> None:
    config = ResponsesConfig.model_validate({"prompts": "prompts.jsonl", "judge": judge})
    run = Run(tmp_path / "run", lambda _line: None)
    board = SelfRewardingBoard(run, config, lambda _, model: model)
    asked = run.rows("asked", _one_response)
    truth = (Verdict("p", 0, 0, 2.0, None, ""),)
    model = ModelRef("m", "m", "")
    arm = ResponseArm("m1", "base", 0, model, model, None, None, asked, truth)
    board.arms.append(arm)
    assert board._headline(arm, arm, board.by_prompt())["highest"] == highest
    run.close()


def _one_response() -> list[Response]:
    return [Response("p", "Why?", 0, "So.", "stop", 2)]
