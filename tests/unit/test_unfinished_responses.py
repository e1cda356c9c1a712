"""Unfinished responses, place by place: never the winner, never imitated, the least in a mean, counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from selfimprove.answers.answers import read_draw
from selfimprove.answers.ballots import vote_each
from selfimprove.errors import EngineError
from selfimprove.evaluation.controls import kept_by_gold, unfiltered
from selfimprove.evaluation.counted import lowest_of, means, unfinished
from selfimprove.evaluation.head_to_head import matches
from selfimprove.evaluation.improvements_config import ImprovementsConfig
from selfimprove.evaluation.meetings import outcomes_of
from selfimprove.evaluation.open_prompts import ResponsesConfig
from selfimprove.evaluation.pit_board import PitBoard, System
from selfimprove.evaluation.response_board import ResponseArm, ResponseBoard
from selfimprove.evaluation.true_scores import oracle_scores
from selfimprove.evaluation.versus import compare_systems
from selfimprove.judges.judge import compare, judge, lowest_score, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.reward_rows import Scored
from selfimprove.methods.lmsi.config import KeepConfig
from selfimprove.methods.lmsi.low_resource import Written, new_questions
from selfimprove.methods.lmsi.plot import agreeing_paths
from selfimprove.methods.pit.baselines import best_of_each
from selfimprove.methods.pit.inference import finished_steps, wins
from selfimprove.methods.pit.tasks import Task, from_policy, split
from selfimprove.methods.self_rewarding.seeds import ReviewsConfig, agreeing_reviews, siblings
from selfimprove.rows import Rows
from selfimprove.sampling import served
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.served import Served
from selfimprove.types import (
    Draw,
    FinishReason,
    Labelled,
    Message,
    ModelRef,
    Prompt,
    Question,
    Ranked,
    ReasoningPath,
    Response,
    Verdict,
)

_MODEL = ModelRef("m", "m", "")
QUESTION = Question("q", "d", "How many?", "number")


def _responses(*finishes: FinishReason, text: str = "text", prompt: str = "p") -> list[Response]:
    return [Response(prompt, "Ask.", i, f"{text} {i}", f, 5) for i, f in enumerate(finishes)]


# ---- best-of-N


def test_best_of_n_takes_a_finished_response_before_the_best_unfinished_one():
    drawn = _responses("length", "stop", "stop", "length")
    scores = [Scored("p", i, s, None) for i, s in enumerate((9.0, 1.0, 2.0, 8.0))]
    (best,) = best_of_each(drawn, scores, 4)
    assert (best.text, best.finish) == ("text 2", "stop")


def test_best_of_n_of_cut_responses_alone_is_still_told_as_cut():
    scores = [Scored("p", i, s, None) for i, s in enumerate((1.0, 2.0))]
    (best,) = best_of_each(_responses("length", "length"), scores, 2)
    assert (best.text, best.finish) == ("text 1", "length")


# ---- chains and Self-Refine


def test_a_step_that_was_cut_off_leaves_the_response_as_it_was():
    old = _responses("stop", "stop", "length", "length", text="old")
    new = _responses("stop", "length", "stop", "length", text="new")
    made = finished_steps(old, new)
    assert [r.text for r in made.rows] == ["new 0", "old 1", "new 2", "new 3"]
    (funnel,) = made.funnels
    assert (funnel.given, funnel.kept) == (4, 2)
    assert [d.count for d in funnel.dropped] == [1, 1]


def test_a_finished_step_wins_against_an_unfinished_response_whatever_the_gap():
    assert wins(-1.0, 0.0, finished=True, was_finished=False)
    assert not wins(9.0, 0.0, finished=False, was_finished=True)
    assert wins(0.5, 0.0, finished=False, was_finished=False)


def test_the_second_round_improves_finished_responses_alone_and_counts_the_others():
    prompts = [Task(name, name, (Message("user", name),), None) for name in ("a", "b", "c")]
    ends: tuple[FinishReason, ...] = ("stop", "length", "stop")
    drawn = [r for p, f in zip("abc", ends, strict=True) for r in _responses(f, prompt=p)]
    made = from_policy(prompts, drawn)
    assert [t.id for t in made.rows] == ["a", "c"]
    assert [d.count for d in made.funnels[0].dropped] == [1]
    with pytest.raises(EngineError, match="1 of the 2 responses"):
        from_policy(prompts[:2], drawn[:2])


def test_two_tasks_are_one_to_learn_on_and_one_to_try():
    tasks = [Task(name, name, (), None) for name in ("a", "b")]
    learned, tried = split(tasks, 64)
    assert ([t.id for t in learned], [t.id for t in tried]) == (["b"], ["a"])


# ---- matches


def test_a_cut_response_loses_its_match_whatever_its_score():
    ours, theirs = _responses("length", "stop", "length"), _responses("stop", "length", "length")
    high, low = ({("p", i): s for i in range(3)} for s in (5.0, 1.0))
    told = outcomes_of(matches(ours, theirs), high, low)
    assert [o.preference for o in told] == [0.0, 1.0, 0.5]


def test_a_response_that_a_server_did_not_give_makes_no_match():
    (told,) = outcomes_of(
        matches(_responses("error"), _responses("stop")), {("p", 0): 1.0}, {("p", 0): 1.0}
    )
    assert (told.preference, told.unscored) == (None, "the server gave no response")


def test_an_output_in_a_file_whose_reasoning_never_ends_loses_every_match(tmp_path):
    def outputs(name: str, text: str) -> str:
        rows = [{"instruction": f"Ask {n}.", "output": text, "generator": name} for n in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        return str(tmp_path / f"{name}.json")

    files = outputs("open", "<think>Hm, what"), outputs("closed", "<think>Hm.</think>So.")
    told = compare_systems(*files, "random", [], prompts=None, limit=None, seed=0)
    assert (told["wins"], told["losses"], told["ties"]) == (0, 12, 0)


class PrefersFirst:
    """A judge that finds whatever it is shown as A the better one, and counts what it is asked."""

    identity: ClassVar[dict[str, str]] = {"engine": "fake"}
    asked: ClassVar[list[str]] = []

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        del seed
        for prompt in prompts:
            self.asked.append(prompt.key)
            for i in range(sampling.n):
                yield Draw(prompt.key, i, "Better: A", "stop", 1, 1)

    def close(self) -> None:
        pass


def test_a_pairwise_judge_is_not_asked_about_what_the_rule_settles(monkeypatch):
    PrefersFirst.asked.clear()
    monkeypatch.setattr(served, "open_engine", lambda *_: PrefersFirst())
    ours, theirs = _responses("stop", "stop", "length"), _responses("length", "stop", "stop")
    matched = matches(ours, theirs)
    chunks = [matched, matched[:1]]  # nothing to be asked in the second one
    config = JudgeConfig(kind="pairwise", model="elsewhere", votes=1)
    told = list(compare(chunks, Served(ModelRef("m", "m", ""), EngineConfig()), config, 0))
    assert [[o.preference for o in batch.rows] for batch in told] == [[1.0, 0.5, 0.0], [1.0]]
    assert {key.split("/")[0] for key in PrefersFirst.asked} == {"p#1"}


def test_among_candidates_too_a_cut_response_loses_unasked(monkeypatch):
    PrefersFirst.asked.clear()
    monkeypatch.setattr(served, "open_engine", lambda *_: PrefersFirst())
    config = JudgeConfig(kind="pairwise", votes=1)
    candidates = _responses("stop", "length", "stop", "length")
    (batch,) = judge([candidates], Served(ModelRef("m", "m", ""), EngineConfig()), config, 0)
    # Won, out of three: both cut ones and a tie; a tie between the cut ones.
    assert mean_scores(batch.rows) == {
        ("p", i): pytest.approx(won / 3) for i, won in enumerate((2.5, 0.5, 2.5, 0.5))
    }
    assert {key.split("/")[0] for key in PrefersFirst.asked} == {"p#0-2"}


@pytest.mark.parametrize("kind", ["random", "pairwise"])
def test_a_response_that_a_server_did_not_give_is_not_judged(monkeypatch, kind):
    PrefersFirst.asked.clear()
    monkeypatch.setattr(served, "open_engine", lambda *_: PrefersFirst())
    config = JudgeConfig(kind=kind, votes=1)
    candidates = _responses("stop", "error", "stop")
    (batch,) = judge([candidates], Served(ModelRef("m", "m", ""), EngineConfig()), config, 0)
    assert [(v.index, v.score is None) for v in batch.rows] == [(0, False), (1, True), (2, False)]
    assert batch.rows[1].unscored == "the server gave no response"
    assert not [key for key in PrefersFirst.asked if "1" in key.split("/")[0]]


# ---- means


def test_in_a_mean_a_cut_response_counts_the_least_of_all_systems():
    good, poor = _responses("stop", "length"), _responses("stop", "stop")
    ours, theirs = {("p", 0): 4.0, ("p", 1): 5.0}, {("p", 0): 2.0, ("p", 1): 3.0}
    lowest = lowest_of([(good, ours), (poor, theirs)])
    assert lowest == 2.0
    assert means(good, ours, lowest) == {"p": 3.0}  # (4 + 2) / 2
    assert unfinished(good) == 1


def test_the_servers_failures_are_left_out_of_a_mean():
    rows = _responses("stop", "error")
    assert means(rows, {("p", 0): 4.0, ("p", 1): 1.0}, 0.0) == {"p": 4.0}


def test_the_oracle_gives_a_cut_response_the_lowest_score_and_a_missing_one_none():
    told = oracle_scores(_responses("length", "error"))
    assert [(v.score, v.unscored) for v in told] == [
        (0.0, None),
        (None, "the server gave no response"),
    ]


def _board(config: dict[str, object]) -> ResponseBoard:
    """Two arms of one prompt: M1 finished both of its responses, M2 was cut off in one of them."""
    from selfimprove.config import load

    told = load(ResponsesConfig, {"prompts": ["tiny:test"], **config}, "recipe")
    board = ResponseBoard(cast("Any", None), told, cast("Any", None))
    model = ModelRef("m", "m", "")
    arms: tuple[tuple[str, FinishReason, tuple[float, float]], ...] = (
        ("m1", "stop", (1.0, 3.0)),
        ("m2", "length", (4.0, 5.0)),
    )
    for name, last, scores in arms:
        rows = Rows(tuple(_responses("stop", last)), "", Path(name))
        truth = tuple(Verdict("p", i, 0, s, None, "") for i, s in enumerate(scores))
        board.arms.append(ResponseArm(name, "method", 0, model, model, None, None, rows, truth))
    return board


@pytest.mark.parametrize(
    ("config", "mean"),
    [
        ({"scorer": "oracle"}, 2.0),  # (4 + 0) / 2: the scale begins at 0
        ({"judge": {"kind": "rubric", "model": "tiny"}}, 2.0),
        ({"judge": {"kind": "reward_model", "model": "x"}}, 2.5),  # (4 + 1) / 2: the least of both
    ],
)
def test_an_arms_mean_holds_its_cut_responses_as_the_least_and_says_how_many(config, mean):
    board = _board(config)
    m1, m2 = board.arms
    told = board.score_of(m2, m1, board.by_prompt())
    assert told is not None
    assert (told["value"], told["unfinished"], told["unanswered"]) == (mean, 1, 0)
    assert told["versus_base"]["difference"] == mean - 2.0
    assert board.against(m2, m1).as_dict()["wins"] == 1  # 4 over 1; the cut 5 loses to the 3
    assert board.against(m2, m1).as_dict()["losses"] == 1


def test_systems_of_pit_hold_their_cut_responses_as_the_least_reward_of_all():
    config = ImprovementsConfig(scorer="reward")
    board = PitBoard(cast("Any", None), config, ModelRef("r", "r", ""))
    ended: tuple[FinishReason, FinishReason] = ("stop", "stop")
    systems: tuple[tuple[str, tuple[FinishReason, FinishReason], tuple[float, float]], ...] = (
        ("y0", ended, (-1.0, 1.0)),
        ("y1", ("stop", "length"), (2.0, 9.0)),
    )
    for name, finishes, scores in systems:
        rows = Rows(tuple(_responses(*finishes)), "", Path(name))
        rewards = {("p", i): value for i, value in enumerate(scores)}
        board.arms.append(System(name, "method", 0, _MODEL, _MODEL, None, None, rows,
                                    {"reward": rewards}, None))  # fmt: skip
    y0, y1 = board.arms
    (told,) = board._scores(y1, y0, board._by_prompt())
    assert (told["value"], told["unfinished"]) == (0.5, 1)  # (2 - 1) / 2
    (pair,) = board._pairs()
    assert (pair["win"], pair["lose"]) == (0.5, 0.5)


def test_the_lowest_of_a_scale_is_the_judges_and_a_reward_has_none():
    assert lowest_score(JudgeConfig(model="tiny")) == 0.0
    assert lowest_score(JudgeConfig(kind="reward_model", model="folder")) is None


@pytest.mark.parametrize(
    ("told", "highest"),
    [
        ({"scorer": "reward"}, None),
        ({"scorer": "oracle", "preferences": ["tiny:test"]}, 5),
        ({"scorer": "judge", "judge": {"model": "tiny", "prompt": "ten.yaml"}}, 10),
        ({"scorer": "judge", "judge": {"kind": "reward_model", "model": "x"}}, None),
    ],
)
def test_a_headline_of_pit_names_the_end_of_its_scorers_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], highest: float | None
) -> None:
    words = "version: 1\nlowest: 1\nhighest: 10\ntext: 'Rate {response} to {prompt}.'\n"
    (tmp_path / "ten.yaml").write_text(words)
    monkeypatch.chdir(tmp_path)
    config = ImprovementsConfig(**told)
    board = PitBoard(cast("Any", None), config, ModelRef("r", "r", ""))
    rows = Rows(tuple(_responses("stop", "stop")), "", Path("y0"))
    scores = {("p", 0): 1.0, ("p", 1): 3.0}
    board.arms.append(System("y0", "base", 0, _MODEL, _MODEL, None, None, rows,
                                {told["scorer"]: scores}, None))  # fmt: skip
    (y0,) = board.arms
    assert board._headline(y0, y0, board._by_prompt())["highest"] == highest


# ---- what is imitated


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        ("4 + 4 = 8. The answer is 8.\n\nQ: How many", "stop"),  # cut behind its own end
        ("The answer is 8. So th", "stop"),
        ("The answer is 8 apples and pea", "length"),
    ],
)
def test_a_path_cut_behind_its_answers_sentence_is_finished_and_one_cut_within_is_not(text, finish):
    read = read_draw(Draw("q", 0, text, "length", 1, 1), QUESTION, "strict")
    assert (read.answer, read.finish) == ("8", finish)


def _paths() -> list[ReasoningPath]:
    finishes: tuple[FinishReason, ...] = ("stop", "length", "stop")
    return [
        ReasoningPath("q", i, f"path {i}", answer, finish, 5)
        for i, (answer, finish) in enumerate(zip(("8", "8", "9"), finishes, strict=True))
    ]


def test_a_path_that_was_cut_off_votes_but_is_not_learned_from():
    paths = _paths()
    made = agreeing_paths(paths, vote_each([QUESTION], paths), KeepConfig())
    assert [p.index for p in made.rows] == [0]
    assert {d.why: d.count for d in made.funnels[0].dropped} == {
        "cut off within its answer's sentence": 1,
        "outvoted": 1,
    }


def test_the_control_arms_leave_cut_paths_out_as_well():
    assert [p.index for p in unfiltered(_paths(), None).rows] == [0, 2]
    gold = kept_by_gold(_paths(), [Labelled(QUESTION, ("8",))], None)
    assert [p.index for p in gold.rows] == [0]
    assert [d.count for d in gold.funnels[0].dropped] == [1, 1]


def test_a_question_that_was_cut_off_is_none_and_is_counted():
    written = [
        Written("a", "How many?", "d", "number"),
        Written("b", "How much?", "d", "number", finish="length"),
    ]
    made = new_questions(written, [])
    assert [q.id for q in made.rows] == ["a"]
    assert [(d.why, d.count) for d in made.funnels[0].dropped] == [("cut off by max_tokens", 1)]


def test_a_verdict_that_was_cut_off_is_no_judging_example():
    ranked = [Ranked("r", "d", "Ask.", ("good", "bad"))]
    verdicts = [
        Verdict("r", 0, 0, 4.0, None, "Score: 4. So", "length"),
        Verdict("r", 1, 0, 1.0, None, "Score: 1", "stop"),
    ]
    made = agreeing_reviews(ranked, siblings(ranked), verdicts, (), "additive", ReviewsConfig(), 0)
    assert list(made.rows) == []
    assert made.funnels[0].dropped[0].why == "a verdict was cut off"
