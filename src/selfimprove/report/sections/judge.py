"""The judge's card: how far its verdicts can be trusted, iteration by iteration."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return a group of cards for each set of judged responses, in the order of the run."""
    cards = (run.raw_summary or {}).get("judge_cards") or []
    sets: dict[str, list[dict[str, Any]]] = {}
    for card in cards:
        sets.setdefault(card["set"], []).append(card)
    return [
        {
            "set": name,
            "truth": of_set[-1]["truth"],
            "by_chance": any(card.get("chance") for card in of_set),
            "cards": [_with_shares(card) for card in of_set],
        }
        for name, of_set in sets.items()
    ] or None


def _with_shares(card: dict[str, Any]) -> dict[str, Any]:
    bars = card["score_histogram"]
    most = max((bar["count"] for bar in bars), default=1)
    return {**card, "bars": [{**bar, "height": bar["count"] / most} for bar in bars]}
