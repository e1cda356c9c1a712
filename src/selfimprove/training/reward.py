"""The plain reward model R_P: pairs in, a classifier with one logit out (Bradley-Terry).

Both responses of a pair are read in one pass, the reward at the true last token. The head starts at
zero, so that the first loss is ln 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfimprove.data.preferences import Preference
from selfimprove.sampling.conversation import Spoken, as_asked
from selfimprove.training.reward_config import RewardConfig, TrainedReward

__all__ = ["train_reward"]


def train_reward(  # noqa: PLR0913  two folders, a seed and a form, all by name
    base: Path,
    preferences: Sequence[Preference],
    config: RewardConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    chat: bool,
    chat_template_kwargs: Mapping[str, Any] | None = None,
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
    return train_head(base, told, config, out=out, checkpoints=checkpoints, seed=seed,
                      settings=settings)  # fmt: skip
