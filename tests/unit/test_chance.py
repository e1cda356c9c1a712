"""What a judge's scores are worth when they are dealt at random, against values worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from selfimprove.evaluation import chance


def by_chance(ranked: Any, highest: float) -> Any:
    return chance.by_chance(ranked, highest)


def test_two_responses_are_ordered_right_half_of_the_time() -> None:
    told = by_chance([((5.0, 1.0), (2.0, 1.0))], 5)
    for name in ("pairwise_accuracy", "pairwise_accuracy_strict", "exact_match", "five_best"):
        assert told[name] == {"value": pytest.approx(0.5, abs=0.05), "interval": [0, 1], "n": 1}


def test_three_responses_are_all_in_order_once_in_six_permutations() -> None:
    told = by_chance([((4.0, 3.0, 1.0), (3.0, 2.0, 1.0))] * 40, 5)
    assert told["exact_match"]["value"] == pytest.approx(1 / 6, abs=0.01)
    assert told["exact_match"]["n"] == 40
    assert told["pairwise_accuracy"]["value"] == pytest.approx(0.5, abs=0.01)
    assert told["pairwise_accuracy"]["n"] == 120
    # A permutation of three orders 0, 1, 1, 2, 2, 3 of its pairs: variance 11/12, of the mean of 40
    # prompts a standard deviation of sqrt(11 / 12 / 40) / 3 = .050.
    low, high = told["pairwise_accuracy"]["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * 0.050, abs=0.012)
    assert told["five_best"] is None  # the judge gave no five


def test_a_judge_that_gives_one_score_stays_at_one_half_without_any_width() -> None:
    told = by_chance([((3.0, 3.0, 3.0), (3.0, 2.0, 1.0))], 5)
    assert told["pairwise_accuracy"] == {"value": 0.5, "interval": [0.5, 0.5], "n": 3}
    assert told["pairwise_accuracy_strict"]["value"] == 0
    assert by_chance([((3.0, 1.0), (1.0, 1.0))], 5)["pairwise_accuracy"] is None
