"""One seed file, two uses: a prompt is either answered (IFT) or judged (EFT), never both (Sec. 2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, TypeAlias

from selfimprove.data.overlap import same_text
from selfimprove.data.sources import distinct
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.seeds import rng
from selfimprove.types import Demonstration, Ranked, UserPrompt

__all__ = ["LEAST", "SharedPrompt", "deal_shared", "ift_alone", "ranked_alone", "reviews_alone"]

Use: TypeAlias = Literal["ift", "eft"]

LEAST = 0.15
"""Of the prompts that are judged, so many at least are left to judging. With the paper's counts, 3,200
IFT examples from about 4,000 English trees, a fifth are left anyhow."""


@dataclass(frozen=True, slots=True)
class SharedPrompt:
    """A prompt that both kinds of seed data hold, and which of them keeps it."""

    key: str
    """As `same_text` gives it."""
    kept_by: Use


def deal_shared(
    answered: Iterable[str], judged: Iterable[str], least: float, seed: int
) -> list[SharedPrompt]:
    """Give every prompt that is both answered and judged to one of the two.

    To IFT; but where fewer than `least` of the judged prompts would be left, a seeded choice of the
    shared ones goes to EFT, never all that IFT has.
    """
    ours, theirs = dict.fromkeys(map(same_text, answered)), set(map(same_text, judged))
    shared = [key for key in ours if key in theirs]
    missing = ceil(least * len(theirs)) - (len(theirs) - len(shared))
    count = max(0, min(missing, len(shared), len(ours) - 1))
    dealt = set(rng(seed, "shared prompts").sample(shared, count))
    return [SharedPrompt(key, "eft" if key in dealt else "ift") for key in shared]


def ift_alone(
    rows: Sequence[Demonstration], shared: Sequence[SharedPrompt]
) -> Filtered[Demonstration]:
    """Leave out the demonstrations whose prompt is kept for judging."""
    given = {s.key for s in shared if s.kept_by == "eft"}
    kept = [row for row in rows if same_text(row.prompt) not in given]
    drops = (Drop("its prompt is kept for judging examples", len(rows) - len(kept)),)
    return Filtered(kept, (Funnel("demonstrations apart from EFT", len(rows), len(kept), drops),))


def ranked_alone(rows: Sequence[Ranked], shared: Sequence[SharedPrompt]) -> Filtered[Ranked]:
    """Leave out the rankings whose prompt is one of IFT; ids are unique, whatever was read twice."""
    given = {s.key for s in shared if s.kept_by == "ift"}
    alone = [row for row in rows if same_text(row.prompt) not in given]
    once = list({(same_text(row.prompt), row.responses): row for row in alone}.values())
    names = distinct(row.id for row in once)
    kept = [replace(row, id=name) for row, name in zip(once, names, strict=True)]
    drops = (
        Drop("its prompt is one of IFT", len(rows) - len(alone)),
        Drop("read before", len(alone) - len(once)),
    )
    return Filtered(kept, (Funnel("rankings apart from IFT", len(rows), len(kept), drops),))


def reviews_alone(
    rows: Sequence[Demonstration], asked: Sequence[UserPrompt], shared: Sequence[SharedPrompt]
) -> Filtered[Demonstration]:
    """Leave out the judging examples about a prompt that is one of IFT; `asked` has theirs, by id."""
    given = {s.key for s in shared if s.kept_by == "ift"}
    about = {prompt.id for prompt in asked if same_text(prompt.text) in given}
    kept = [row for row in rows if row.id not in about]
    drops = (Drop("its prompt is one of IFT", len(rows) - len(kept)),)
    return Filtered(kept, (Funnel("judging examples apart from IFT", len(rows), len(kept), drops),))
