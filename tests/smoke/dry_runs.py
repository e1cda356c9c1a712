"""What a dry run promised, held against the run that it was for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfimprove.runtime.launch import plan_recipe


def check_bounds(recipe: Path, overrides: list[str], root: Path) -> None:
    """Hold the rows and tokens of every step against their bounds; no step may be missing on either side."""
    planned = {step.name: step for step in plan_recipe(recipe, overrides, root).steps}
    made = {path.parent.name: json.loads(path.read_text()) for path in root.glob("*/done.json")}
    # Two models that are equal, weight by weight, are exported once.
    assert {name for name in planned if not name.endswith("-export")} <= made.keys()
    assert made.keys() <= planned.keys()
    for name, done in made.items():
        step = planned[name]
        assert step.state == "done", name
        assert _sampled(done) <= step.tokens_sampled, name
        assert done.get("tokens_trained", 0) <= step.tokens_trained, name
        assert step.rows is None or done["rows"] <= step.rows or "overlaps" in name, name


def _sampled(done: dict[str, Any]) -> int:
    trained: dict[str, int] = done.get("training", {})
    return int(done.get("tokens_sampled", 0) or trained.get("tokens_sampled", 0))
