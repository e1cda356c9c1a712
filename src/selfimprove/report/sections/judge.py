"""The judge's card: how far its verdicts can be trusted, iteration by iteration."""

from __future__ import annotations

from typing import Any

from selfimprove.evaluation.summary import Card
from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return a group of cards for each set of judged responses, in the order of the run."""
    sets: dict[str, list[Card]] = {}
    for card in run.summary.judge_cards:
        sets.setdefault(card.set, []).append(card)
    return [
        {
            "set": name,
            "truth": of_set[-1].truth,
            "by_chance": any(card.chance for card in of_set),
            "cards": [_with_shares(card) for card in of_set],
        }
        for name, of_set in sets.items()
    ] or None


def _with_shares(card: Card) -> dict[str, Any]:
    most = max((bar.count for bar in card.score_histogram), default=1)
    bars = [{**bar.model_dump(), "height": bar.count / most} for bar in card.score_histogram]
    return {**card.model_dump(mode="json"), "bars": bars}
