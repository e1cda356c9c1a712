"""What lm-evaluation-harness says of the run, before and after, where it was asked (`selfimprove eval lm-eval RUN`)."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return its version, its options and every figure."""
    return run.harness
