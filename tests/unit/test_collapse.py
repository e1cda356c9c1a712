"""Signs of collapse: figures that can be counted by hand, and warnings that are due or not."""

from __future__ import annotations

import pytest

from selfimprove.evaluation.collapse import collapse
from selfimprove.types import Response


def response(prompt: str, index: int, text: str) -> Response:
    return Response(prompt, f"text of {prompt}", index, text, "stop", 3)


_FOUR = [
    response("p", 0, "an owl saw a fox"),
    response("p", 1, "an owl saw a fox"),
    response("q", 0, "a fox"),
    response("q", 1, ""),
]


def two_draws(first: str, second: str) -> list[Response]:
    """Return two responses to each of 20 prompts; the texts may name the prompt as {n}."""
    return [
        response(f"p{n}", index, text.format(n=n))
        for n in range(20)
        for index, text in enumerate((first, second))
    ]


_APART = {(f"p{n}", index): float(index) for n in range(20) for index in (0, 1)}
_HEALTHY = collapse("m1", two_draws("owl{n} saw a fox", "fox{n} saw an owl"), _APART, None)


def test_words_pairs_and_lengths_are_counted() -> None:
    found = collapse("m1", _FOUR, {}, None)
    assert found.distinct_1 == pytest.approx(5 / 12)  # an owl saw a fox, of 5 + 5 + 2 words
    assert found.distinct_2 == pytest.approx(4 / 9)  # pairs of 4 + 4 + 1, the last one seen before
    assert found.mean_length == pytest.approx((16 + 16 + 5 + 0) / 4)


def test_a_response_is_repeated_where_its_prompt_has_it_already() -> None:
    assert collapse("m1", _FOUR, {}, None).repeated == pytest.approx(1 / 4)
    elsewhere = [response(p, 0, "the same") for p in ("p", "q", "r")]
    assert collapse("m1", elsewhere, {}, None).repeated == 0


def test_ties_are_prompts_whose_scored_responses_agree() -> None:
    scores = {("p", 0): 3.0, ("p", 1): 3.0, ("q", 0): 2.0, ("q", 1): 4.0}
    assert collapse("m1", _FOUR, scores, None).share_ties == pytest.approx(1 / 2)
    # With one score alone there is nothing to be equal to.
    assert collapse("m1", _FOUR, {("p", 0): 3.0, ("q", 0): 2.0}, None).share_ties == 0


def test_nothing_at_all_is_described_without_an_error() -> None:
    found = collapse("m1", [], {}, None)
    assert (found.distinct_1, found.distinct_2, found.mean_length, found.warnings) == (0, 0, 0, ())
    after = collapse("m2", _FOUR, {}, found).warnings
    assert after[-1] == "responses are much longer than m1's: 9 characters, they were 0"


def test_like_its_parent_a_model_gets_no_warning() -> None:
    now = collapse("m2", two_draws("elk{n} met a cat", "cat{n} met an elk"), _APART, _HEALTHY)
    assert now.warnings == ()


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        # 160 words in each, 120 pairs; m1 has 40 + 2 + 2 different ones, this one 6.
        ("owl saw a fox", "fox saw an owl", "fewer different phrases than m1: 0.050 of all pairs"),
        ("owl{n} saw a fox", "owl{n} saw a fox", "50% of the responses repeat another; of m1's 0%"),
        ("owl{n} saw a fox" + " in{n}" * 5, "fox{n}" + " ran{n}" * 5, "responses are much longer"),
        ("owl{n}", "fox{n}", "responses are much shorter than m1's"),
    ],
)
def test_each_sign_has_its_warning(first: str, second: str, says: str) -> None:
    found = collapse("m2", two_draws(first, second), _APART, _HEALTHY).warnings
    assert any(w.startswith(says) for w in found), found


def test_ties_that_become_common_are_named() -> None:
    half = {key: score if int(key[0][1:]) < 10 else 0.0 for key, score in _APART.items()}
    now = collapse("m2", two_draws("elk{n} met a cat", "cat{n} met an elk"), half, _HEALTHY)
    assert now.warnings == ("50% of the prompts end in ties; of m1's 0%",)


def test_longer_texts_repeat_more_words_and_are_no_fewer_phrases() -> None:
    # Twice as long with the same number of different pairs: distinct-2 halves by nature.
    texts = [f"a{n} b{n} c{n}" for n in range(30)]
    short = collapse("m1", [response(f"p{n}", 0, t) for n, t in enumerate(texts)], {}, None)
    rows = [response(f"p{n}", 0, f"{t} {t}") for n, t in enumerate(texts)]
    long = collapse("m2", rows, {}, short)
    assert long.distinct_2 < 0.7 * short.distinct_2
    assert [w for w in long.warnings if "phrases" in w] == []
    assert any("longer" in w for w in long.warnings)


def test_too_many_ties_leave_nothing_to_learn_from() -> None:
    scores = {("p", 0): 3.0, ("p", 1): 3.0, ("q", 0): 2.0, ("q", 1): 2.0}
    found = collapse("m1", _FOUR, scores, None)
    assert found.warnings[0].startswith("100% of the prompts have responses of one score alone")


def test_the_plain_data_has_the_keys_of_the_summary() -> None:
    told = collapse("m1", _FOUR, {}, None).as_dict()
    assert list(told) == [
        "arm", "distinct_1", "distinct_2", "repeated", "share_ties", "mean_length",
        "warnings",
    ]  # fmt: skip
    assert told["warnings"] == []
