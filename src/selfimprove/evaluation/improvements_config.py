"""How the systems of a PIT run are measured: the block `evaluation` of its recipe."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config
from selfimprove.data.read import KEEPS, TINY
from selfimprove.data.sources import Sources
from selfimprove.evaluation.reference_use import ReferenceUseConfig
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.sampling.engine import SamplingConfig, Temperature

__all__ = ["ImprovementsConfig"]


class ImprovementsConfig(Config):
    """How the systems of a PIT run are measured."""

    preferences: Sources = ()
    """Held-out preferences: their prompts are asked, and they measure the reward models. None: a
    share of the run's own is set apart."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """That share."""
    prompts: int | None = Field(default=None, ge=1)
    """Held-out prompts that are asked; None: all."""
    draws: int = Field(default=4, ge=1)
    """Responses a prompt and system."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the responses that are improved, and of other systems."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Likewise."""
    temperatures: tuple[Temperature, ...] = ()
    """Temperatures of one step of improvement that are compared (the paper's Figure 3)."""
    scorer: Literal["oracle", "judge", "reward"] = "reward"
    """Who has the first word. oracle: that of the embedded worlds; judge: the judge below; reward: R_P of
    the run, which the policy was trained by."""
    judge: JudgeConfig | None = None
    """A judge that is no model of this run; a pairwise one compares each system with the one it came
    from."""
    reference_use: ReferenceUseConfig | None = ReferenceUseConfig()
    """Whether M_PIT and R_PIT read the reference; null does not measure it."""
    shard_prompts: int = Field(default=128, ge=1)
    """Prompts a shard; a kill loses at most one shard."""

    later: ClassVar[frozenset[str]] = frozenset({"reference_use"})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.judge is not None and self.judge.is_self:
            raise ValueError(
                "evaluation.judge.model must name a model that takes no part in the run"
            )
        if self.scorer == "judge" and self.judge is None:
            raise ValueError("evaluation.scorer: judge needs evaluation.judge")
        if self.scorer == "oracle" and not (
            self.preferences and all(s.format in (TINY, KEEPS) for s in self.preferences)
        ):
            raise ValueError(
                "evaluation.scorer: the oracle knows prompts of formats 'tiny' and 'keeps' alone"
            )
        return self

    @property
    def compares(self) -> bool:
        """Whether the judge compares systems with each other, and gives none of them points."""
        return self.judge is not None and self.judge.kind == "pairwise"

    def sampling(self, max_tokens: int) -> SamplingConfig:
        """How responses are drawn that are no step of improvement."""
        return SamplingConfig(n=self.draws, temperature=self.temperature, top_p=self.top_p,
                              max_tokens=max_tokens)  # fmt: skip
