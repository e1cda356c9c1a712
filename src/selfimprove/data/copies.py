"""Texts that hold the whole of another one, word for word, whatever stands around it.

A text of 20 words or more that another one holds in order is copied there. A shorter one may be a part
of another request (`Write a poem about autumn leaves`), so what stands around it must be set off from
it and tell nothing: an introduction that ends in a colon (`Tell me: ...`) or what follows its question
mark, of up to eight words without a number, name, sign or negation. Articles, `me`, `us` and `please` do
not count there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from selfimprove.data.compared_text import ComparedText, Counted

__all__ = ["copies"]

_BEGINNING: Final = 8  # words by which a longer text is looked up
_AROUND: Final = 8  # words around a short text
_FEWEST: Final = 3  # words of a short text that count
_FEWEST_WITHIN: Final = 4  # likewise, where others stand around it

Words: TypeAlias = tuple[str, ...]


def copies(
    ours: Sequence[ComparedText], theirs: Sequence[ComparedText]
) -> Iterator[tuple[int, int]]:
    """Yield the places of a text of `ours` that holds one of `theirs`; a short one also within a long."""
    yield from _long(ours, theirs)
    yield from _short(ours, theirs)
    yield from ((i, j) for j, i in _short(theirs, ours))


def _long(
    ours: Sequence[ComparedText], theirs: Sequence[ComparedText]
) -> Iterator[tuple[int, int]]:
    begun: dict[Words, dict[int, dict[Words, int]]] = {}  # by beginning, by length
    for j, text in enumerate(theirs):
        if not text.is_short:
            by_length = begun.setdefault(text.said[:_BEGINNING], {})
            by_length.setdefault(len(text.said), {}).setdefault(text.said, j)
    for i, text in enumerate(ours):
        said = text.said if begun else ()
        for start in range(len(said) - _BEGINNING + 1):
            for length, known in begun.get(said[start : start + _BEGINNING], {}).items():
                part = said[start : start + length]
                if part in known:
                    yield i, known[part]


def _short(
    ours: Sequence[ComparedText], theirs: Sequence[ComparedText]
) -> Iterator[tuple[int, int]]:
    known: dict[Words, list[int]] = {}
    for j, text in enumerate(theirs):
        if text.is_short:
            known.setdefault(text.counted.words, []).append(j)
    for i, text in enumerate(ours):
        for words in _parts(text.counted) if known else ():
            yield from ((i, j) for j in known.get(words, ()))


def _parts(text: Counted) -> Iterator[Words]:
    """Yield the whole, and what is set off from a few words that tell nothing."""
    size = len(text.words)
    for start in (n for n in text.colons if n <= _AROUND and not any(text.tells[:n])):
        for end in (n for n in text.asked if size - n <= _AROUND and not any(text.tells[n:])):
            if end - start >= (_FEWEST if end - start == size else _FEWEST_WITHIN):
                yield text.words[start:end]
