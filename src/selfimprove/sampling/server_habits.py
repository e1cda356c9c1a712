"""Whether a server samples, and keeps seeds: a few short draws tell, before the first that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, final

__all__ = ["Habits", "habits_of"]

_SEEDS: Final = (11, 11, 12, 12)
_MORE: Final = (13, 14, 15)
_WORDLESS: Final = 8
"""Characters below which equal texts say nothing: a model may know but one such text."""


@final
@dataclass(frozen=True, slots=True)
class Habits:
    """What a server does with temperatures and seeds."""

    samples: bool = True
    """False: it gives one text, whatever the temperature and the seed."""
    keeps_seeds: bool = True
    """False: equal requests, under way at once, got different texts."""


def habits_of(draw: Callable[[int], str], at_once: int) -> Habits:
    """Look at draws of one prompt at a high temperature.

    Args:
        draw: gives the text drawn with a seed.
        at_once: requests that are under way at once in earnest.
    """
    first, again, other, other_again = _drawn(draw, _SEEDS, at_once)
    keeps = (first, other) == (again, other_again)
    if len({first, again, other, other_again}) > 1:
        return Habits(keeps_seeds=keeps)
    more = _drawn(draw, _MORE, at_once)
    return Habits(samples=len({first, *more}) > 1 or len(first) < _WORDLESS)


def _drawn(draw: Callable[[int], str], seeds: Sequence[int], at_once: int) -> list[str]:
    with ThreadPoolExecutor(min(at_once, len(seeds))) as pool:
        return list(pool.map(draw, seeds))
