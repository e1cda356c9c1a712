"""What a method wrote about its run, read back and checked: `summary.json` and `lineage.json`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat

__all__ = ["Arm", "ArmKind", "Calibration", "Decision", "Headline", "Score", "Summary", "Unit"]

ArmKind: TypeAlias = Literal["base", "baseline", "method", "control"]
Unit: TypeAlias = Literal["share", "points", "wins"]
Interval: TypeAlias = Annotated[tuple[FiniteFloat, FiniteFloat], "95%, low and high"]


class Stored(BaseModel):
    """A record of another floor: known fields are checked, further ones are for other sections."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Change(Stored):
    """Before and after, and the paired difference."""

    before: FiniteFloat
    after: FiniteFloat
    difference: FiniteFloat
    interval: Interval


class Headline(Stored):
    """The one comparison that the run was made for; fractions, not percent, or points of a scale."""

    metric: str
    set: str | None = None
    """The set or sets, as a person would name them."""
    arm: str | None = None
    """Which arm is compared with the base."""
    before: FiniteFloat
    after: FiniteFloat
    difference: FiniteFloat
    interval: Interval
    n: int
    unit: Unit = "share"
    """share: fractions of questions; points: scores of responses; wins: fractions of comparisons, an
    even match before."""
    highest: FiniteFloat | None = None
    """The best score, where the unit is points."""
    flexible: Change | None = None
    """Of answers: the same by the flexible reading, where that says something else."""


class Paired(Stored):
    """An arm against the base on the same questions."""

    difference: FiniteFloat
    interval: Interval
    wins: int | None = None
    losses: int | None = None
    ties: int | None = None


class Flexible(Stored):
    """A score by the flexible reading: without a stated answer, the last one that a text names."""

    value: FiniteFloat
    interval: Interval | None = None
    unanswered: int | None = None
    versus_base: Paired | None = None


class Score(Stored):
    """One measured number of one arm; of answers, by the strict reading."""

    set: str
    domain: Literal["in", "out"] = "in"
    mode: str
    metric: str
    against: str | None = None
    """The opponent, where the value is a share of wins."""
    value: FiniteFloat
    interval: Interval | None = None
    n: int
    unanswered: int | None = None
    unfinished: int | None = None
    """Responses that did not end; each counts as the least."""
    mean_tokens: FiniteFloat | None = None
    versus_base: Paired | None = None
    flexible: Flexible | None = None


class Arm(Stored):
    """A model that was measured, or a way to use one."""

    name: str
    kind: ArmKind
    round: int | None = None
    step: str | None = None
    scores: tuple[Score, ...] = ()


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


class Decision(Stored):
    """Whether a round's student took its parent's place."""

    round: int
    promoted: bool
    difference: FiniteFloat | None = None
    interval: Interval | None = None
    n: int | None = None
    set: str | None = None
    reason: str = ""


class Share(Stored):
    """A share of questions, or a difference of two."""

    value: FiniteFloat
    interval: Interval


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


class Summary(Stored):
    """`summary.json`; a run that has one is finished."""

    title: str | None = None
    headline: Headline | None = None
    arms: tuple[Arm, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    gate: tuple[Decision, ...] = ()
    labels: tuple[Labels, ...] = ()


class Ancestor(Stored):
    """One model of the run's lineage."""

    round: int | None = None
    role: str
    name: str
    digest: str
    parent: str | None = None
    data_step: str | None = None
    data_digest: str | None = None
    promoted: bool | None = None
    reason: str | None = None
