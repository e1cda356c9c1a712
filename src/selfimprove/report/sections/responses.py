"""One held-out prompt after another: how every model of the run answered it, and the true score."""

from __future__ import annotations

from typing import Any

from selfimprove.report.run_folder import RunFolder
from selfimprove.seeds import rng

_SHOWN = 12
_MOST_CHARACTERS = 1500


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return a seeded choice of prompts with the first response of every arm."""
    steps = {arm.name: arm.step for arm in run.summary.arms if arm.step}
    held = {name: _responses(run, s) for name, s in steps.items() if s.endswith("-responses")}
    held = {name: found for name, found in held.items() if found}
    if not held:
        return None
    prompts = list(next(iter(held.values())))
    chosen = rng(run.seed, "report", "responses").sample(prompts, min(_SHOWN, len(prompts)))
    return {
        "total": len(prompts),
        "prompts": [
            {
                "prompt": next(iter(held.values()))[key]["prompt"],
                "answers": [
                    {"arm": arm, **found[key]} for arm, found in held.items() if key in found
                ],
            }
            for key in chosen
        ],
    }


def _responses(run: RunFolder, step: str) -> dict[str, dict[str, Any]]:
    """Return the first response to each prompt, with its points where a scorer gave any."""
    if not any(s.name == step and s.done for s in run.steps):
        return {}
    rows = run.rows(step, ["prompt_id", "prompt", "index", "text"])
    truth = {
        (row["prompt_id"], row["index"]): row["score"]
        for row in run.rows(step.replace("-responses", "-truth"), ["prompt_id", "index", "score"])
    }
    return {
        row["prompt_id"]: {
            "prompt": row["prompt"],
            "text": _cut(row["text"]),
            "score": truth.get((row["prompt_id"], 0)),
        }
        for row in rows
        if row["index"] == 0
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} […]"
