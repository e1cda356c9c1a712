"""How far the gap reward can be trusted, beside the difference of two plain rewards."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return one card a model, as `gap_quality` measured it on held-out preferences."""
    found = run.summary.gap_models
    titles = {"gap": "R_PIT, the trained gap", "difference": "difference of R_P"}
    return [
        {"title": titles.get(name, name), **card.model_dump(mode="json", by_alias=True)}
        for name, card in found.items()
    ] or None
