"""Which responses are set against each other."""

from __future__ import annotations

import pytest

from selfimprove.methods.self_rewarding.pairs import (
    PairsConfig,
    best_against_worst,
    perfect_responses,
)
from selfimprove.types import Response, Verdict


def _candidates(*lengths: int, prompt: str = "p") -> list[Response]:
    return [
        Response(prompt, "Ask.", i, f"response {i}", "stop", tokens)
        for i, tokens in enumerate(lengths)
    ]


def _verdicts(*scores: float | None, prompt: str = "p") -> list[Verdict]:
    return [
        Verdict(prompt, i, 0, score, None if score is not None else "no score", "")
        for i, score in enumerate(scores)
    ]


def _pairs(scores: list[float | None], config: PairsConfig | None = None) -> list[tuple[str, str]]:
    made = best_against_worst(
        _candidates(*[1] * len(scores)), _verdicts(*scores), config or PairsConfig()
    )
    return [(p.chosen, p.rejected) for p in made.rows]


def test_the_highest_mean_meets_the_lowest_and_of_equals_the_first_drawn_counts():
    assert _pairs([4.3, 2.1, 4.3, 1.0]) == [("response 0", "response 3")]


def test_equal_scores_make_no_pair_and_are_counted():
    made = best_against_worst(_candidates(1, 1), _verdicts(3.0, 3.0), PairsConfig())
    assert list(made.rows) == []
    assert [(d.why, d.count) for d in made.funnels[0].dropped] == [("all scores are equal", 1)]


def test_a_response_without_a_score_is_never_the_rejected_one():
    assert _pairs([5.0, None, 2.0]) == [("response 0", "response 2")]
    assert _pairs([5.0, None]) == []


def test_votes_are_averaged_and_those_without_a_score_left_out():
    votes = [Verdict("p", 0, v, s, None, "") for v, s in enumerate((5.0, 4.0))]
    votes += [Verdict("p", 1, 0, 4.6, None, ""), Verdict("p", 1, 1, None, "no score", "")]
    (pair,) = best_against_worst(_candidates(1, 1), votes, PairsConfig()).rows
    assert (pair.chosen, pair.chosen_score, pair.rejected_score) == ("response 1", 4.6, 4.5)


def test_several_pairs_a_prompt_go_from_the_outside_in():
    config = PairsConfig(per_prompt=2)
    assert _pairs([1.0, 5.0, 4.0, 2.0], config) == [
        ("response 1", "response 0"),
        ("response 2", "response 3"),
    ]
    assert _pairs([1.0, 5.0, 3.0, 3.0], config) == [("response 1", "response 0")]


def test_a_failed_request_takes_no_part():
    candidates = _candidates(1, 1, 1)
    candidates[2] = Response("p", "Ask.", 2, "", "error", 0)
    made = best_against_worst(candidates, _verdicts(5.0, 3.0, 0.0), PairsConfig())
    assert [(p.chosen, p.rejected) for p in made.rows] == [("response 0", "response 1")]


def test_length_control_takes_the_shortest_near_best_and_the_longest_near_worst():
    # Range 1 to 5, rho .25: near best from 4 on, near worst up to 2.
    made = best_against_worst(
        _candidates(90, 20, 10, 80, 30), _verdicts(5.0, 4.0, 3.0, 2.0, 1.0),
        PairsConfig(length_control=0.25),
    )  # fmt: skip
    assert [(p.chosen, p.rejected) for p in made.rows] == [("response 1", "response 3")]


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_length_control_of_equal_scores_makes_no_pair(rho):
    assert _pairs([2.2, 2.2, 2.2], PairsConfig(length_control=rho)) == []


def test_length_control_of_zero_is_plain_best_against_worst():
    scores: list[float | None] = [2.0, 5.0, 1.0]
    assert _pairs(scores, PairsConfig(length_control=0.0)) == _pairs(scores)


