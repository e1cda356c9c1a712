"""The one rule for unfinished responses: what they are worth, and how their matches end."""

from __future__ import annotations

import pytest

from selfimprove.types import Draw, ReasoningPath, Response, Verdict
from selfimprove.unfinished import decided, least, worth


@pytest.mark.parametrize(("finish", "ended"), [("stop", True), ("length", False), ("error", False)])
def test_only_a_text_that_stopped_by_itself_is_finished(finish, ended):
    rows = (
        Draw("x", 0, "text", finish, 3, 2),
        Response("x", "prompt", 0, "text", finish, 2),
        ReasoningPath("x", 0, "text", "12", finish, 2),
        Verdict("x", 0, 0, 4.0, None, "Score: 4", finish),
    )
    assert [row.is_finished for row in rows] == [ended] * 4


def test_an_unfinished_response_is_worth_the_least_of_the_finished_ones():
    scores, finished = [2.0, 5.0, -1.0, None], [True, False, True, False]
    lowest = least(scores, finished)
    assert lowest == -1.0
    told = [worth(s, f, lowest) for s, f in zip(scores, finished, strict=True)]
    assert told == [2.0, -1.0, -1.0, -1.0]


def test_a_low_score_of_its_own_is_not_raised_by_being_cut_off():
    assert worth(-3.0, False, -1.0) == -3.0


def test_where_nothing_is_finished_all_are_worth_the_same():
    scores, finished = [2.0, 5.0], [False, False]
    assert [worth(s, False, least(scores, finished)) for s in scores] == [2.0, 2.0]


def test_where_nothing_has_a_score_there_is_no_number():
    assert least([None, None], [True, False]) is None
    assert worth(None, False, None) is None


def test_a_match_with_an_unfinished_response_is_decided_by_the_rule():
    assert decided("stop", "length") == 1.0
    assert decided("length", "stop") == 0.0
    assert decided("length", "length") == 0.5
    assert decided("stop", "stop") is None
