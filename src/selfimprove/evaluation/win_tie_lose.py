"""Two systems in shares: how often the one wins, ties and loses against the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from selfimprove.evaluation.intervals import mean
from selfimprove.types import Outcome

__all__ = ["signs_of", "win_tie_lose"]


def signs_of(outcomes: Sequence[Outcome]) -> list[tuple[str, int]]:
    """Return, with its prompt, who won each match that has a result: 1, 0 for a tie, or -1."""
    told = [(o.prompt_id, o.preference) for o in outcomes if o.preference is not None]
    return [(prompt, (share > 0.5) - (share < 0.5)) for prompt, share in told]


def win_tie_lose(signs: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return shares, and the win share less the share of losses, bootstrapped over prompts."""
    by_prompt: dict[str, list[int]] = {}
    for prompt, sign in signs:
        by_prompt.setdefault(prompt, []).append(sign)
    told = mean([fmean(found) for found in by_prompt.values()])
    counted = Counter(sign for _, sign in signs)
    return {
        "win": counted[1] / len(signs),
        "tie": counted[0] / len(signs),
        "lose": counted[-1] / len(signs),
        "difference": told.value,
        "interval": [told.low, told.high],
        "n": len(signs),
    }
