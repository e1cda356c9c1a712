"""The method beside its control arms: what the gain is worth once cheaper explanations are in."""

from __future__ import annotations

from typing import Any

from selfimprove.evaluation.summary import Arm
from selfimprove.report.run_folder import RunFolder
from selfimprove.report.sections.accuracy import measure, of_answers
from selfimprove.report.wording import verdict


def figures(run: RunFolder) -> dict[str, Any] | None:
    """Return, for every arm but the base, its paired differences to the base on one set."""
    arms = [arm for arm in run.summary.arms if arm.kind != "base"]
    shares = [s for arm in arms for s in arm.scores if of_answers(s)]
    if not any(arm.kind == "control" for arm in arms) or not shares:
        return None
    name = _set_of(run)
    columns = list(
        dict.fromkeys(
            measure(s) for arm in arms for s in arm.scores if s.set == name and s.versus_base
        )
    )
    return {"set": name, "columns": columns, "arms": [_row(arm, name, columns) for arm in arms]}


def _set_of(run: RunFolder) -> str | None:
    """Return the headline's set, or the first in-domain one."""
    headline = run.summary.headline
    scores = [score for arm in run.summary.arms for score in arm.scores]
    names = [score.set for score in scores if score.domain == "in"] or [s.set for s in scores]
    if headline is not None and headline.set in names:
        return headline.set
    return names[0] if names else None


def _row(arm: Arm, name: str | None, columns: list[str]) -> dict[str, Any]:
    paired = {measure(s): s.versus_base for s in arm.scores if s.set == name}
    cells = [paired.get(column) for column in columns]
    return {
        "arm": arm.name,
        "kind": arm.kind,
        "round": arm.round,
        "cells": [
            c and {**c.model_dump(mode="json"), "verdict": verdict(c.interval)} for c in cells
        ],
    }
