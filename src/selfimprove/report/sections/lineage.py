"""Which model came from which, on which data, and whether it was kept."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return the run's models in the order in which it made them."""
    return [model.model_dump(mode="json") for model in run.lineage] or None
