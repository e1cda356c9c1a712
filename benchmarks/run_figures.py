"""Keeps the figures of a finished run in one file: summary, recipe, what each step cost, the machine.

    python benchmarks/run_figures.py RUN OUT COMMAND...

COMMAND is what was typed, one line an argument. Called from the checkout that the run was made by, and on its
machine: both are noted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from machine import told_of

_COSTS = (
    "seconds",
    "tokens_sampled",
    "prompt_tokens",
    "tokens_trained",
    "peak_memory_mib",
    "training",
)
"""What a step notes of itself when it is done."""


def _steps(run: Path) -> dict[str, Any]:
    """Return what each step of a run cost, by its name, in the order in which they ended."""
    done = {file.parent.name: json.loads(file.read_text()) for file in run.glob("*/done.json")}
    ordered = sorted(done, key=lambda name: done[name]["finished"])
    return {name: {k: done[name][k] for k in _COSTS if done[name].get(k)} for name in ordered}


def main(run: Path, out: Path, commands: list[str]) -> None:
    """Write the file."""
    found = {
        "recipe": json.loads((run / "recipe.json").read_text()),
        "steps": _steps(run),
        "summary": json.loads((run / "summary.json").read_text()),
    }
    out.write_text(json.dumps(told_of(found, commands), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
