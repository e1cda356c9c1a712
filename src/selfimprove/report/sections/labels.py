"""How good the labels were that the model gave itself, against gold answers that it never saw."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return a row for each round whose training questions have gold answers."""
    return [labels.model_dump(mode="json") for labels in run.summary.labels] or None
