"""Every filter: what went in, what came out, and why the rest fell."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return the filters in the order in which their steps finished."""
    return [
        {"step": step.name, **funnel}
        for step in run.steps
        for funnel in step.record.get("funnels", ())
    ] or None
