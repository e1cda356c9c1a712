"""What is left of the gain without a part of the method, and every system against every other."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.head_to_head import told


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the ablation table, and the pairs of systems by scorer."""
    table = run.summary.ablations
    if not table:
        return None
    pairs = [pair.model_dump(mode="json") for pair in run.summary.pairs_of_systems]
    return {
        "against": table[0].second,
        "rows": [told(row) for row in table],
        "reads": any(row.keep_gap for row in table),
        "scorers": [
            {"scorer": scorer, "pairs": [p for p in pairs if p["scorer"] == scorer]}
            for scorer in dict.fromkeys(p["scorer"] for p in pairs)
        ],
    }
