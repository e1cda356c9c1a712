"""What is left of the gain without a part of the method, and every system against every other."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.head_to_head import verdict


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the ablation table, and the pairs of systems by scorer."""
    summary = run.raw_summary or {}
    table = summary.get("ablations")
    if not table:
        return None
    pairs = summary.get("pairs_of_systems") or []
    return {
        "against": table[0]["second"],
        "rows": [{**row, "verdict": verdict(row["decided_interval"])} for row in table],
        "scorers": [
            {"scorer": scorer, "pairs": [p for p in pairs if p["scorer"] == scorer]}
            for scorer in dict.fromkeys(p["scorer"] for p in pairs)
        ],
    }
