"""The mean score of every arm's responses, in points of a scale, with its length beside it."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.accuracy import POINTS


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return one row an arm that was scored in points."""
    return [
        {
            "arm": arm.name,
            "kind": arm.kind,
            "round": arm.round,
            **score.model_dump(mode="json"),
        }
        for arm in run.summary.arms
        for score in arm.scores
        if score.metric == POINTS
    ] or None
