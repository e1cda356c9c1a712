"""Whether the model that improves responses reads the one it is given, and whether its reward pays for that."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.improvement import changed


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return the measures, and prompts side by side with what was kept, new and gone of each reference."""
    told = run.summary.reads_reference
    if told is None:
        return None
    return {
        **told.model_dump(mode="json"),
        "examples": [
            {
                "prompt": one.prompt,
                "sides": [
                    {
                        "words": changed(side.reference, side.improved),
                        "parts": side.parts and side.parts.model_dump(mode="json"),
                    }
                    for side in one.sides
                ],
            }
            for one in told.examples
        ],
    }
