"""Which rounds were promoted: a student that is worse than its parent does not replace it."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return the gate's decision on each round."""
    return [decision.model_dump(mode="json") for decision in run.summary.gate] or None
