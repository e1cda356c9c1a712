"""Preferences as people would give them, written by the tiny world: two drafts, one liked better.

The better draft is preferred, but for a share of careless choices; drafts of equal worth are drawn
anew. The oracle decides here and measures at the end, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.seeds_of_world import MOST, draft

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

    from selfimprove.tiny.instructions import Instruction, InstructionSplit

__all__ = ["NOISE", "preferences"]

NOISE: Final = 0.1
"""Share of the choices that fall on the worse draft."""


def preferences(split: InstructionSplit, limit: int, seed: int) -> list[tuple[str, str, str]]:
    """Return `limit` triples of instruction, chosen draft and rejected draft.

    An instruction comes twice only when all of its split have come once.
    """
    asked = instructions(split, min(limit, MOST[split]))
    random = rng(seed, "preferences", split)
    rows = []
    for number in range(limit):
        one = asked[number % len(asked)]
        worse, better = _drafts(one, random)
        careless = random.random() < NOISE
        rows.append((one.text, *((worse, better) if careless else (better, worse))))
    return rows


def _drafts(asked: Instruction, random: Random) -> tuple[str, str]:
    """Return two drafts that are not worth the same, the worse one first."""
    while True:
        drafts = [draft(asked, random) for _ in range(2)]
        worth = [score(asked.text, text) for text in drafts]
        if worth[0] != worth[1]:
            return (drafts[0], drafts[1]) if worth[0] < worth[1] else (drafts[1], drafts[0])
