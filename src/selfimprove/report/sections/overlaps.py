"""Training data that asks what is measured on: how much of it there was, and whether it was left out."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return a row for each training set and held-out set, and how many overlaps there are in all."""
    rows = run.summary.overlaps
    if not rows:
        return None
    found = sum(row.exact + row.near for row in rows)
    told = [row.model_dump(mode="json") for row in rows]
    return {"rows": told, "found": found, "removed": all(row.removed for row in rows)}
