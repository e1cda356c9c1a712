"""Measures of whether the reference is read, on rewards and responders whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from selfimprove.evaluation.reference_use import Shown, information, interaction, use
from selfimprove.seeds import rng

_WORDS = [
    "owl",
    "fox",
    "elk",
    "hen",
    "bat",
    "cow",
    "ant",
    "bee",
    "cat",
    "dog",
    "emu",
    "eel",
    "gnu",
    "hog",
    "jay",
    "koi",
]


def _text(random: Any, count: int = 4) -> str:
    return " ".join(f"The {' '.join(random.choices(_WORDS, k=6))}." for _ in range(count))


def _grids(reward, prompts: int = 12, size: int = 5) -> list[list[list[float]]]:
    random = rng(1, "grids")
    found = []
    for _ in range(prompts):
        f, g = ([random.gauss(0, 1) for _ in range(size)] for _ in range(2))
        found.append([[reward(a, b) for b in g] for a in f])
    return found


def _shares(grids) -> dict[str, float]:
    told = interaction(grids)
    assert told is not None
    for share in told.values():
        assert share["interval"][0] <= share["value"] <= share["interval"][1]
    return {name: share["value"] for name, share in told.items()}


def test_a_difference_of_two_rewards_has_no_interaction() -> None:
    shares = _shares(_grids(lambda a, b: a - 2 * b))
    assert shares["interaction"] == pytest.approx(0, abs=1e-12)
    assert shares["candidate"] + shares["reference"] == pytest.approx(1)


def test_a_reward_that_ignores_the_reference_is_all_candidate() -> None:
    assert _shares(_grids(lambda a, _b: a)) == pytest.approx(
        {"candidate": 1, "reference": 0, "interaction": 0}
    )


def test_a_product_of_centred_parts_is_all_interaction() -> None:
    signs = [[[a * b for b in (-1.0, 1.0)] for a in (-1.0, 1.0)] for _ in range(4)]
    assert _shares(signs) == pytest.approx({"candidate": 0, "reference": 0, "interaction": 1})


def test_by_hand() -> None:
    # Rows' means 1 and 3, columns' 1 and 3, rest +-1: sums of squares 4, 4 and 4.
    assert _shares([[[1.0, 1.0], [1.0, 5.0]]]) == pytest.approx(
        {"candidate": 1 / 3, "reference": 1 / 3, "interaction": 1 / 3}
    )


def test_equal_gaps_have_no_shares() -> None:
    assert interaction([[[2.0, 2.0], [2.0, 2.0]]]) is None
    assert interaction([]) is None


def _shown(respond, prompts: int = 20) -> dict[str, float]:
    """Return the values of what a responder does, who gets the number of a prompt and a reference."""
    random = rng(2, "texts")
    rows = []
    for number in range(prompts):
        a, b = _text(random), _text(random)
        rows.append(Shown(a, b, respond(number, a), respond(number, b)))
    told = use(rows)
    assert told["different"] == prompts
    return {name: value["value"] for name, value in told.items() if isinstance(value, dict)}


def test_a_copier_keeps_everything_and_only_what_it_was_shown() -> None:
    told = _shown(lambda _n, reference: reference)
    assert (told["kept"], told["kept_without"], told["keep_gap"]) == (1, 0, 1)
    assert told["same_response"] == 0
    assert told["copy_excess"] > 0.95
    assert told["swap"] > 0.5


def test_one_that_ignores_the_reference_shows_nothing() -> None:
    answers = [_text(rng(n, "answers")) for n in range(20)]
    told = _shown(lambda n, _reference: answers[n])
    alike = use([Shown(_text(rng(n, "a")), "b", answers[n], answers[n]) for n in range(20)])
    assert alike["swap"]["interval"] == alike["keep_gap"]["interval"] == [0, 0]  # no shares
    assert told["same_response"] == 1
    assert told["swap"] == told["copy_excess"] == told["keep_gap"] == 0


def test_an_ideal_improver_keeps_half_and_repairs_half() -> None:
    # It keeps the first two sentences, which are right, and replaces the other two by the prompt's own.
    answers = [_text(rng(n, "answers")).split(". ") for n in range(20)]

    def improved(number: int, reference: str) -> str:
        return ". ".join([*reference.split(". ")[:2], *answers[number][2:]])

    told = _shown(improved)
    assert told["kept"] == told["keep_gap"] == 0.5
    assert 0.1 < told["swap"] < 0.7
    assert 0.3 < told["copy_excess"] < 0.6


def test_right_parts_that_one_reference_alone_has_count_where_they_are_known() -> None:
    in_a, in_b = frozenset({"1", "2", "3", "both"}), frozenset({"4", "both"})
    in_of_a, in_of_b = frozenset({"1", "2", "9"}), frozenset({"2", "4", "both"})
    row = Shown("a", "b", "c", "d", (in_a, in_b, in_of_a, in_of_b))
    told = use([row, row])
    # 1 kept, 2 kept and there anyway, 3 lost; 4 kept.
    assert (told["kept"]["value"], told["kept_without"]["value"]) == (3 / 4, 1 / 4)
    assert (told["keep_gap"]["value"], told["parts"]) == (1 / 2, "right parts")


def test_equal_references_are_left_out() -> None:
    told = use([Shown("a", "a", "b", "b")])
    assert (told["prompts"], told["different"], told["swap"]) == (1, 0, None)


def test_information_is_what_the_own_reference_adds() -> None:
    same = information([-5.0, -7.0], [[-5.0, -5.0], [-7.0]])
    assert same is not None
    assert same["value"] == 0
    told = information([-1.0], [[-1.0 - math.log(4), -1.0 - math.log(4)]])
    assert told is not None
    assert told["value"] == pytest.approx(math.log(4))
    uneven = information([0.0], [[math.log(0.5), math.log(0.25)]])
    assert uneven is not None
    assert uneven["value"] == pytest.approx(-math.log(0.375))
    assert information([], []) is None
