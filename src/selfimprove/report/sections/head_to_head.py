"""Models against each other on the same prompts: who wins, and what is left at equal length."""

from __future__ import annotations

from typing import Any

from selfimprove.evaluation.summary import Match
from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return every comparison, with a word that says better only where the interval does."""
    return [told(one) for one in run.summary.head_to_head] or None


def told(one: Match) -> dict[str, Any]:
    """Return a comparison with its verdict."""
    return {**one.model_dump(mode="json"), "verdict": verdict(one.decided_interval)}


def verdict(interval: tuple[float, float]) -> str:
    """Say better or worse only where the whole interval of the decided rate is on that side."""
    low, high = interval
    if low > 0.5:
        return "better"
    return "worse" if high < 0.5 else "no difference shown"
