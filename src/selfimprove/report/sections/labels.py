"""How good the labels were that the model gave itself, against truth it never saw."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return what was measured about the labels, by name; unmeasured numbers are left out."""
    labels = run.summary.labels or {}
    return {key: value for key, value in labels.items() if value is not None} or None
