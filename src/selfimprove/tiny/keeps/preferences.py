"""Preferences about who keeps what: of two drafts, the one with more right parts is preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from selfimprove.errors import DataError
from selfimprove.seeds import rng
from selfimprove.tiny.keeps.oracle import right_parts
from selfimprove.tiny.keeps.world import (
    KeepsSplit,
    answer,
    of_split,
    part,
    people,
    question,
    things,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random  # noqa: TID251 - the type alone

    from selfimprove.tiny.keeps.world import Thing

__all__ = ["NOISE", "keeps_split", "preferences"]

NOISE: Final = 0.1
"""Share of the choices that fall on the worse draft."""
_QUALITY: Final = (0.1, 0.7)
"""The probability that a draft names the keeper is drawn evenly from this range."""


def keeps_split(name: str) -> KeepsSplit:
    """Return the split of this world that is called so.

    Raises:
        DataError: there is none.
    """
    splits: tuple[KeepsSplit, ...] = get_args(KeepsSplit)
    for split in splits:
        if split == name:
            return split
    raise DataError(
        f"the world of who keeps what has no split {name!r}; there are {', '.join(splits)}"
    )


def preferences(split: KeepsSplit, limit: int, seed: int) -> list[tuple[str, str, str]]:
    """Return `limit` triples of question, chosen draft and rejected draft, about the villages of one split."""
    random = rng(seed, "who keeps what", "preferences", split)
    rows = []
    for _ in range(limit):
        wanted = things(of_split(split), random)
        asked = question(wanted)
        worse, better = _drafts(wanted, asked, random)
        careless = random.random() < NOISE
        rows.append((asked, *((worse, better) if careless else (better, worse))))
    return rows


def _drafts(wanted: Sequence[Thing], asked: str, random: Random) -> tuple[str, str]:
    """Return two drafts that are not worth the same, the worse one first."""
    while True:
        drafts = [draft(wanted, random) for _ in range(2)]
        worth = [len(right_parts(asked, text)) for text in drafts]
        if worth[0] != worth[1]:
            return (drafts[0], drafts[1]) if worth[0] < worth[1] else (drafts[1], drafts[0])


def draft(wanted: Sequence[Thing], random: Random) -> str:
    """Return a response of hidden quality: a person for each thing, and what that person really keeps."""
    named = people(wanted, random.uniform(*_QUALITY), random)
    return answer(part(thing, who) for thing, who in zip(wanted, named, strict=True))
