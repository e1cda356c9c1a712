"""How a reward model is trained, and what such a training did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from selfimprove.training.sft_config import SftConfig

__all__ = ["RewardConfig", "TrainedReward"]


class RewardConfig(SftConfig):
    """Training of a reward model, plain or of gaps; the defaults are PIT's where it gives one."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Highest learning rate. Paper: 3e-4."""
    batch_size: int = Field(default=32, ge=1)
    """Preferences per optimiser step. The paper does not say."""
    warmup_frac: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate goes up."""
    contrasts: Literal["all", "balanced"] = "all"
    """Of the gap reward alone. all: PIT's five (Eq. 2). balanced: the four in which either the candidate changes
    or the reference; what tells r(y_w, y_l) from r(y_l, y_w) may look at one of them and pass over the other."""

    later: ClassVar[frozenset[str]] = frozenset({"contrasts"})


@dataclass(frozen=True, slots=True)
class TrainedReward:
    """What the training of a reward model did."""

    steps: int
    pairs: int
    """Different preferences that could be trained on."""
    tokens: int
    """Tokens of every row, each time it was trained on: two rows a preference, of gaps four."""
    truncated: int
    """Preferences whose prompt lost its oldest turns or text to `max_length`, in all rows alike."""
    dropped: int
    """Preferences that were left out as a response does not fit into `max_length`."""
    first_loss: float
    """Of the first step: ln 2, of gaps 5 ln 2."""
    final_loss: float
    """Mean over the last logged steps."""
    final_accuracy: float
    """Share of preferences, over the last logged steps, whose responses were told apart rightly."""
    arithmetic: str
    """The precision that was computed in, and why."""
    seconds: float
    """Of this call: after a resume, the part since then."""
