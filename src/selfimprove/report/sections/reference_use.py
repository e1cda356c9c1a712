"""Whether the model that improves responses reads the one it is given, and whether its reward pays for that."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.improvement import changed


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the measures, and prompts side by side with what was kept, new and gone of each reference."""
    told = (run.raw_summary or {}).get("reads_reference")
    if not told or "unmeasured" in told:
        return told or None
    return {
        **{name: value for name, value in told.items() if name != "examples"},
        "examples": [
            {
                "prompt": one["prompt"],
                "sides": [changed(side["reference"], side["improved"]) for side in one["sides"]],
            }
            for one in told["examples"]
        ],
    }
