"""What reward models read and say: candidates and references in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from selfimprove.types import Message

__all__ = ["Gain", "Improved", "Scored", "Scores", "Turns"]


Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Improved:
    """A candidate for something better than a reference; for a plain reward the latter is unused."""

    prompt_id: str
    index: int
    """Which of the prompt's candidates it is, from 0."""
    prompt: Turns
    candidate: str
    reference: str = ""
    finished: bool = True
    """Whether the candidate came to its end."""
    reference_finished: bool = True
    """Whether the reference did."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a reward model said of one candidate."""

    prompt_id: str
    index: int
    score: float | None
    """Its logit; None where there is none, never 0."""
    unscored: str | None
    """Why there is no score; None where there is one."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a gap reward said of one step of improvement."""

    prompt_id: str
    index: int
    gap: float | None
    """r_gap(x, y, y_ref); None where there is none."""
    still: float | None
    """r_gap(x, y_ref, y_ref): that of the old response over itself, as training fixes no zero."""
    unscored: str | None
    """Why there is no score; None where there is one."""

    @property
    def won(self) -> float | None:
        """By how much the new response is the better one; None: it could not be read."""
        return None if self.gap is None or self.still is None else self.gap - self.still


class Scores(NamedTuple):
    """What a reward model said of some candidates."""

    scores: list[float | None]
    """Of each; None where it does not fit into the model's context."""
    tokens_read: int
    """Of what fits, prompts included."""
