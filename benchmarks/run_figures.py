"""Keeps the figures of a finished run in one file: summary, recipe, what each step cost and what made it.

    python benchmarks/run_figures.py RUN OUT --commit COMMIT COMMAND...

COMMIT is that of the code which made the run, COMMAND what was typed, one line an argument. Versions,
engines and the date are those that the run noted. Called on the machine of the run: its hardware is
noted, too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from machine import hardware

_COSTS = (
    "seconds",
    "tokens_sampled",
    "prompt_tokens",
    "tokens_trained",
    "peak_memory_mib",
    "training",
)
"""What a step notes of itself when it is done."""


def figures(run: Path, commit: str, commands: list[str]) -> dict[str, Any]:
    """Return what is kept of a run."""
    done = {file.parent.name: json.loads(file.read_text()) for file in run.glob("*/done.json")}
    steps = dict(sorted(done.items(), key=lambda step: step[1]["finished"]))
    engines = [engine for step in steps.values() for engine in step.get("engines", ())]
    return {
        "command": commands,
        "commit": commit,
        "date": max(step["finished"] for step in steps.values())[: len("2026-01-01")],
        "machine": hardware(),
        "versions": _told(step["versions"] for step in steps.values()),
        "engines": _told({k: v for k, v in engine.items() if k != "weights"} for engine in engines),
        "result": {
            "recipe": json.loads((run / "recipe.json").read_text()),
            "steps": {name: {cost: step[cost] for cost in _COSTS if step.get(cost)}
                      for name, step in steps.items()},
            "summary": json.loads((run / "summary.json").read_text()),
        },
    }  # fmt: skip


def _told(said: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return what was said, once each: more than one where a run went on elsewhere."""
    found: list[Mapping[str, str]] = []
    for told in said:
        if told not in found:
            found.append(told)
    return found


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("out", type=Path, help="the .json file that is written")
    parser.add_argument("--commit", required=True, help="of the code that made the run")
    parser.add_argument("command", nargs="+", help="what was typed")
    told = parser.parse_args()
    found = figures(told.run, told.commit, told.command)
    told.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
