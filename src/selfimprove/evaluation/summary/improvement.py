"""Parts of a run's summary on gap rewards and chains of improvement."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from selfimprove.evaluation.summary.shared import Figure, Interval, Match, Stored

__all__ = [
    "Ablation",
    "AgainstTruth",
    "Confidence",
    "Example",
    "GapModel",
    "Improved",
    "Link",
    "OfDifference",
    "PairOfSystems",
    "ReadsReference",
    "SameTwice",
    "Stage",
    "Temperature",
]


class Confidence(Stored):
    """Preferences of which the gap model is about so sure."""

    low: FiniteFloat = Field(alias="from")
    confidence: FiniteFloat
    accuracy: Figure | None


class OfDifference(Stored):
    """Preferences whose responses truly differ by so many points."""

    difference: FiniteFloat
    accuracy: Figure | None


class AgainstTruth(Stored):
    """A gap model against what the responses are truly worth."""

    accuracy: Figure | None
    by_difference: tuple[OfDifference, ...]
    agreement: Figure | None
    """Of people's preferences with it."""


class GapModel(Stored):
    """How far a gap reward can be trusted on held-out preferences."""

    preferences: int
    unscored: int
    accuracy: Figure | None
    contrasts: dict[str, Figure | None]
    ordered: Figure | None
    means: dict[str, FiniteFloat] | None
    sign_agreement: Figure | None
    sign_agreement_centred: Figure | None
    antisymmetry: Figure | FiniteFloat | None
    antisymmetry_centred: Figure | FiniteFloat | None
    calibration: tuple[Confidence, ...]
    calibration_error: FiniteFloat | None
    truth: AgainstTruth | None = None


class Stage(Stored):
    """A stage of reinforcement learning."""

    step: str
    title: str


class Link(Stored):
    """One step of the chain of improvement, as R_PIT sees it."""

    step: int
    responses: str
    gains: str | None = None
    gaps: str | None = None
    """As it was called up to 0.1, with a row for the old response over itself, too."""
    gain: FiniteFloat | None
    interval: Interval | None
    won: FiniteFloat | None
    unchanged: FiniteFloat


class Ablation(Match):
    """One step of improvement without a part of the method, or with another."""

    name: str
    system: str
    keep_gap: Figure | None = None
    gaps: dict[str, Figure] | None = None
    """What the gaps of a reward of its own are made of: candidate, reference, interaction."""


class Temperature(Match):
    """One step of improvement, drawn at a temperature."""

    temperature: FiniteFloat


class PairOfSystems(Stored):
    """Any two systems by one scorer."""

    first: str
    second: str
    scorer: str
    win: FiniteFloat
    tie: FiniteFloat
    lose: FiniteFloat
    difference: FiniteFloat
    interval: Interval
    n: int


class SameTwice(Stored):
    """First steps that stay the same text when they improve another response."""

    different_references: int
    same_response: FiniteFloat | None


class Parts(Stored):
    """What was right in a reference, or is in what was made of it."""

    kept: tuple[str, ...]
    repaired: tuple[str, ...]
    """Right now, and was not."""
    broken: tuple[str, ...]
    """Was right, and is not now."""


class Improved(Stored):
    """A reference, and what M_PIT made of it."""

    reference: str
    improved: str
    parts: Parts | None = None
    """None: nobody knows what is right in them."""


class Example(Stored):
    """A prompt with two references, each improved."""

    prompt: str
    sides: tuple[Improved, ...]


class ReadsReference(Stored):
    """Whether M_PIT and R_PIT read the reference (`reference_use`)."""

    unmeasured: str | None = None
    """Why nothing was measured."""
    prompts: int | None = None
    different: int | None = None
    same_response: Figure | None = None
    swap: Figure | None = None
    copy_excess: Figure | None = None
    kept: Figure | None = None
    kept_without: Figure | None = None
    keep_gap: Figure | None = None
    parts: str | None = None
    gaps: dict[str, Figure] | None = None
    """What the gaps are made of: candidate, reference, interaction."""
    information: Figure | None = None
    placebo: Figure | None = None
    placebo_right: Figure | None = None
    examples: tuple[Example, ...] = ()
