"""What was run: the resolved recipe, and the versions it was run with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfimprove.report.run_folder import RunFolder


def figures(run: RunFolder) -> dict[str, Any]:
    """Return the recipe with dotted keys, and every version that a step was made with."""
    versions: dict[str, list[str]] = {}
    for step in run.steps:
        for package, version in step.record.get("versions", {}).items():
            known = versions.setdefault(package, [])
            if version not in known:
                known.append(version)
    finished = [s.record["finished"] for s in run.steps if "finished" in s.record]
    return {
        "values": dict(flattened(run.recipe, "")),
        "versions": versions,
        "last_step_finished": max(finished, default=None),
    }


def flattened(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every setting with its dotted name."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
