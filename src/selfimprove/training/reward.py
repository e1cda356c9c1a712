"""The plain reward model R_P: pairs in, a classifier with one logit out (Bradley-Terry).

Both responses of a pair are read in one pass, the reward at the true last token. The head starts at
zero, so that the first loss is ln 2. A killed training goes on from its newest readable checkpoint and
ends with the very weights of one that was never interrupted, on the same CPU with as many threads (a GPU adds up some gradients in no fixed order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from selfimprove.data.preferences import Preference
from selfimprove.sampling.conversation import Spoken, as_asked
from selfimprove.training.sft import SftConfig

__all__ = ["RewardConfig", "TrainedReward", "train_reward"]


class RewardConfig(SftConfig):
    """Training of a reward model, plain or of gaps; the defaults are PIT's where it gives one."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Highest learning rate. Paper: 3e-4."""
    batch_size: int = Field(default=32, ge=1)
    """Preferences per optimiser step. The paper does not say."""
    warmup_frac: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate goes up."""


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


def train_reward(  # noqa: PLR0913  two folders, a seed, a form and a card, all by name
    base: Path,
    preferences: Sequence[Preference],
    config: RewardConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    chat: bool,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    card: str = "",
) -> TrainedReward:
    """Train R_P(x, y) from the model of `base` and write it to `out`.

    Args:
        base: a Hugging Face folder of a causal language model.
        preferences: what people preferred.
        config: how.
        out: becomes the folder of a sequence classifier; the log is written beside it.
        checkpoints: where an interrupted training is looked for, and left.
        seed: of the order of the pairs, of adapters and dropout.
        chat: prompts go through the chat template; otherwise they are laid out as plain text.
        chat_template_kwargs: variables of the chat template.
        card: text for the model card.

    Raises:
        TrainingError: no preference, none that fits into `max_length`, a loss that is no number.
        EngineError: `base` holds no model or no tokenizer, or no chat template where one is needed.
    """
    # Loaded here: whoever only reads a recipe needs no torch.
    from selfimprove.training._head_trainer import Comparisons
    from selfimprove.training._scalar_head import train_head
    from selfimprove.training.gap_loss import bradley_terry

    replies = [
        [Spoken(as_asked(p.prompt, chat=chat), text) for text in (p.chosen, p.rejected)]
        for p in preferences
    ]
    told = Comparisons(replies, lambda scores: bradley_terry(*scores.unbind(1)), better=0, worse=1)
    settings: dict[str, Any] = {"reads": "reward", "chat": chat}
    if chat_template_kwargs:
        settings["chat_template_kwargs"] = dict(chat_template_kwargs)
    return train_head(
        base,
        told,
        config,
        out=out,
        checkpoints=checkpoints,
        seed=seed,
        settings=settings,
        card=card,
    )
