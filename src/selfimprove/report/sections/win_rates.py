"""How often every arm wins against the one before it, where a judge compares and gives no points."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.accuracy import WIN_RATE


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return one row an arm that was compared with another."""
    return [
        {"arm": arm.name, "kind": arm.kind, "round": arm.round, **score.model_dump(mode="json")}
        for arm in run.summary.arms
        for score in arm.scores
        if score.metric == WIN_RATE
    ] or None
