"""The gap reward model R_PIT: r_gap(x, y, y_ref), how much better y is than y_ref (Sec. 3; Eq. 1-2).

From one preference come four gaps, of the chosen and of the rejected response, each against both; all
four are read in one pass, and five contrasts order them: (w,l) >= (w,w) ~ (l,l) >= (l,w). The input is
the request to improve y_ref, with y as its reply, the number read at the true last token.

Deviations: the paper does not say whether the five terms are summed or averaged (summed here, averaged
over preferences), how the input is laid out, nor how the head starts (at zero here: the first loss is
5 ln 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from selfimprove.data.improvement_prompts import ImprovementTemplate, rendered, unrendered
from selfimprove.data.preferences import Preference
from selfimprove.sampling.conversation import Spoken, as_asked
from selfimprove.sampling.shortening import inside
from selfimprove.training.reward_config import RewardConfig, TrainedReward

__all__ = ["train_gap_reward"]


def train_gap_reward(  # noqa: PLR0913  two folders, a seed, a form, and a template, by name
    base: Path,
    preferences: Sequence[Preference],
    config: RewardConfig,
    *,
    out: Path,
    checkpoints: Path,
    seed: int,
    chat: bool,
    template: ImprovementTemplate,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> TrainedReward:
    """Train R_PIT(x, y, y_ref) from the model of `base` and write it to `out`.

    Args:
        base: a Hugging Face folder of a causal language model.
        preferences: what people preferred.
        config: how.
        out: becomes the folder of a sequence classifier; the log is written beside it.
        checkpoints: where an interrupted training is looked for, and left.
        seed: of the order of the preferences, of adapters and dropout.
        chat: prompts go through the chat template; otherwise they are laid out as plain text.
        template: how a response is shown that is to be improved; kept with the model.
        chat_template_kwargs: variables of the chat template.

    Raises:
        TrainingError: no preference, none that fits into `max_length`, a loss that is no number.
        EngineError: `base` holds no model or no tokenizer, or no chat template where one is needed.
    """
    # Loaded here: whoever only reads a recipe needs no torch.
    from selfimprove.training._head_trainer import Comparisons
    from selfimprove.training._scalar_head import train_head
    from selfimprove.training.gap_loss import BALANCED, CONTRASTS, gap_loss

    contrasts = BALANCED if config.contrasts == "balanced" else CONTRASTS
    replies = [_four(preference, template, chat=chat) for preference in preferences]
    within = inside(partial(unrendered, template), partial(rendered, template))
    told = Comparisons(replies, lambda gaps: gap_loss(*gaps.unbind(1), contrasts=contrasts),
                       better=0, worse=3, shorten=within)  # fmt: skip
    settings: dict[str, Any] = {"reads": "gap", "chat": chat, "template": template.model_dump()}
    if chat_template_kwargs:
        settings["chat_template_kwargs"] = dict(chat_template_kwargs)
    return train_head(base, told, config, out=out, checkpoints=checkpoints, seed=seed,
                      settings=settings)  # fmt: skip


def _four(told: Preference, template: ImprovementTemplate, *, chat: bool) -> list[Spoken]:
    """Return the replies of wl, ww, ll and lw: candidate, then reference."""
    over_chosen, over_rejected = (
        as_asked(rendered(template, told.prompt, reference), chat=chat)
        for reference in (told.chosen, told.rejected)
    )
    return [
        Spoken(over_rejected, told.chosen),
        Spoken(over_chosen, told.chosen),
        Spoken(over_rejected, told.rejected),
        Spoken(over_chosen, told.rejected),
    ]
