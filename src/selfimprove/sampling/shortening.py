"""What is asked, made to fit: the oldest turns go first, then the oldest text of what remains.

The system's turn, the headers of the chat template, BOS and the last turn stay. Rows that are
compared with each other (chosen and rejected) are shortened alike: both see the same prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from selfimprove.sampling.conversation import Asked, Spoken, transcript, turns_of
from selfimprove.types import Message

__all__ = ["Cut", "Fitted", "Shorten", "fitted", "inside", "oldest_first"]

# A guess at the characters of so many tokens errs on the short side and is made again.
_CAREFUL: Final = 0.8

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Cut:
    """How much is taken away."""

    exchanges: int = 0
    """Oldest turns of the user, each with what was replied."""
    characters: int = 0
    """Of the oldest turn that remains, from its beginning."""


Shorten: TypeAlias = Callable[[Asked, Cut], Asked | None]
"""From what is asked to a shorter form; None: there is not so much that could be taken away."""

_Turns: TypeAlias = tuple[Message, ...]


def oldest_first(asked: Asked, cut: Cut) -> Asked | None:
    """Shorten turns, a transcript, or a plain text, which is one turn.

    >>> oldest_first("First. Second.", Cut(characters=7))
    'Second.'
    """
    if not isinstance(asked, str):
        return _turns(asked, cut)
    turns = turns_of(asked)
    if turns is None:
        return None if cut.exchanges or cut.characters >= len(asked) else asked[cut.characters :]
    shorter = _turns(turns, cut)
    return None if shorter is None else transcript(shorter)


def inside(
    apart: Callable[[_Turns], tuple[_Turns, str]], together: Callable[[_Turns, str], _Turns]
) -> Shorten:
    """Shorten the conversation inside a request that was made of it and a text; then the text.

    What the request says around the two stays.
    """

    def shorten(asked: Asked, cut: Cut) -> Asked | None:
        turns = turns_of(asked) if isinstance(asked, str) else asked
        conversation, text = apart(turns or ())
        whole = _turns(conversation, Cut(cut.exchanges))
        if whole is None:
            return None
        oldest = next(turn for turn in whole if turn.role != "system")
        of_text = max(cut.characters - max(len(oldest.content) - 1, 0), 0)
        shorter = _turns(conversation, Cut(cut.exchanges, cut.characters - of_text))
        if shorter is None or of_text >= max(len(text), 1):
            return None
        made = together(shorter, text[of_text:])
        return transcript(made) if isinstance(asked, str) else made

    return shorten


def _turns(turns: _Turns, cut: Cut) -> _Turns | None:
    system = tuple(t for t in turns if t.role == "system")
    said = [t for t in turns if t.role != "system"]
    # What remains begins with a user's turn: many templates insist on it.
    starts = [n for n, t in enumerate(said) if n == 0 or t.role == "user"]
    if cut.exchanges >= len(starts):
        return None
    first, *rest = said[starts[cut.exchanges] :]
    if cut.characters >= max(len(first.content), 1):
        return None
    return (*system, Message(first.role, first.content[cut.characters :]), *rest)


@dataclass(frozen=True, slots=True)
class Fitted(Generic[R]):
    """Rows within a limit."""

    groups: list[tuple[R, ...] | None]
    """None: not even the shortest form of one of its rows fits."""
    shortened: int
    """Groups that lost some of what was asked, and fit now."""


def fitted(
    groups: Sequence[Sequence[Spoken]],
    encode: Callable[[Sequence[Spoken]], Sequence[R]],
    size: Callable[[R], int],
    limit: int,
    shorten: Shorten = oldest_first,
) -> Fitted[R]:
    """Encode groups of rows, what is asked in them shortened by as much as each group needs.

    Args:
        groups: what is asked and replied in the rows of each group, which are shortened alike.
        encode: from what is said to rows.
        size: of a row, in tokens.
        limit: in tokens.
        shorten: how.
    """
    cuts = [Cut()] * len(groups)
    found: list[tuple[R, ...] | None] = [None] * len(groups)
    waiting = {n: list(group) for n, group in enumerate(groups)}
    while waiting:
        rows = iter(encode([said for group in waiting.values() for said in group]))
        longer = {}
        for n, group in waiting.items():
            made = tuple(next(rows) for _ in group)
            longest = max(map(size, made))
            if longest <= limit:
                found[n] = made
            elif tried := _next(cuts[n], (groups[n], group), longest, limit, shorten):
                cuts[n], longer[n] = tried
        waiting = longer
    fit = [cut for cut, rows in zip(cuts, found, strict=True) if rows is not None]
    return Fitted(found, sum(cut != Cut() for cut in fit))


def _next(
    cut: Cut,
    group: tuple[Sequence[Spoken], Sequence[Spoken]],
    longest: int,
    limit: int,
    shorten: Shorten,
) -> tuple[Cut, list[Spoken]] | None:
    """Do without one more exchange; where none is left to go, without some more text."""
    whole, shorter = group
    characters = max(_characters(said) for said in shorter)
    more = max(math.ceil(_CAREFUL * (longest - limit) * characters / longest), 1)
    for next_cut in (
        Cut(cut.exchanges + 1, cut.characters),
        Cut(cut.exchanges, cut.characters + more),
    ):
        asked = [shorten(said.asked, next_cut) for said in whole]
        pairs = zip(whole, asked, strict=True)
        left = [said._replace(asked=shorter) for said, shorter in pairs if shorter is not None]
        if len(left) == len(whole):
            return next_cut, left
    return None


def _characters(said: Spoken) -> int:
    texts = (said.asked,) if isinstance(said.asked, str) else (turn.content for turn in said.asked)
    return sum(map(len, texts)) + len(said.reply)
