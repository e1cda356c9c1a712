"""Parts of a run's summary that every method writes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat

__all__ = [
    "Ancestor",
    "Arm",
    "ArmKind",
    "Bar",
    "Change",
    "Decision",
    "Figure",
    "Flexible",
    "Headline",
    "Interval",
    "Match",
    "Overlap",
    "Paired",
    "Score",
    "Share",
    "Stored",
    "Unit",
]

ArmKind: TypeAlias = Literal["base", "baseline", "method", "control"]
Unit: TypeAlias = Literal["share", "points", "wins"]
Interval: TypeAlias = Annotated[tuple[FiniteFloat, FiniteFloat], "95%, low and high"]


class Stored(BaseModel):
    """A part of it; what a later version wrote beside it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Share(Stored):
    """A share, or a difference of two, with its 95 % interval."""

    value: FiniteFloat
    interval: Interval


class Figure(Share):
    """A mean or a share over so many."""

    n: int


class Change(Stored):
    """Before and after, and the paired difference."""

    before: FiniteFloat
    after: FiniteFloat
    difference: FiniteFloat
    interval: Interval
    n: int | None = None


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


class Match(Stored):
    """One system against another on the same prompts, draw by draw; a win is the first one's."""

    first: str
    second: str
    judge: str
    set: str
    n: int
    prompts: int
    wins: int
    ties: int
    losses: int
    unscored: int
    """Pairs without a result."""
    win_rate: FiniteFloat
    """Ties count half."""
    win_rate_interval: Interval
    standard_error: FiniteFloat | None = None
    decided: int
    decided_rate: FiniteFloat
    """Wins of those that were decided."""
    decided_interval: Interval
    length_controlled: FiniteFloat | None = None
    """The win rate if both were equally long."""
    length_controlled_interval: Interval | None = None
    first_length: FiniteFloat
    """Mean, in characters."""
    second_length: FiniteFloat


class Decision(Stored):
    """Whether a round's student took its parent's place."""

    round: int
    promoted: bool
    difference: FiniteFloat | None = None
    interval: Interval | None = None
    wins: int | None = None
    losses: int | None = None
    ties: int | None = None
    n: int | None = None
    set: str | None = None
    reason: str = ""
    tried: tuple[Match, ...] = ()
    """Every checkpoint of the child against the parent."""


class Overlap(Stored):
    """Training rows that ask what a held-out set asks."""

    training: str
    held_out: str
    rows: int
    exact: int
    near: int
    removed: bool


class Bar(Stored):
    """Responses with one score."""

    score: int
    count: int


class Ancestor(Stored):
    """One model of the run's lineage."""

    round: int | None = None
    role: str
    name: str
    digest: str
    exported: str | None = None
    """Of the model as it leaves the run."""
    parent: str | None = None
    data_step: str | None = None
    data_digest: str | None = None
    promoted: bool | None = None
    reason: str | None = None
