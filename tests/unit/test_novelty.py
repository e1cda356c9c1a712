"""The similarity filter decides as the comparison of all pairs does."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.data.novelty import Novelty, rouge_l, words_of
from selfimprove.seeds import rng
from selfimprove.tiny.instructions import some_instructions


def _filtered(texts, threshold):
    pool, kept = Novelty(threshold, texts), []
    for text in texts:
        kept.append(pool.is_new(text))
        if kept[-1]:
            pool.keep(text)
    return kept


def _all_pairs(texts, threshold):
    known: list[tuple[str, ...]] = []
    kept = []
    for text in texts:
        words = words_of(text)
        new = not any(
            rouge_l(words, other) > threshold or (not words and not other) for other in known
        )
        kept.append(new)
        if new:
            known.append(words)
    return kept


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat", "sat cat the", 1 / 3),
        ("a b c d", "b d", 2 * 2 / 6),
        ("a a b", "a b b", 2 * 2 / 6),
        ("a", "b", 0.0),
        ("", "", 0.0),
    ],
)
def test_rouge_l_by_hand(one, other, f1):
    assert rouge_l(words_of(one), words_of(other)) == pytest.approx(f1)


_WORDS = st.lists(st.sampled_from("abcd"), max_size=7).map(" ".join)


@given(st.lists(_WORDS, max_size=9), st.sampled_from([0, 0.2, 0.5, 0.6, 2 / 3, 0.7, 0.8, 0.9, 1]))
def test_small_texts_fare_as_in_the_comparison_of_all_pairs(texts, threshold):
    assert _filtered(texts, threshold) == _all_pairs(texts, threshold)


def _made_up(count):
    """Texts of frequent and rare words, a third of them small changes of earlier ones."""
    draw = rng(0, "novelty")
    texts: list[str] = []
    for _ in range(count):
        if texts and draw.random() < 0.33:
            words = draw.choice(texts).split()
            for _ in range(draw.randint(0, 6)):
                words[draw.randrange(len(words))] = f"w{int(draw.paretovariate(0.6)) % 4000}"
        else:
            words = [f"w{int(draw.paretovariate(0.6)) % 4000}" for _ in range(draw.randint(4, 30))]
        texts.append(" ".join(words))
    return texts


@pytest.mark.slow
def test_a_thousand_prompts_fare_as_in_the_comparison_of_all_pairs():
    asked = some_instructions("corpus", rng(0, "novelty"))
    texts = [*_made_up(500), *(one.text for one in islice(asked, 500))]
    found = _filtered(texts, 0.7)
    assert found == _all_pairs(texts, 0.7)
    assert 200 < sum(found) < 800


def test_texts_without_words_are_all_alike():
    assert _filtered(["?!", "...", "word"], 0.7) == [True, False, True]
