"""Self-Instruct's similarity filter: is a text new, by ROUGE-L against everything kept before?

The same decisions as comparing each text with all others, in near-linear time. ROUGE-L F1 > t asks
for a common subsequence of more than t (a + b) / 2 of the a and b tokens, hence for at least as
many common tokens, hence (put in order, rare ones first) for one in the first few tokens of both
(the prefix filter of set-similarity joins). Only texts that share such a token are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from math import floor, nextafter
from typing import Final

__all__ = ["Novelty", "rouge_l", "words_of"]

_WORD: Final = re.compile(r"[^\W_]+")
_Element = tuple[str, int]


def words_of(text: str) -> tuple[str, ...]:
    """Return the lower-case words of a text: runs of letters and digits of any script.

    >>> words_of("Don't draw 2 maps!")
    ('don', 't', 'draw', '2', 'maps')
    """
    return tuple(_WORD.findall(text.lower()))


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the ROUGE-L F1 of two word sequences: 2 LCS / (a + b), 0 where both are empty.

    >>> rouge_l(("list", "two", "owls"), ("list", "owls"))
    0.8
    """
    total = len(one) + len(other)
    return 2 * _lcs(one, other) / total if total else 0.0


def _lcs(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, all of a row in one integer's bits."""
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(one)) - 1
    row = full  # a zero at bit i: the subsequence grows at word i
    for word in other:
        here = row & places.get(word, 0)
        row = ((row + here) | (row - here)) & full
    return len(one) - row.bit_count()


class Novelty:
    """Texts that were kept, ready to be compared with new ones."""

    def __init__(self, threshold: float, corpus: Iterable[str] = ()) -> None:
        """Start with nothing kept.

        Args:
            threshold: a text is too similar from above this ROUGE-L F1 on; one of the same words is anyhow.
            corpus: texts to learn from which words are rare; for speed alone, never for decisions.
        """
        self._threshold = min(threshold, nextafter(1.0, 0.0))
        self._commonness = Counter(word for text in corpus for word in words_of(text))
        self._kept: list[tuple[str, ...]] = []
        # Element -> (length of the text, place in its prefix) -> texts.
        self._index: dict[_Element, dict[tuple[int, int], list[int]]] = {}
        self._has_wordless = False

    def is_new(self, text: str) -> bool:
        """Tell whether no kept text is too similar; texts without any word are all alike."""
        if not words_of(text):
            return not self._has_wordless
        return next(self.similar(text), None) is None

    def similar(self, text: str) -> Iterator[int]:
        """Yield the places of the kept texts that are too similar, each once, in no order."""
        words = words_of(text)
        for number in self._candidates(words):
            if rouge_l(words, self._kept[number]) > self._threshold:
                yield number

    def keep(self, text: str) -> None:
        """Compare later texts with this one, too."""
        words = words_of(text)
        self._has_wordless |= not words
        for place, element in enumerate(self._prefix(words)):
            slots = self._index.setdefault(element, {})
            slots.setdefault((len(words), place), []).append(len(self._kept))
        self._kept.append(words)

    def _candidates(self, words: Sequence[str]) -> Iterator[int]:
        """Yield the kept texts that share an element early enough in both to be similar.

        From the first shared element on, either text must have as many elements left as have to
        be shared.
        """
        length = len(words)
        seen: set[int] = set()
        for place, element in enumerate(self._prefix(words)):
            for (other, its_place), numbers in self._index.get(element, {}).items():
                needed = _needed(self._threshold, length, other)
                if place + needed <= length and its_place + needed <= other:
                    yield from (n for n in numbers if n not in seen)
                    seen.update(numbers)

    def _prefix(self, words: Sequence[str]) -> list[_Element]:
        """Return the rarest elements, one of which any similar text must share.

        The k-th occurrence of a word is an element of its own, so that sets count as multisets do.
        """
        seen: Counter[str] = Counter()
        elements: list[_Element] = []
        for word in words:
            elements.append((word, seen[word]))
            seen[word] += 1
        elements.sort(key=lambda e: (self._commonness[e[0]], e))
        return elements[: len(words) - _needed_at_least(self._threshold, len(words)) + 1]


@cache
def _needed(threshold: float, one: int, other: int) -> int:
    """Return how many elements texts of these lengths must share to be too similar."""
    # From below, so that rounding never asks for more than ROUGE-L's own comparison does.
    least = max(floor(threshold * (one + other) / 2 - 1e-9), 1)
    while 2 * least / (one + other) <= threshold:
        least += 1
    return least


@cache
def _needed_at_least(threshold: float, length: int) -> int:
    """Return how many elements the most easily similar text would have to share."""
    found = (_needed(threshold, length, other) for other in range(1, length + 1))
    return min((n for other, n in enumerate(found, 1) if n <= other), default=length)
