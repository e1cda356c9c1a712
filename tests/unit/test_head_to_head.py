"""Head-to-head: counts and rates that can be checked by hand, and intervals over prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from selfimprove.errors import DataError, SelfImproveError
from selfimprove.evaluation import versus
from selfimprove.evaluation.head_to_head import HeadToHead, head_to_head, matches
from selfimprove.types import Outcome, Response


def compared(outcomes: Sequence[Outcome]) -> HeadToHead:
    return head_to_head(outcomes, first="m2", second="m1", judge="people", set="test")


def outcome(
    number: int,
    preference: float | None,
    prompt: str | None = None,
    lengths: tuple[int, int] = (5, 5),
) -> Outcome:
    why = "nothing said" if preference is None else None
    return Outcome(str(number), prompt or str(number), preference, why, *lengths)


def results(*preferences: float | None) -> list[Outcome]:
    """Return one match a prompt."""
    return [outcome(number, p) for number, p in enumerate(preferences)]


def drawn(prompts: int, draws: int) -> list[Outcome]:
    """Return matches in which all draws of a prompt end alike, two prompts in three won."""
    return [
        outcome(prompt * draws + draw, float(prompt % 3 > 0), f"p{prompt}")
        for prompt, draw in product(range(prompts), range(draws))
    ]


def response(prompt: str, index: int, text: str) -> Response:
    return Response(prompt, f"text of {prompt}", index, text, "stop", 3)


# ---- counts and rates


def test_ties_count_half_and_the_unscored_count_nowhere() -> None:
    told = compared(results(1.0, 1.0, 1.0, 0.5, 0.5, 0.0, None))
    assert (told.wins, told.ties, told.losses, told.unscored) == (3, 2, 1, 1)
    assert (told.n, told.prompts) == (6, 6)
    assert told.win_rate == pytest.approx(4 / 6)
    assert told.decided == 4
    assert told.decided_rate == pytest.approx(3 / 4)


def test_the_standard_error_is_that_of_a_mean_over_matches() -> None:
    # Deviations 1/2, 1/2, -1/2, -1/2: variance 1/3 with n - 1, over 4 matches 1/12.
    assert compared(results(1.0, 1.0, 0.0, 0.0)).standard_error == pytest.approx((1 / 12) ** 0.5)


def test_float_preferences_are_weighed_in_the_rate_and_counted_by_their_side() -> None:
    told = compared(results(0.9, 0.7, 0.5, 0.1))
    assert (told.wins, told.ties, told.losses) == (2, 1, 1)
    assert told.win_rate == pytest.approx(0.55)


def test_lengths_are_means_over_the_matches_with_a_result() -> None:
    rows = [outcome(0, 1.0, lengths=(10, 40)), outcome(1, 0.0, lengths=(30, 20)),
            outcome(2, None, lengths=(999, 999))]  # fmt: skip
    told = compared(rows)
    assert (told.first_length, told.second_length) == (20.0, 30.0)


def test_swapping_the_systems_mirrors_every_figure() -> None:
    generator = np.random.default_rng(3)
    rows = [
        outcome(n, float(generator.choice([0.0, 0.5, 1.0], p=[0.2, 0.3, 0.5])), f"p{n // 4}",
                (int(generator.integers(20, 90)), int(generator.integers(20, 60))))
        for n in range(200)
    ]  # fmt: skip
    swapped = [
        replace(r, preference=1 - (r.preference or 0.0), first_length=r.second_length,
                second_length=r.first_length)
        for r in rows
    ]  # fmt: skip
    one, other = compared(rows), compared(swapped)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    for name in ("win_rate", "decided_rate", "length_controlled"):
        assert getattr(one, name) == pytest.approx(1 - getattr(other, name), abs=1e-6)
    for name in ("win_rate_interval", "decided_interval", "length_controlled_interval"):
        low, high = getattr(one, name)
        assert getattr(other, name) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_the_order_of_matches_changes_nothing() -> None:
    rows = results(1.0, 0.0, 0.5, 1.0, 1.0, None, 0.0, 1.0)
    assert compared(rows[::-1]) == compared(rows)


def test_the_plain_data_has_the_keys_of_the_summary_and_lists_for_intervals() -> None:
    told = compared(results(1.0, 0.0, 0.5)).as_dict()
    assert list(told) == [
        "first", "second", "judge", "set", "n", "prompts", "wins", "ties", "losses", "unscored",
        "win_rate", "win_rate_interval", "standard_error", "decided", "decided_rate",
        "decided_interval", "length_controlled", "length_controlled_interval", "first_length",
        "second_length",
    ]  # fmt: skip
    assert (told["first"], told["second"], told["judge"], told["set"]) == (
        "m2",
        "m1",
        "people",
        "test",
    )
    assert all(isinstance(told[name], list) for name in told if name.endswith("interval"))


# ---- intervals


def test_draws_of_one_prompt_are_resampled_together() -> None:
    # Four draws that always end alike know no more than one: the interval is that of 60 prompts.
    one, four = compared(drawn(60, 1)), compared(drawn(60, 4))
    assert (four.n, four.prompts) == (240, 60)
    assert four.win_rate == pytest.approx(one.win_rate)
    assert four.win_rate_interval == pytest.approx(one.win_rate_interval)
    assert four.decided_interval == pytest.approx(one.decided_interval)
    as_if_apart = compared(drawn(240, 1)).win_rate_interval
    width = four.win_rate_interval[1] - four.win_rate_interval[0]
    assert width == pytest.approx(2 * (as_if_apart[1] - as_if_apart[0]), rel=0.1)


def test_the_interval_is_about_two_standard_errors_each_way() -> None:
    told = compared(results(*[1.0] * 60, *[0.0] * 40))
    low, high = told.win_rate_interval
    assert low == pytest.approx(0.6 - 1.96 * told.standard_error, abs=0.012)
    assert high == pytest.approx(0.6 + 1.96 * told.standard_error, abs=0.012)


def test_intervals_are_as_wide_as_the_spread_between_prompts_asks() -> None:
    # Half of 200 prompts are always won, the others 2 times in 5: four draws each. Over 600 such
    # experiments the interval held the truth in 94 %; one over draws would have in 80 %.
    generator = np.random.default_rng(0)
    won = (generator.random((200, 4)) < 0.4) | (np.arange(200) % 2 == 0)[:, None]
    rows = [outcome(4 * p + d, float(won[p, d]), f"p{p}") for p, d in product(range(200), range(4))]
    told = compared(rows)
    between = float(won.mean(axis=1).std()) / 200**0.5
    assert between > 1.4 * told.standard_error  # which is that over matches, as AlpacaEval gives it
    for low, high in (told.win_rate_interval, told.decided_interval):
        assert high - low == pytest.approx(2 * 1.96 * between, rel=0.04)


def test_sixteen_hundred_outcomes_take_well_under_a_second() -> None:
    generator = np.random.default_rng(1)
    rows = [
        outcome(n, float(generator.choice([0.0, 0.5, 1.0])), f"p{n // 4}",
                (int(generator.integers(20, 99)), int(generator.integers(20, 99))))
        for n in range(1600)
    ]  # fmt: skip
    compared(rows[:8])  # imports
    started = time.process_time()
    compared(rows)
    assert time.process_time() - started < 2  # 0.5 on one core; the rest is for a busy machine


# ---- where there is little to tell


def test_without_any_result_there_is_an_error_that_says_so() -> None:
    with pytest.raises(
        DataError, match=r"m2 against m1: none of 2 matches was judged \(nothing said\)"
    ):
        compared(results(None, None))
    with pytest.raises(DataError, match="none of 0"):
        compared([])


def test_all_ties_are_an_even_match_and_nothing_decided() -> None:
    told = compared(results(0.5, 0.5, 0.5))
    assert (told.win_rate, told.win_rate_interval) == (0.5, (0.5, 0.5))
    assert (told.decided, told.decided_rate, told.decided_interval) == (0, 0.5, (0.0, 1.0))
    assert told.length_controlled == 0.5


@pytest.mark.parametrize(("result", "rate"), [(1.0, 1.0), (0.0, 0.0)])
def test_winning_all_or_none_has_wilsons_interval_over_prompts(result: float, rate: float) -> None:
    # Wilson at 20 of 20: 1 / (1 + 1.96^2 / 20) = 0.839.
    rows = [outcome(n, result, f"p{n // 2}", (n, 3)) for n in range(40)]
    told = compared(rows)
    expected = pytest.approx((0.839, 1.0) if rate else (0.0, 0.161), abs=1e-3)
    assert (told.win_rate, told.decided_rate, told.length_controlled) == (rate, rate, rate)
    assert told.win_rate_interval == expected
    assert told.decided_interval == expected
    assert told.length_controlled_interval == expected


def test_a_side_that_wins_all_that_is_decided_is_not_certain_to() -> None:
    told = compared(results(1.0, 1.0, 1.0, *[0.5] * 97))
    assert told.decided_rate == 1.0
    assert told.decided_interval == pytest.approx((0.438, 1.0), abs=1e-3)  # Wilson at 3 of 3
    assert told.win_rate_interval[0] >= 0.5


def test_one_prompt_says_nothing_of_others() -> None:
    told = compared([outcome(n, n / 2, "p", (n + 1, 9)) for n in range(3)])
    assert (told.n, told.prompts, told.win_rate) == (3, 1, 0.5)
    for interval in (
        told.win_rate_interval,
        told.decided_interval,
        told.length_controlled_interval,
    ):
        assert interval == (0.0, 1.0)


def test_without_any_difference_in_length_the_controlled_rate_is_the_win_rate() -> None:
    told = compared(results(1.0, 1.0, 0.0, 0.5))
    assert told.length_controlled == told.win_rate
    assert told.length_controlled_interval == told.win_rate_interval


# ---- length


def test_a_gain_by_length_alone_vanishes_at_equal_length() -> None:
    # Whoever is longer wins 4 times in 5; the first is longer in 3 matches of 4, by 30 or -30.
    rows = [
        outcome(n, float((n % 4 < 3) == (n % 5 < 4)), lengths=(60, 30) if n % 4 < 3 else (30, 60))
        for n in range(400)
    ]
    told = compared(rows)
    assert told.win_rate == pytest.approx(0.75 * 0.8 + 0.25 * 0.2)
    assert told.length_controlled == pytest.approx(0.5, abs=1e-3)
    assert told.length_controlled_interval[0] < 0.5 < told.length_controlled_interval[1]


# ---- matches


def test_draw_meets_draw_of_the_same_prompt() -> None:
    first = [response("a", 0, "x"), response("a", 1, "y"), response("b", 0, "z")]
    second = [response("b", 0, "Z"), response("a", 1, "Y"), response("a", 0, "X")]
    found = matches(first, second)
    assert [(m.id, m.first, m.second) for m in found] == [
        ("a#0", "x", "X"), ("a#1", "y", "Y"), ("b#0", "z", "Z")
    ]  # fmt: skip
    assert (found[0].prompt_id, found[0].prompt) == ("a", "text of a")


def test_other_prompts_or_draws_cannot_be_compared() -> None:
    with pytest.raises(
        DataError, match="2 responses have no counterpart, such as number 0 to prompt a"
    ):
        matches([response("a", 0, "x")], [response("b", 0, "x")])
    with pytest.raises(DataError, match="number 1 to prompt a"):
        matches([response("a", 0, "x")], [response("a", 0, "x"), response("a", 1, "y")])
    other = replace(response("a", 0, "x"), prompt="another text")
    with pytest.raises(DataError, match="prompt a is not the same text"):
        matches([response("a", 0, "x")], [other])


# ---- from the command line


@pytest.mark.parametrize(
    ("second", "judge", "overrides", "said"),
    [
        ("tiny", "nowhere", [], "no model at 'nowhere'"),
        ("nowhere", "tiny", [], "no model at 'nowhere'"),
        ("missing.json", "tiny", [], r"missing\.json"),
        (
            "FILE",
            "tiny",
            ["sampling.n=2"],
            r"\(4 and 2 responses\) did not answer the same prompts",
        ),
    ],
)
def test_a_comparison_that_cannot_be_made_ends_before_the_first_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second: str,
    judge: str,
    overrides: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(versus, "respond", lambda *_: pytest.fail("a model was sampled"))
    prompts, file = tmp_path / "prompts.jsonl", tmp_path / "outputs.json"
    prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("Why?", "How?")))
    file.write_text(json.dumps([{"instruction": p, "output": "So."} for p in ("Why?", "How?")]))
    with pytest.raises(SelfImproveError, match=said):
        versus.compare_systems("tiny", str(file) if second == "FILE" else second, judge, overrides,
                               prompts=f"prompts:{prompts}", limit=None, seed=0)  # fmt: skip
