"""The length-controlled rate: against another optimiser, against known truth, at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from selfimprove.evaluation.length_control import length_controlled_rates


def simulated(
    intercept: float, slope: float, matches: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return preferences and length differences of a known logistic world, the first 20 longer."""
    generator = np.random.default_rng(seed)
    longer_by = generator.normal(20, 40, matches)
    chance = 1 / (1 + np.exp(-(intercept + slope * np.tanh(longer_by / longer_by.std()))))
    return (generator.random(matches) < chance).astype(float), longer_by


def even(matches: int) -> list[NDArray[np.float64]]:
    return [np.ones((3, matches))]


def by_scipy(preferences: NDArray[np.float64], longer_by: NDArray[np.float64]) -> float:
    feature = np.tanh(longer_by / longer_by.std())

    def loss(x: NDArray[np.float64]) -> float:
        logit = x[0] + x[1] * feature
        return float((np.logaddexp(0, logit) - preferences * logit).sum())

    return float(1 / (1 + np.exp(-minimize(loss, np.zeros(2), tol=1e-10).x[0])))


@pytest.mark.parametrize("soft", [False, True])
def test_the_fit_is_that_of_another_optimiser(soft: bool) -> None:
    preferences, longer_by = simulated(0.4, 1.2, 500)
    if soft:
        preferences = 0.15 + 0.7 * preferences
    rate, interval = length_controlled_rates(preferences, longer_by, even(500))
    assert rate == pytest.approx(by_scipy(preferences, longer_by), abs=2e-4)
    # Samples that hold every match once are the whole, and have no spread.
    assert interval == pytest.approx((rate, rate), abs=1e-6)


def test_the_rate_without_length_is_found_where_length_adds_to_it() -> None:
    preferences, longer_by = simulated(0.0, 2.0, 20_000)
    assert preferences.mean() > 0.6
    rate, _ = length_controlled_rates(preferences, longer_by, even(20_000))
    assert rate == pytest.approx(0.5, abs=0.02)


def test_only_the_ratio_to_the_spread_of_lengths_matters() -> None:
    preferences, longer_by = simulated(0.3, -0.8, 300)
    characters = length_controlled_rates(preferences, longer_by, even(300))
    words = length_controlled_rates(preferences, longer_by / 5.3, even(300))
    assert (words[0], *words[1]) == pytest.approx((characters[0], *characters[1]))


def test_a_weight_of_two_is_the_match_twice() -> None:
    preferences, longer_by = simulated(0.2, 1.0, 60)
    weights = np.random.default_rng(2).integers(0, 3, 60)
    _, (low, high) = length_controlled_rates(preferences, longer_by, [weights[None].astype(float)])
    assert low == high
    twice = np.repeat(preferences, weights)
    feature = np.repeat(np.tanh(longer_by / longer_by.std()), weights)

    def loss(x: NDArray[np.float64]) -> float:
        logit = x[0] + x[1] * feature
        ridge = 0.005 * float((x**2).sum())
        return float((np.logaddexp(0, logit) - twice * logit).sum()) + ridge

    expected = 1 / (1 + np.exp(-minimize(loss, np.zeros(2), tol=1e-10).x[0]))
    assert low == pytest.approx(expected, abs=1e-5)


def test_where_length_tells_all_the_rate_stays_a_number_and_the_interval_is_wide() -> None:
    longer_by = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    preferences = (longer_by > 0).astype(float)
    weights = np.random.default_rng(0).multinomial(6, [1 / 6] * 6, size=500).astype(float)
    rate, (low, high) = length_controlled_rates(preferences, longer_by, [weights])
    assert rate == pytest.approx(0.5)
    assert 0 <= low < 0.2 < 0.8 < high <= 1


def test_without_any_difference_in_length_the_rate_is_the_mean() -> None:
    preferences = np.array([1.0, 1.0, 1.0, 0.0])
    rate, _ = length_controlled_rates(preferences, np.zeros(4), even(4))
    assert rate == pytest.approx(0.75, abs=0.003)  # the ridge draws it a little to one half
