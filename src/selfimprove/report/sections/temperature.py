"""How the sampling temperature was found, where the run looked for one."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the temperatures that were tried and the one that was chosen."""
    found = run.summary.temperature
    return None if found is None else found.model_dump(mode="json")
