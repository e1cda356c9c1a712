"""The keys of a Self-Rewarding recipe."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from selfimprove.config import Config
from selfimprove.data.seed_split import LEAST
from selfimprove.data.sources import Sources
from selfimprove.evaluation.open_prompts import ResponsesConfig
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.methods.self_rewarding import prompts as own_prompts
from selfimprove.methods.self_rewarding.pairs import (
    PairsConfig,
)
from selfimprove.methods.self_rewarding.seeds import (
    ReviewsConfig,
)
from selfimprove.tracking.config import Trackers
from selfimprove.training.dpo import DpoConfig
from selfimprove.training.export import ExportConfig
from selfimprove.training.sft_config import SftConfig

__all__ = ["CandidatesConfig", "SeedsConfig", "SelfRewardingConfig"]


class SeedsConfig(Config):
    """Seed data: what the first model learns from people (Sec. 2.1)."""

    ift: Sources
    """Instructions with good responses, e.g. `oasst:FILE`. Paper: 3,200."""
    eft: Sources = ()
    """Judging examples that exist already, e.g. the tiny world's or what `data seeds` wrote."""
    ranked: Sources = ()
    """Responses that people ranked, from which the SFT baseline's own verdicts become judging
    examples where they agree with the people (`reviews`). Paper: OpenAssistant, 1,630 kept."""
    reviews: ReviewsConfig = ReviewsConfig()
    """Which of those verdicts are kept."""
    eft_share: float = Field(default=LEAST, gt=0, lt=1)
    """A prompt that `ift` holds is judged in no example; but of the prompts in `eft` and `ranked` at
    least this share is left to judging, and taken from `ift`. Paper: disjoint, 3,200 of about 4,000."""


class CandidatesConfig(Config):
    """How candidate responses are drawn (Sec. 2.2)."""

    n: int = Field(default=4, ge=2)
    """Responses a prompt. Paper: 4."""
    temperature: float = Field(default=0.7, gt=0)
    """Paper: 0.7."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Paper: 0.9."""
    max_tokens: int = Field(default=512, ge=1)
    """Of one response."""
    shard_prompts: int = Field(default=128, ge=1)
    """Prompts a shard; a kill loses at most one shard."""


class SelfRewardingConfig(ChatsAndJudges):
    """A Self-Rewarding run."""

    method: Literal["self_rewarding"]
    """Names the method in a recipe."""
    model: str
    """M0: tiny, a folder, or a hub id."""
    seed: int = 0
    """Seeds every draw and shuffle of the run."""
    iterations: int = Field(default=2, ge=1)
    """Rounds of DPO. Paper: 2, M1 to M2 to M3."""
    seeds: SeedsConfig
    """Seed data."""
    decontaminate: bool = True
    """Learn from no prompt that is held out or nearly so (`data.overlap` says what that means). They are
    counted in the report either way."""
    prompts: own_prompts.PromptsConfig = own_prompts.PromptsConfig()
    """New prompts."""
    candidates: CandidatesConfig = CandidatesConfig()
    """Responses to them."""
    judge: JudgeConfig = JudgeConfig()
    """Who judges them; by default the model itself."""
    pairs: PairsConfig = PairsConfig()
    """Which of them train the next model."""
    learn: Literal["dpo", "positives"] = "dpo"
    """positives: add responses of the perfect score to the seed data and fine-tune M0 anew, the
    paper's ablation (Sec. 2.3) that gained nothing."""
    sft: SftConfig = SftConfig(learning_rate=5.5e-6, batch_size=16, schedule="cosine")
    """Supervised fine-tuning. Paper: 5.5e-6 to 1.1e-6, cosine, batch 16."""
    dpo: DpoConfig = DpoConfig()
    """Preference training."""
    evaluation: ResponsesConfig
    """Measuring."""
    controls: tuple[Literal["random_judge", "no_eft"], ...] = ()
    """Control arms of one round. random_judge: pairs by random scores; no_eft: from the SFT
    baseline, which never learned to judge."""
    export: ExportConfig = ExportConfig()
    """How trained models leave the run."""
    trackers: Trackers = ()

    aside: ClassVar[frozenset[str]] = frozenset({"trackers"})

    @property
    def models(self) -> list[str]:
        """The models that a run reads; the first is the one that improves."""
        writer, judges = self.prompts.writer, (self.judge, self.evaluation.judge)
        named = [j.model for j in judges if j is not None and j.holds_model_here]
        return [self.model, *([] if writer == "self" else [writer]), *named]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "no_eft" in self.controls and not (self.seeds.eft or self.seeds.ranked):
            raise ValueError("controls: no_eft says nothing where seeds hold no judging examples")
        if self.judge.kind != "rubric":
            if self.learn == "positives":
                raise ValueError(
                    "learn: positives needs the perfect score of a rubric; judge.kind is "
                    f"{self.judge.kind}"
                )
            if self.seeds.ranked:
                raise ValueError(
                    "seeds.ranked: verdicts become judging examples where they are reviews by a rubric; "
                    f"judge.kind is {self.judge.kind}, so give judging examples as seeds.eft"
                )
        return self
