"""The measures of a gap reward model, counted by hand."""

from __future__ import annotations

import math

import pytest

from selfimprove.data.preferences import Preference
from selfimprove.evaluation.gap_quality import FourGaps, against_truth, four_gaps, gap_quality
from selfimprove.judges.gap import four_of
from selfimprove.judges.reward_rows import Scored
from selfimprove.types import Message

_RIGHT = FourGaps("a", "x", wl=2.0, ww=0.5, ll=-0.5, lw=-2.0)
_WRONG = FourGaps("b", "y", wl=-1.0, ww=0.0, ll=0.0, lw=1.0)
_SHIFTED = FourGaps("c", "z", wl=9.0, ww=7.0, ll=7.0, lw=5.0)


def test_contrasts_are_counted_one_by_one() -> None:
    card = gap_quality([_RIGHT, _RIGHT, _RIGHT, _WRONG], 5)
    assert (card["preferences"], card["unscored"]) == (4, 1)
    assert {name: told["value"] for name, told in card["contrasts"].items()} == {
        "wl>ww": 0.75, "wl>ll": 0.75, "wl>lw": 0.75, "ww>lw": 0.75, "ll>lw": 0.75,
    }  # fmt: skip
    assert card["accuracy"]["value"] == card["ordered"]["value"] == 0.75
    assert card["means"]["wl"] == pytest.approx((3 * 2 - 1) / 4)


def test_a_contrast_may_fail_alone_and_a_tie_is_half() -> None:
    card = gap_quality([FourGaps("a", "x", wl=1.0, ww=2.0, ll=1.0, lw=-1.0)], 1)
    values = {name: told["value"] for name, told in card["contrasts"].items()}
    assert values == {"wl>ww": 0.0, "wl>ll": 0.5, "wl>lw": 1.0, "ww>lw": 1.0, "ll>lw": 1.0}
    assert card["ordered"]["value"] == 0.0


def test_a_shift_spoils_the_signs_as_they_stand_and_not_the_centred_ones() -> None:
    card = gap_quality([_SHIFTED, _SHIFTED], 2)
    assert card["sign_agreement"]["value"] == 0.5  # wl above zero, and lw as well
    assert card["sign_agreement_centred"]["value"] == 1.0


def test_antisymmetry_by_hand() -> None:
    # |2 - 2| = 0 and |3 + 1| = 4: mean 2; spread of 2, -2, 3, 1: mean 1, squares 1 + 9 + 4 + 0
    gaps = [_RIGHT, FourGaps("b", "y", wl=3.0, ww=2.0, ll=2.0, lw=1.0)]
    card = gap_quality(gaps, 2)
    assert card["antisymmetry"]["value"] == pytest.approx(2 / math.sqrt(14 / 4))
    assert card["antisymmetry_centred"]["value"] == 0.0


def test_calibration_bins_by_confidence_on_either_side() -> None:
    sure = [FourGaps(str(i), str(i), wl=4.0, ww=0, ll=0, lw=-4.0) for i in range(9)]
    wrong = FourGaps("w", "w", wl=-4.0, ww=0, ll=0, lw=4.0)
    unsure = FourGaps("u", "u", wl=0.1, ww=0, ll=0, lw=0.0)
    card = gap_quality([*sure, wrong, unsure], 11)
    low, high = card["calibration"]
    assert (low["from"], low["accuracy"]["n"], low["accuracy"]["value"]) == (0.5, 1, 1.0)
    assert (high["from"], high["accuracy"]["n"], high["accuracy"]["value"]) == (0.9, 10, 0.9)
    certain, even = 1 / (1 + math.exp(-8)), 1 / (1 + math.exp(-0.1))
    assert card["calibration_error"] == pytest.approx((10 * (certain - 0.9) + (1 - even)) / 11)


def test_prompts_and_not_preferences_are_resampled() -> None:
    alone = gap_quality(
        [FourGaps(str(i), str(i), 1, 0, 0, -1 if i % 2 else 3) for i in range(40)], 40
    )
    together = gap_quality(
        [FourGaps(str(i), str(i % 2), 1, 0, 0, -1 if i % 2 else 3) for i in range(40)], 40
    )
    width = [card["accuracy"]["interval"][1] - card["accuracy"]["interval"][0]
             for card in (alone, together)]  # fmt: skip
    assert width[1] > 2 * width[0]


def test_nothing_to_measure_is_none() -> None:
    card = gap_quality([], 3)
    assert card["unscored"] == 3
    assert card["accuracy"] is card["antisymmetry"] is card["calibration_error"] is None


def test_truth_overrules_what_people_preferred() -> None:
    # a: told apart rightly, people too. b: the model contradicts people, who were careless.
    told = against_truth([_RIGHT, _WRONG, _SHIFTED], {"a": (4, 1), "b": (2, 3), "c": (2, 2)})
    assert told["accuracy"]["value"] == 1.0
    assert told["accuracy"]["n"] == 2  # equally good responses say nothing
    assert told["agreement"]["value"] == 0.5
    assert [(d["difference"], d["accuracy"]["n"]) for d in told["by_difference"]] == [
        (1, 1),
        (3, 1),
    ]


def test_an_unscored_gap_leaves_its_preference_out() -> None:
    asked = (Message("user", "Why?"),)
    rows = [Preference(name, "test", asked, "good", "bad") for name in "ab"]
    items = four_of(rows)
    assert [(i.candidate, i.reference) for i in items[:4]] == [
        ("good", "bad"), ("good", "good"), ("bad", "bad"), ("bad", "good"),
    ]  # fmt: skip
    scored = [Scored(i.prompt_id, i.index, float(n), None) for n, i in enumerate(items)]
    scored[5] = Scored("b", 1, None, "too long")
    (only,) = four_gaps(rows, scored)
    assert (only.id, only.wl, only.ww, only.ll, only.lw) == ("a", 0, 1, 2, 3)
