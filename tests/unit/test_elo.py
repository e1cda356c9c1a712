"""Ratings of systems from their matches, against closed forms and a ranking that is known."""

from __future__ import annotations

from itertools import combinations
from math import log10

import numpy as np
import pytest

from selfimprove.errors import DataError
from selfimprove.evaluation.elo import Meeting, Ratings, rate_systems


def met(first: str, second: str, *shares: float) -> list[Meeting]:
    return [Meeting(first, second, share, f"p{n}") for n, share in enumerate(shares)]


def by_name(told: Ratings) -> dict[str, float]:
    return {one.system: one.rating for one in told.systems}


def test_two_systems_differ_by_the_logarithm_of_their_wins() -> None:
    # 30 wins to 10: 400 * log10(3) = 190.85 points, half of it on either side of 1000.
    told = rate_systems(met("a", "b", *[1.0] * 30, *[0.0] * 10))
    assert by_name(told) == pytest.approx(
        {"a": 1000 + 200 * log10(3), "b": 1000 - 200 * log10(3)}, abs=1e-6
    )
    assert told.bounded
    assert [(s.system, s.matches, s.win_rate) for s in told.systems] == [
        ("a", 40, 0.75),
        ("b", 40, 0.25),
    ]


def test_a_tie_is_half_a_win_each_and_an_anchor_stands_at_1000() -> None:
    # 8 wins, 4 ties, 4 losses: 10 to 6.
    told = rate_systems(met("a", "b", *[1.0] * 8, *[0.5] * 4, *[0.0] * 4), anchor="b")
    assert by_name(told) == pytest.approx({"a": 1000 + 400 * log10(10 / 6), "b": 1000}, abs=1e-6)
    anchored = next(s for s in told.systems if s.system == "b")
    assert anchored.interval == (1000, 1000)


def test_systems_that_never_met_are_rated_by_way_of_a_third() -> None:
    # a beats b 3 to 1 and b beats c 3 to 1, so a is 2 * 190.85 above c.
    told = by_name(
        rate_systems([*met("a", "b", 1, 1, 1, 0), *met("c", "b", 0, 0, 0, 1)], anchor="c")
    )
    assert told == pytest.approx(
        {"a": 1000 + 800 * log10(3), "b": 1000 + 400 * log10(3), "c": 1000}
    )


def test_a_known_ranking_is_found_within_its_intervals() -> None:
    truth = {"v": 1200.0, "w": 1100.0, "x": 1000.0, "y": 900.0, "z": 800.0}
    generator = np.random.default_rng(7)
    played = [
        Meeting(one, other,
                float(generator.random() < 1 / (1 + 10 ** ((truth[other] - truth[one]) / 400))),
                f"p{prompt}")
        for prompt in range(300)
        for one, other in combinations(truth, 2)
    ]  # fmt: skip
    told = rate_systems(played)
    assert [s.system for s in told.systems] == list(truth)
    for one in told.systems:
        low, high = one.interval
        assert low < truth[one.system] < high
        # 1,200 matches each: a standard error near 11 points.
        assert 20 < high - low < 70


def test_intervals_resample_prompts_not_matches() -> None:
    # The same 20 prompts ten times over say no more than once.
    once = [Meeting("a", "b", float(n % 4 > 0), f"p{n}") for n in range(20)]
    (one, *_), (often, *_) = (rate_systems(p).systems for p in (once, once * 10))
    assert often.rating == pytest.approx(one.rating)
    assert often.interval[1] - often.interval[0] > 100


def test_a_system_that_won_all_gets_a_rating_that_is_said_to_be_none() -> None:
    told = rate_systems(met("a", "b", *[1.0] * 9))
    assert not told.bounded
    # Half a win each more: 9.5 to 0.5.
    assert by_name(told)["a"] == pytest.approx(1000 + 200 * log10(19))


def test_groups_that_never_met_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="no match links a, b with c, d"):
        rate_systems([*met("a", "b", 1, 0), *met("c", "d", 1, 0)])


@pytest.mark.parametrize(
    ("meetings", "anchor", "says"),
    [
        ([], None, "there is no match"),
        (met("a", "b", 1, 0), "c", "'c' is none of the systems that met: a, b"),
        (met("a", "a", 1, 0), None, "'a' met itself on prompt p0"),
    ],
)
def test_what_cannot_be_rated_is_one_clear_error(
    meetings: list[Meeting], anchor: str | None, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        rate_systems(meetings, anchor)
