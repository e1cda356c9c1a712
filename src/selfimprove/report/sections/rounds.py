"""What each round learned from: its prompts and pairs; and signs that the models collapse."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder

_MOST_TOPICS = 12


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return pairs, own prompts against the seeds, and the collapse signs of a run that has them."""
    held = run.summary
    if not held.pairs:
        return None
    return {
        "pairs": [pairs.model_dump(mode="json") for pairs in held.pairs],
        "prompts": [_prompts(one.model_dump(mode="json")) for one in held.own_prompts],
        "collapse": [signs.model_dump(mode="json") for signs in held.collapse],
        "warnings": [
            f"{signs.arm}: {warning}" for signs in held.collapse for warning in signs.warnings
        ],
    }


def _prompts(one: dict[str, Any]) -> dict[str, Any]:
    """Turn counts into shares, so that own and seed prompts can be set side by side."""
    totals = {side: max(sum(bar[side] for bar in one["lengths"]), 1) for side in ("own", "seed")}

    def shares(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**b, **{side: b[side] / totals[side] for side in totals}} for b in bars]

    return {
        **one,
        "lengths": shares(one["lengths"]),
        "topics": shares(one["topics"])[:_MOST_TOPICS],
    }
