"""Parts of a run's summary on judges and on what a model wrote for itself."""

from __future__ import annotations

from pydantic import FiniteFloat

from selfimprove.evaluation.summary.shared import Bar, Figure, Stored

__all__ = ["Card", "Collapse", "Length", "OwnPrompts", "Pairs", "Topic"]


class Card(Stored):
    """How far a judge can be trusted on one set; None where the data says nothing of it."""

    arm: str
    set: str
    truth: str | None
    """Who knows what the responses are worth."""
    responses: int
    parse_rate: FiniteFloat | None
    unscored: dict[str, int]
    """Why there was no score, and how often."""
    votes: int | None = None
    self_consistency: FiniteFloat | None = None
    vote_spread: FiniteFloat | None = None
    pairwise_accuracy: Figure | None = None
    pairwise_accuracy_strict: Figure | None = None
    tied_pairs: Figure | None = None
    exact_match: Figure | None = None
    five_best: Figure | None = None
    spearman: FiniteFloat | None = None
    kendall: FiniteFloat | None = None
    spearman_ties_as_zero: FiniteFloat | None = None
    kendall_ties_as_zero: FiniteFloat | None = None
    correlated_prompts: int | None = None
    undefined_correlations: dict[str, int] | None = None
    chance: dict[str, Figure | None] | None = None
    """The same measures where the judge's own scores are dealt at random."""
    prefers_longer: Figure | None = None
    prefers_first: Figure | None = None
    score_histogram: tuple[Bar, ...] = ()


class Pairs(Stored):
    """The preference pairs of a round."""

    round: int
    step: str
    prompts: int
    pairs: int
    ties: int
    unscored: int
    chosen_score: FiniteFloat | None
    rejected_score: FiniteFloat | None
    chosen_tokens: FiniteFloat | None
    rejected_tokens: FiniteFloat | None
    score_histogram: tuple[Bar, ...]


class Length(Stored):
    """Prompts of so many words."""

    tokens: int
    own: int
    seed: int


class Topic(Stored):
    """Prompts that hold a word."""

    word: str
    own: int
    seed: int


class OwnPrompts(Stored):
    """What a model wrote as prompts, beside those of the seed data."""

    round: int
    step: str
    kept: int
    lengths: tuple[Length, ...]
    topics: tuple[Topic, ...]


class Collapse(Stored):
    """Signs that a model that learns from itself collapses."""

    arm: str
    distinct_1: FiniteFloat
    distinct_2: FiniteFloat
    repeated: FiniteFloat
    share_ties: FiniteFloat | None
    mean_length: FiniteFloat
    warnings: tuple[str, ...]
