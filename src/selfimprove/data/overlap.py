"""Training texts that are, or nearly are, held-out ones: found, counted, told apart from look-alikes.

exact: the same words, numbers and signs in the same order; case, spacing and the marks that only
    punctuate a sentence do not count.
near: the same words in the same order, whatever stands around them (`data.copies`); or, of 20 words or
    more, the same but for one in ten, and nothing differs that makes another question of it:
    - a number, a name, a sign (+, (, %) or a negation on one side alone or in another place;
    - more than eight words in a row; so many are allowed before or behind a text, too;
    - what fills the slot of a template: of all the texts at hand, three or more have different words
      between the same two words before and the same two behind.
    List marks, headings, markup and answers around a question do not count, nor whether its numbers are
    in words, nor whether what it asks comes first or last (`data.compared_text`).

So `A fox with lamps` is no repetition of `A fox with bells`, nor is any question of the tiny world or
of BIG-Bench Hard of another one with other values; a question that was reworded a little is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, TypeAlias

from selfimprove.data.compared_text import ComparedText
from selfimprove.data.copies import copies
from selfimprove.data.novelty import Novelty

__all__ = ["HeldOutTexts", "Overlaps", "find_overlaps", "same_text"]

_CANDIDATES: Final = 0.8  # ROUGE-L F1 above which two texts are looked at word by word
_WITHIN: Final = 0.1  # share of a longer text's words that may differ within it
_LONGEST_CHANGE: Final = 8  # words
_SLOT_VALUES: Final = 3
_LONGEST_VALUE: Final = 3  # words

Context: TypeAlias = tuple[str, str, str, str]
"""Two words before a change, and two behind it; empty at the ends of a text."""


@dataclass(frozen=True, slots=True)
class HeldOutTexts:
    """Texts that nothing may be learned from."""

    name: str
    """What the set is called, e.g. `gsm8k test`."""
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Which texts of a training set repeat texts of one held-out set."""

    name: str
    """Of the held-out set."""
    exact: Mapping[int, int]
    """Places of the training texts, each with the place of the held-out text that it is."""
    near: Mapping[int, int]
    """Likewise, of those that nearly are one; none of them is in `exact`."""

    @property
    def places(self) -> frozenset[int]:
        """Places of all training texts that repeat a held-out one."""
        return frozenset((*self.exact, *self.near))


@dataclass(frozen=True, slots=True)
class _Change:
    """Words within two texts that differ."""

    context: Context
    words: int
    """How many, on the side that has more."""


def same_text(text: str) -> str:
    """Return what is equal for texts that are exactly the same, as this file means it.

    >>> same_text("Why, Ada?") == same_text("why  ada")
    True
    """
    return ComparedText(text).key


def find_overlaps(training: Sequence[str], held_out: Sequence[HeldOutTexts]) -> list[Overlaps]:
    """Find the training texts that are, or nearly are, texts of each held-out set."""
    ours = [ComparedText(text) for text in training]
    theirs = [[ComparedText(text) for text in some.texts] for some in held_out]
    # All that may be near, before it is known what is a template.
    close = [list(_close(ours, some)) for some in theirs]
    contexts = {c.context for pairs in close for _, _, changes in pairs for c in changes}
    slots = _slots([*ours, *(t for some in theirs for t in some)], contexts)
    return [
        _overlaps(some.name, ours, texts, pairs, slots)
        for some, texts, pairs in zip(held_out, theirs, close, strict=True)
    ]


def _overlaps(
    name: str,
    ours: Sequence[ComparedText],
    theirs: Sequence[ComparedText],
    pairs: Iterable[tuple[int, int, list[_Change]]],
    slots: frozenset[Context],
) -> Overlaps:
    place = {text.key: number for number, text in reversed(list(enumerate(theirs)))}
    exact = {i: place[text.key] for i, text in enumerate(ours) if text.key in place}
    near: dict[int, int] = {}
    for i, j in copies(ours, theirs):
        if i not in exact:
            near.setdefault(i, j)
    for i, j, changes in pairs:
        if i not in exact and not any(c.context in slots for c in changes):
            near.setdefault(i, j)
    return Overlaps(name, exact, near)


