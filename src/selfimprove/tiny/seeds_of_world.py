"""Seed data as people would give it, written by the tiny world: demonstrations, reviews, rankings.

People are careless: each verdict that decides between drafts, or that a review states, is turned
over now and then. The oracle is what they would say if they were not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from selfimprove.seeds import rng
from selfimprove.tiny.corpus import QUALITY, drafted
from selfimprove.tiny.instructions import Instruction, instructions, respond
from selfimprove.tiny.oracle import noisy, review, review_request, verdicts
from selfimprove.types import Demonstration

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

    from selfimprove.tiny.instructions import InstructionSplit

__all__ = ["MOST", "demonstrations", "draft", "reviews"]

MOST: Final[dict[InstructionSplit, int]] = {"train": 1900, "dev": 300, "test": 600}
"""Instructions that a split gives at most; the world has hardly more."""

_CHOOSING_NOISE: Final = 0.1
_REVIEW_NOISE: Final = 0.03


def draft(asked: Instruction, random: Random) -> str:
    """Return a response of hidden quality."""
    return respond(asked, drafted(random.uniform(*QUALITY), random), random)


def demonstrations(split: InstructionSplit, limit: int, seed: int) -> list[Demonstration]:
    """Return instructions, each with the better of two drafts: what people rank first.

    They are the first of the split; reviews are of the last.
    """
    random = rng(seed, "demonstrations", split)
    rows = []
    for number, asked in enumerate(instructions(split, limit)):
        drafts = [draft(asked, random) for _ in range(2)]
        points = [_points(asked, text, random) for text in drafts]
        best = drafts[points.index(max(points))]
        rows.append(Demonstration(f"tiny-{split}-{number}", "tiny", asked.text, best))
    return rows


def _points(asked: Instruction, text: str, random: Random) -> int:
    return sum(noisy(verdicts(asked.text, text), random, _CHOOSING_NOISE).values())


def reviews(split: InstructionSplit, limit: int, seed: int) -> list[Demonstration]:
    """Return reviews of drafts, asked for as a judge is asked, no score more common than another.

    As in the paper's seed data the commonest scores are cut down: here to an even share of `limit`.
    """
    random = rng(seed, "reviews", split)
    of_score: dict[int, list[Demonstration]] = {}
    share = -(-limit // 6)
    for number, asked in enumerate(reversed(instructions(split, MOST[split]))):
        if sum(len(rows) for rows in of_score.values()) == limit:
            break
        text = draft(asked, random)
        found = noisy(verdicts(asked.text, text), random, _REVIEW_NOISE)
        rows = of_score.setdefault(sum(found.values()), [])
        if len(rows) < share:
            said = review(found, asked.text, text)
            request = review_request(asked.text, text)
            rows.append(Demonstration(f"tiny-review-{split}-{number}", "tiny", request, said))
    return [row for score in sorted(of_score) for row in of_score[score]]
