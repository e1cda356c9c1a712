"""Whether the vote share can be trusted: in each bin of it, the share of right answers."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return one chart's bins for each measured arm and set."""
    return [chart.model_dump(mode="json") for chart in run.summary.calibration] or None