def _close(
    ours: Sequence[ComparedText], theirs: Sequence[ComparedText]
) -> Iterator[tuple[int, int, list[_Change]]]:
    """Yield pairs of similar longer texts that tell the same, with what differs within them."""
    telling: dict[tuple[str, ...], list[int]] = {}
    for j, text in _longer(theirs):
        telling.setdefault(text.telling, []).append(j)
    pools: dict[tuple[str, ...], Novelty] = {}
    for i, text in _longer(ours):
        told = text.telling
        alike = telling.get(told)
        if alike is None:
            continue
        if told not in pools:
            pools[told] = _pool([theirs[j] for j in alike])
        for number in pools[told].similar(" ".join(text.words)):
            changes = _changes(text, theirs[alike[number]])
            if changes is not None:
                yield i, alike[number], changes


def _longer(texts: Sequence[ComparedText]) -> Iterator[tuple[int, ComparedText]]:
    return ((n, text) for n, text in enumerate(texts) if not text.is_short)


def _pool(texts: Sequence[ComparedText]) -> Novelty:
    joined = [" ".join(text.words) for text in texts]
    pool = Novelty(_CANDIDATES, joined)
    for words in joined:
        pool.keep(words)
    return pool


def _changes(ours: ComparedText, theirs: ComparedText) -> list[_Change] | None:
    """Return what differs within two texts; None where it makes another question of one."""
    one, other = ours.lowered, theirs.lowered
    found = []
    for kind, a, b, c, d in _opcodes(one, other):
        if kind == "equal":
            continue
        if max(b - a, d - c) > _LONGEST_CHANGE:
            return None
        if not _is_at_an_end(kind, (a, b, len(one)), (c, d, len(other))):
            if any(word[0].isupper() for word in (*ours.words[a:b], *theirs.words[c:d])):
                return None
            found.append(_Change(_context(one, a, b), max(b - a, d - c)))
    shorter = min(len(one), len(other))
    return found if sum(c.words for c in found) <= _WITHIN * shorter else None


def _opcodes(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield difflib's opcodes; what both begin and end with is not searched, as it may be a passage."""
    shorter = min(len(one), len(other))
    begins = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    left = shorter - begins
    ends = next((n for n in range(left) if one[-1 - n] != other[-1 - n]), left)
    yield "equal", 0, begins, 0, begins
    middle = one[begins : len(one) - ends], other[begins : len(other) - ends]
    for kind, *places in SequenceMatcher(None, *middle, autojunk=False).get_opcodes():
        a, b, c, d = (begins + place for place in places)
        yield kind, a, b, c, d
    yield "equal", len(one) - ends, len(one), len(other) - ends, len(other)


def _is_at_an_end(kind: str, ours: tuple[int, int, int], theirs: tuple[int, int, int]) -> bool:
    """Tell whether words stand before or behind all of the other text: (start, end, length)."""
    (a, b, one), (c, d, other) = ours, theirs
    return kind != "replace" and (a == c == 0 or (b == one and d == other))


def _context(words: Sequence[str], start: int, end: int) -> Context:
    padded = ["", "", *words, "", ""]
    return (padded[start], padded[start + 1], padded[end + 2], padded[end + 3])


def _slots(texts: Sequence[ComparedText], contexts: set[Context]) -> frozenset[Context]:
    """Return the contexts that hold so many different words that these are values of a template."""
    values: dict[Context, set[tuple[str, ...]]] = {context: set() for context in contexts}
    starts = {context[:2] for context in contexts}
    for text in texts if contexts else ():
        words = text.lowered
        before = zip(["", "", *words], ["", *words], strict=False)
        for start in (n for n, two in enumerate(before) if two in starts):
            for end in range(start, min(start + _LONGEST_VALUE, len(words)) + 1):
                context = _context(words, start, end)
                if context in values:
                    values[context].add(tuple(words[start:end]))
    return frozenset(c for c, found in values.items() if len(found) >= _SLOT_VALUES)
