"""The vote: equal answers count together, silent paths count against, the first of a tie wins."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.answers.answers import vote

ANSWERS = st.lists(st.sampled_from(["1", "1.0", "2", "1/2", "0.5", None]), max_size=40)


def test_of_32_paths_20_agree() -> None:
    answers = ["18"] * 20 + ["20"] * 7 + [None] * 5
    result = vote(answers, "number")
    assert result.answer == "18"
    assert result.confidence == 0.625
    assert result.members == tuple(range(20))
    assert not result.tied
    assert [(c.answer, c.votes) for c in result.classes] == [("18", 20), ("20", 7)]


def test_silent_paths_lower_confidence_but_never_win() -> None:
    result = vote([None, None, None, "7", "7"], "number")
    assert (result.answer, result.confidence, result.members) == ("7", 0.4, (3, 4))


def test_without_any_answer_there_is_no_winner() -> None:
    assert vote([None, None], "number").answer is None
    assert vote([], "number").confidence == 0.0


def test_half_and_a_half_are_one_answer() -> None:
    result = vote(["3", "1/2", "0.5"], "number")
    assert (result.answer, result.members, result.tied) == ("1/2", (1, 2), False)


def test_a_tie_goes_to_the_answer_met_first_and_is_recorded() -> None:
    assert vote(["2", "1", "1", "2"], "number").answer == "2"
    assert vote(["2", "1", "1", "2"], "number").tied


@pytest.mark.parametrize(
    ("answers", "kind", "winner", "members"),
    [
        (["B", "A", "B"], "choice", "B", (0, 2)),
        (["the Browns", "Bears", "browns."], "span", "the Browns", (0, 2)),
        (["yes", "no", "no"], "yes_no", "no", (1, 2)),
        (["it is not possible to tell", "no"], "nli", "it is not possible to tell", (0,)),
    ],
)
def test_every_answer_type_has_its_vote(answers, kind, winner, members) -> None:
    result = vote(answers, kind)
    assert (result.answer, result.members) == (winner, members)


@given(ANSWERS)
def test_the_classes_share_out_all_that_was_answered(answers: list[str | None]) -> None:
    result = vote(answers, "number")
    members = [i for c in result.classes for i in c.members]
    assert sorted(members) == [i for i, a in enumerate(answers) if a is not None]
    assert result.confidence == (len(result.members) / len(answers) if answers else 0.0)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_paths_decides_nothing_but_ties(answers, shuffler) -> None:
    result = vote(answers, "number")
    other = list(answers)
    shuffler.shuffle(other)
    shuffled = vote(other, "number")
    value = {"1": 1, "1.0": 1, "2": 2, "1/2": 0.5, "0.5": 0.5}
    sizes = [Counter({value[c.answer]: c.votes for c in v.classes}) for v in (result, shuffled)]
    assert sizes[0] == sizes[1]
    assert (result.confidence, result.tied) == (shuffled.confidence, shuffled.tied)
    if result.answer is not None and shuffled.answer is not None and not result.tied:
        assert value[result.answer] == value[shuffled.answer]