def test_limits_on_gap_and_number():
    assert _pairs([3.0, 2.5], PairsConfig(min_gap=1.0)) == []
    candidates = _candidates(1, 1) + _candidates(1, 1, prompt="q")
    verdicts = _verdicts(1.0, 2.0) + _verdicts(1.0, 2.0, prompt="q")
    made = best_against_worst(candidates, verdicts, PairsConfig(max_pairs=1))
    assert [p.prompt_id for p in made.rows] == ["p"]


def test_positives_are_the_responses_of_the_perfect_score_alone():
    made = perfect_responses(_candidates(1, 1, 1), _verdicts(5.0, 4.9, None), 5)
    assert [d.response for d in made.rows] == ["response 0"]


def _cut(*scored: tuple[float, str], config: PairsConfig | None = None):
    """Pair responses of these scores, each finished by `stop` or cut by `length`."""
    rows = [
        Response("p", "Ask.", i, f"response {i}", finish, 10 + i)  # type: ignore[arg-type]
        for i, (_, finish) in enumerate(scored)
    ]
    return best_against_worst(rows, _verdicts(*(s for s, _ in scored)), config or PairsConfig())


def test_a_response_that_was_cut_off_is_never_chosen_however_high_its_score():
    (pair,) = _cut((5.0, "length"), (3.0, "stop"), (1.0, "stop")).rows
    assert (pair.chosen, pair.rejected) == ("response 1", "response 2")
    assert pair.rejected_finished


def test_a_cut_response_may_be_rejected_and_says_that_it_did_not_end():
    (pair,) = _cut((4.0, "stop"), (1.0, "length")).rows
    assert (pair.chosen, pair.rejected) == ("response 0", "response 1")
    assert not pair.rejected_finished


def test_being_cut_off_alone_tells_no_two_responses_apart():
    # It is worth the least of the finished ones: 4, as much as the one beside it.
    assert list(_cut((4.0, "stop"), (5.0, "length")).rows) == []


def test_of_equally_bad_responses_a_finished_one_is_rejected():
    (pair,) = _cut((4.0, "stop"), (4.5, "length"), (2.0, "stop")).rows
    assert pair.rejected == "response 2"


def test_every_pair_of_a_prompt_has_a_finished_chosen_response():
    config = PairsConfig(per_prompt=2)
    found = _cut((5.0, "length"), (4.0, "stop"), (3.0, "length"), (1.0, "stop"), config=config)
    assert [p.chosen for p in found.rows] == ["response 1"]


def test_under_length_control_too_the_chosen_response_is_finished():
    config = PairsConfig(length_control=1.0)
    (pair,) = _cut((5.0, "length"), (4.0, "stop"), (1.0, "stop"), config=config).rows
    assert pair.chosen == "response 1"


def test_a_prompt_whose_responses_were_all_cut_off_makes_no_pair():
    made = _cut((5.0, "length"), (1.0, "length"))
    assert list(made.rows) == []
    assert [d.why for d in made.funnels[0].dropped] == ["every response was cut off"]


def test_cut_candidates_are_counted_with_what_became_of_them():
    made = _cut((4.0, "stop"), (1.0, "length"), (2.0, "length"), (0.0, "error"))
    (funnel,) = (f for f in made.funnels if f.name == "finished candidates")
    assert (funnel.given, funnel.kept) == (4, 1)
    assert {d.why: d.count for d in funnel.dropped} == {
        "cut off: the rejected one of a pair, without an end token": 1,
        "cut off: in no pair": 1,
        "no response from the server": 1,
    }


def test_a_perfect_response_that_was_cut_off_is_not_imitated():
    rows = [
        Response("p", "Ask.", i, "text", finish, 5)  # type: ignore[arg-type]
        for i, finish in enumerate(("stop", "length"))
    ]
    made = perfect_responses(rows, _verdicts(5.0, 5.0), 5.0)
    assert [d.id for d in made.rows] == ["p#0"]
    assert [(d.why, d.count) for d in made.funnels[0].dropped if d.count] == [("not finished", 1)]
