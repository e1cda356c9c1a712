"""Accuracy, maj@k, pass@k, calibration, the gate and the control arms, by hand-worked numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from selfimprove.errors import DataError
from selfimprove.evaluation.accuracy import Answered, calibration, pass_at_k, scores
from selfimprove.evaluation.controls import kept_by_gold, unfiltered
from selfimprove.evaluation.gate import compare
from selfimprove.evaluation.scoreboard import score_figures
from selfimprove.terminal import show_scores
from selfimprove.types import Labelled, Question, ReasoningPath


def answered(
    question: str, answers: list[str | None], mode: str = "self_consistency"
) -> list[Answered]:
    return [
        Answered(question, "s", "in", mode, i, "", a, "number", ("7",), a == "7", 10)
        for i, a in enumerate(answers)
    ]


def test_a_majority_is_right_though_most_draws_may_be_wrong() -> None:
    rows = answered("q1", ["7", "7", "3", "4"]) + answered("q2", ["3", "3", "7", None])
    found = {s.metric: s.estimate.value for s in scores(rows)}
    assert found == {"maj@4": 0.5, "sampled accuracy": 0.375, "pass@4": 1.0}


def test_an_unread_answer_counts_as_wrong_and_is_counted() -> None:
    rows = answered("q1", ["7"], "cot") + answered("q2", [None], "cot")
    (found,) = scores(rows)
    assert (found.estimate.value, found.unanswered, found.mean_tokens) == (0.5, 1, 10.0)


def test_scores_are_paired_with_the_base_question_by_question() -> None:
    base = answered("q1", ["3"], "cot") + answered("q2", ["7"], "cot")
    after = answered("q2", ["7"], "cot") + answered("q1", ["7"], "cot")
    (found,) = scores(after, base)
    assert found.versus_base is not None
    assert (found.versus_base.wins, found.versus_base.losses) == (1, 0)


def test_other_questions_cannot_be_paired() -> None:
    with pytest.raises(DataError, match="different questions"):
        scores(answered("q1", ["7"], "cot"), answered("q2", ["7"], "cot"))


def test_the_command_line_names_each_way_of_asking(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for mode in ("standard", "cot") for row in answered("q1", ["7"], mode)]
    rows += answered("q1", ["7", "3"])
    show_scores("tiny", {"scores": [score_figures(s) for s in scores(rows)]})
    said = capsys.readouterr().out
    names = [
        line.split("│")[0].strip() for line in said.splitlines() if ", " in line and "│" in line
    ]
    assert names == ["standard, greedy", "cot, greedy", "cot, maj@2", "cot, sampled", "cot, pass@2"]


def test_the_sets_of_a_domain_are_counted_together_and_one_alone_is_not_counted_twice() -> None:
    def asked(name: str, domain: str, answer: str) -> list[Answered]:
        # The same id in every set: ids are of a file.
        return [replace(a, set=name, domain=domain) for a in answered("q1", [answer], "cot")]

    base = asked("s", "in", "3") + asked("t", "in", "7") + asked("u", "in", "3")
    after = asked("s", "in", "7") + asked("t", "in", "3") + asked("u", "in", "7")
    alone = asked("far", "out", "7")
    found = scores([*after, *alone], [*base, *alone])
    assert [s.set for s in found] == ["all 3 sets", "s", "t", "u", "far"]
    together, one = found[0], found[1]
    assert (together.estimate.value, together.estimate.n, one.estimate.n) == (2 / 3, 3, 1)
    assert together.versus_base is not None
    assert (together.versus_base.wins, together.versus_base.losses) == (2, 1)
    apart = scores([*asked("v", "out", "7"), *alone])
    assert [s.set for s in apart] == ["all 2 sets out of domain", "v", "far"]


@pytest.mark.parametrize(
    ("n", "right", "k", "value"), [(4, 1, 1, 0.25), (4, 1, 2, 0.5), (4, 3, 2, 1.0), (4, 0, 4, 0.0)]
)
def test_pass_at_k_by_hand(n: int, right: int, k: int, value: float) -> None:
    assert pass_at_k(n, right, k) == pytest.approx(value)


def test_calibration_groups_questions_by_vote_share() -> None:
    rows = answered("sure", ["7"] * 5) + answered("split", ["7", "7", "3", "4", "5"])
    low, high = calibration(rows)
    assert (low.low, low.n, low.confidence, low.accuracy) == (0.4, 1, 0.4, 1.0)
    assert (high.high, high.n, high.confidence, high.accuracy) == (1.0, 1, 1.0, 1.0)


def test_the_gate_keeps_the_parent_when_the_child_is_worse() -> None:
    parent = [r for i in range(10) for r in answered(f"q{i}", ["7" if i < 6 else "3"], "cot")]
    worse = [r for i in range(10) for r in answered(f"q{i}", ["7" if i < 5 else "3"], "cot")]
    assert not compare(parent, worse).promoted
    assert "worse than its parent: 0 questions won, 1 lost" in compare(parent, worse).reason
    assert compare(worse, parent).promoted
    assert compare(parent, parent).promoted


def test_control_arms_choose_without_and_with_gold() -> None:
    paths = [ReasoningPath("q", i, "", a, "stop", 3) for i, a in enumerate(["7", "3", None, "7.0"])]
    labelled = [Labelled(Question("q", "tiny", "?", "number"), ("7",))]
    assert [p.index for p in unfiltered(paths, None).rows] == [0, 1, 3]
    assert [p.index for p in kept_by_gold(paths, labelled, None).rows] == [0, 3]
    assert kept_by_gold(paths, labelled, None).funnels[0].dropped[0].count == 2


def test_a_limit_of_paths_a_question_holds_for_the_control_arms_as_well() -> None:
    paths = [
        ReasoningPath(q, i, "", a, "stop", 3)
        for q in ("q", "p")
        for i, a in enumerate(["3", "7", "7", "7"])
    ]
    labelled = [Labelled(Question(q, "tiny", "?", "number"), ("7",)) for q in ("q", "p")]
    kept = unfiltered(paths, 2)
    assert [(p.question_id, p.index) for p in kept.rows] == [("q", 0), ("q", 1), ("p", 0), ("p", 1)]
    assert {d.why: d.count for d in kept.funnels[0].dropped}["above max_per_question"] == 4
    gold = kept_by_gold(paths, labelled, 2)
    assert [(p.question_id, p.index) for p in gold.rows] == [("q", 1), ("q", 2), ("p", 1), ("p", 2)]


def test_the_flexible_reading_stands_beside_the_strict_one() -> None:
    stated = answered("q1", ["7"], "cot")
    named = [replace(r, flexible="7", flexible_correct=True) for r in answered("q2", [None], "cot")]
    stated = [replace(r, flexible="7", flexible_correct=True) for r in stated]
    (found,) = scores([*stated, *named])
    assert (found.estimate.value, found.unanswered) == (0.5, 1)
    assert (found.flexible.value, found.flexible_unanswered) == (1.0, 0)
    (figures,) = map(score_figures, scores([*stated, *named], [*stated, *named]))
    assert (figures["value"], figures["flexible"]["value"]) == (0.5, 1.0)
    assert figures["flexible"]["versus_base"]["ties"] == 2
