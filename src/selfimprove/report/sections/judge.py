"""The judge's card: how far its verdicts can be trusted, iteration by iteration."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return a group of cards for each set of judged responses, in the order of the run."""
    cards = (run.raw_summary or {}).get("judge_cards") or []
    sets = {card["set"]: card["truth"] for card in cards}
    return [
        {
            "set": name,
            "truth": truth,
            "cards": [_with_shares(card) for card in cards if card["set"] == name],
        }
        for name, truth in sets.items()
    ] or None


def _with_shares(card: dict[str, Any]) -> dict[str, Any]:
    bars = card["score_histogram"]
    most = max((bar["count"] for bar in bars), default=1)
    return {**card, "bars": [{**bar, "height": bar["count"] / most} for bar in bars]}
