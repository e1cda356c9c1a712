"""Parts of a run's summary on labelled questions."""

from __future__ import annotations

from pydantic import FiniteFloat

from selfimprove.evaluation.summary.shared import Share, Stored

__all__ = ["Bin", "Calibration", "Labels"]


class Bin(Stored):
    """Questions whose winning answer had a vote share between `low` and `high`."""

    low: FiniteFloat
    high: FiniteFloat
    n: int
    confidence: FiniteFloat | None = None
    """Mean vote share in the bin; None where it is empty."""
    accuracy: FiniteFloat | None = None


class Calibration(Stored):
    """How far an arm's vote share can be trusted."""

    arm: str
    set: str
    bins: tuple[Bin, ...]
    expected_calibration_error: FiniteFloat | None = None


class Labels(Stored):
    """How good a round's votes were as labels, where training questions have gold answers."""

    round: int
    questions: int
    path: Share
    """One path is right."""
    vote: Share
    """The vote of a question's paths is."""
    difference: Share
    """Vote less path, paired by question."""
    kept_paths: int
    kept_right: FiniteFloat | None = None
