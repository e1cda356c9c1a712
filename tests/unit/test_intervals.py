"""Intervals: known widths, pairing, and no claim where nothing differs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfimprove.evaluation.intervals import mean, paired, resampled_sums


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = [1.0] * 300 + [0.0] * 100
    found = mean(values)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - half, abs=0.006)
    assert found.high == pytest.approx(0.75 + half, abs=0.006)


def test_no_right_answer_among_twelve_leaves_room_for_doubt() -> None:
    found = mean([0.0] * 12)
    assert found.low == 0
    assert found.high == pytest.approx(1.96**2 / (12 + 1.96**2), abs=1e-3)  # Wilson at 0: 0.242


def test_pairing_makes_a_small_steady_gain_visible() -> None:
    before = [1.0] * 50 + [0.0] * 50
    after = [1.0] * 60 + [0.0] * 40
    found = paired(before, after)
    assert (found.wins, found.losses, found.ties) == (10, 0, 90)
    assert found.difference == pytest.approx(0.1)
    assert found.low > 0
    # Unpaired, the two means' intervals overlap widely.
    assert mean(before).high > mean(after).low


def test_equal_systems_differ_by_exactly_nothing() -> None:
    found = paired([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_bootstrap_sample_sums_whole_rows_drawn_with_replacement() -> None:
    rows = np.array([[1.0, 1.0]] * 30 + [[0.0, 1.0]] * 60 + [[0.0, 0.0]] * 10)
    sums = resampled_sums(rows, "test")
    assert sums.shape == (10_000, 2)
    assert ((sums[:, 0] >= 0) & (sums[:, 0] <= sums[:, 1]) & (sums[:, 1] <= 100)).all()
    # Binomial: 100 draws of .3 and of .9; a mean of 10,000 lies within 5 standard errors.
    assert sums[:, 0].mean() == pytest.approx(30, abs=5 * math.sqrt(21 / 10_000))
    assert sums[:, 0].std() == pytest.approx(math.sqrt(21), rel=0.05)
    assert sums[:, 1].std() == pytest.approx(math.sqrt(9), rel=0.05)
    # Of one row come both columns: cov = 100 (.3 - .3 * .9) = 3.
    assert np.cov(sums.T)[0, 1] == pytest.approx(3, rel=0.1)


def test_the_same_numbers_give_the_same_interval() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    assert mean(values) == mean(values)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 0.0])])
def test_what_cannot_be_paired_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        paired(before, after)


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean([])
