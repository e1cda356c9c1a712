"""Which parts of a response about who keeps what are right.

For seed data and measurement alone: no method's loop may read it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from selfimprove.tiny.keeps.world import PARTS, THINGS, in_words, keeper, part, villages

__all__ = ["is_asked", "right_parts"]

_QUESTION: Final = re.compile(r"Who keeps what\?((?: \d \w+ \w+: who what\.)+)")
_ASKED: Final = re.compile(r" \d (\w+ \w+):")


def is_asked(prompt: str) -> bool:
    """Tell whether a prompt asks who keeps some things."""
    return _QUESTION.fullmatch(prompt) is not None


def right_parts(prompt: str, response: str) -> frozenset[str]:
    """Return the parts of a response that are right, each in its place, word by word.

    >>> from selfimprove.tiny.keeps.world import answer, question
    >>> wanted = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    >>> len(right_parts(question(wanted), answer(part(t, keeper(t)) for t in wanted[:4])))
    4
    """
    found = _QUESTION.fullmatch(prompt)
    if found is None:
        return frozenset()
    wanted = (_right().get(thing, "") for thing in _ASKED.findall(found[1]))
    said = [part.strip() for part in response.removesuffix(".").split(". ")]
    pairs = enumerate(zip(wanted, said[:PARTS], strict=False), 1)
    return frozenset(part for k, (right, part) in pairs if part == f"{k} {right}")


@cache
def _right() -> dict[str, str]:
    """Return the right part of a response behind every thing's name."""
    everything = (
        (village, thing) for village in range(len(villages())) for thing in range(len(THINGS))
    )
    return {in_words(thing): part(thing, keeper(thing)) for thing in everything}
