"""Open-ended prompts that are held out: how arms answer and are measured on them, and which they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config
from selfimprove.data.overlap import HeldOutTexts, find_overlaps
from selfimprove.data.read import TINY
from selfimprove.data.sources import Sources
from selfimprove.data.user_prompts import read_prompts
from selfimprove.errors import DataError
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.rows import Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.store import Run
from selfimprove.types import UserPrompt

__all__ = ["ResponsesConfig", "held_out_prompts", "not_reported", "validation_prompts"]


class ResponsesConfig(Config):
    """How arms that answer open-ended prompts are measured."""

    prompts: Sources
    """Held-out prompts; none of them may be learned from."""
    validation: Sources = ()
    """Held-out prompts on which the gate and early stopping decide, by the model's own judge; one that
    is among `prompts` is left out. None: no gate, and no early stopping."""
    draws: int = Field(default=4, ge=1)
    """Responses a prompt and arm."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the measured responses."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Of the measured responses."""
    max_tokens: int = Field(default=512, ge=1)
    """Of one measured response."""
    scorer: Literal["oracle", "judge"] = "judge"
    """oracle: the tiny world's own, for its prompts alone; judge: the judge below."""
    judge: JudgeConfig | None = None
    """A judge that is no model of this run, e.g. a reward model or one behind a server; where one is
    named it measures, whatever `scorer` is. A pairwise one compares each arm with the one before it."""
    judging: Sources = ()
    """Held-out responses of known worth (rankings, or a tiny split) on which every judge of the
    run is measured."""
    shard_prompts: int = Field(default=128, ge=1)
    """Prompts a shard; a kill loses at most one shard."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self._judges_itself() or (self.scorer == "judge" and self.judge is None):
            raise ValueError(
                "evaluation.judge must name a model that takes no part in the run (`model`), or a "
                "reward model: a model that measures itself measures nothing; for prompts of the tiny "
                "world say evaluation.scorer: oracle"
            )
        if self.scorer == "oracle" and any(s.format != TINY for s in self.prompts):
            raise ValueError("evaluation.scorer: the oracle knows prompts of format 'tiny' alone")
        return self

    def _judges_itself(self) -> bool:
        return self.judge is not None and self.judge.is_self

    @property
    def compares(self) -> bool:
        """Whether arms are compared with each other, and none of them is worth any points."""
        return self.judge is not None and self.judge.kind == "pairwise"

    @property
    def sampling(self) -> SamplingConfig:
        """How measured responses are drawn."""
        return SamplingConfig(n=self.draws, temperature=self.temperature, top_p=self.top_p,
                              max_tokens=self.max_tokens)  # fmt: skip


def held_out_prompts(steps: Run, config: ResponsesConfig) -> Rows[UserPrompt]:
    """Return the prompts that arms are measured on: not to be learned from."""
    return steps.rows("held-out-prompts", read_prompts, config.prompts)


def validation_prompts(steps: Run, config: ResponsesConfig) -> Rows[UserPrompt]:
    """Return the prompts on which models are chosen; none of them is reported.

    Raises:
        DataError: each of them is reported.
    """
    read = steps.rows("validation-read", read_prompts, config.validation)
    found = steps.rows("validation-prompts", not_reported, read, held_out_prompts(steps, config))
    if not found:
        raise DataError(
            f"evaluation.validation: each of its {len(read)} prompts is one of evaluation.prompts, and "
            "a model must not be chosen by what is reported; give others, or leave it out"
        )
    return found


def not_reported(
    prompts: Sequence[UserPrompt], reported: Sequence[UserPrompt]
) -> Filtered[UserPrompt]:
    """Leave out prompts that are reported, too, or nearly so."""
    told = HeldOutTexts("reported", tuple(prompt.text for prompt in reported))
    (found,) = find_overlaps([prompt.text for prompt in prompts], [told])
    kept = [prompt for place, prompt in enumerate(prompts) if place not in found.places]
    dropped = (
        Drop("is a reported prompt", len(found.exact)),
        Drop("is nearly a reported prompt", len(found.near)),
    )
    return Filtered(kept, (Funnel("validation prompts", len(prompts), len(kept), dropped),))
