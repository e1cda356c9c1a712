"""Every measured score: sets in and out of the training domain, ways of answering, arms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfimprove.evaluation.summary import Arm, Score
from selfimprove.report.run_folder import RunFolder

POINTS = "mean score"
"""A metric in points of a scale, which has a section of its own."""
WIN_RATE = "win rate"
"""A share of comparisons won, which has a section of its own."""

_MODES = {
    "standard": "direct answer",
    "cot": "chain of thought",
    "self_consistency": "self-consistency",
}


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return a panel for each set, in-domain sets first; in it a group of arms for each measure."""
    scores = [(arm, score) for arm in run.summary.arms for score in arm.scores if of_answers(score)]
    sets = dict.fromkeys(
        (score.domain, score.set) for _, score in sorted(scores, key=lambda s: s[1].domain != "in")
    )
    return [
        {"set": name, "domain": domain, "groups": list(_groups(name, scores))}
        for domain, name in sets
    ] or None


def of_answers(score: Score) -> bool:
    """Tell whether answers were right or wrong, and not responses better or worse."""
    return score.metric not in (POINTS, WIN_RATE)


def measure(score: Score) -> str:
    """Name what was measured: how the model was asked, and what was counted.

    >>> measure(Score(set="test", mode="cot", metric="accuracy", value=0.5, n=10))
    'chain of thought, accuracy'
    """
    return f"{_MODES.get(score.mode, score.mode.replace('_', ' '))}, {score.metric}"


def _groups(name: str, scores: list[tuple[Arm, Score]]) -> Iterator[dict[str, Any]]:
    held = [(arm, score) for arm, score in scores if score.set == name]
    for wanted in dict.fromkeys(measure(score) for _, score in held):
        rows = [
            {
                "arm": arm.name,
                "kind": arm.kind,
                "round": arm.round,
                **score.model_dump(mode="json", exclude={"set", "domain"}),
            }
            for arm, score in held
            if measure(score) == wanted
        ]
        yield {"measure": wanted, "arms": rows}
