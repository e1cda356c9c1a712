"""The keys of an LMSI recipe."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from selfimprove.answers.answers import Reading
from selfimprove.answers.ballots import VoteConfig
from selfimprove.config import Config
from selfimprove.data import question_prompts as layouts
from selfimprove.data.sources import DataConfig
from selfimprove.evaluation.controls import Control
from selfimprove.evaluation.scoreboard import EvaluationConfig
from selfimprove.methods.lmsi import low_resource
from selfimprove.sampling.engine import EngineConfig
from selfimprove.tracking.config import Trackers
from selfimprove.training.export import ExportConfig
from selfimprove.training.sft_config import SftConfig

__all__ = ["FormatsConfig", "KeepConfig", "LmsiConfig", "PathsConfig"]


class PathsConfig(Config):
    """How reasoning paths are drawn."""

    m: int = Field(default=32, ge=1)
    """Paths a question. Paper: 32 (Sec. 4)."""
    temperature: float = Field(default=0.7, gt=0)
    """Paper: 0.7 (Sec. 4)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Paper: no truncation."""
    max_tokens: int = Field(default=256, ge=1)
    """Paper: 256 decoding steps (Sec. 4)."""
    stop: tuple[str, ...] = ("\nQ:",)
    """Strings that end a path: a model shown exemplars goes on with the next question."""
    reading: Reading = "flexible"
    """strict: only a stated answer votes; flexible: else the last number or option a path names."""
    layout: Literal["cot", "standard"] = "cot"
    """cot: few-shot with reasoning (paper); standard: answers alone, an ablation."""
    shard_questions: int = Field(default=64, ge=1)
    """Questions a shard; a kill loses at most one shard."""


class KeepConfig(Config):
    """Which paths are kept; by default all that agree with the vote, as in the paper."""

    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """Drop questions whose vote share is lower. Paper: 0 for real questions (Sec. 3.1)."""
    max_per_question: int | None = Field(default=None, ge=1)
    """Keep at most so many paths a question, the first drawn; None is all (paper)."""


class FormatsConfig(Config):
    """In which formats the kept paths are written (Sec. 3.2, Table 5)."""

    use: tuple[layouts.Layout, ...] = Field(
        default=("cot", "standard", "step_by_step", "direct"), min_length=1
    )
    """Paper: all four; (standard, direct) is its ablation without chains of thought."""
    mix: Literal["all", "one"] = "all"
    """all: every path in every format (paper); one: each path in one of them, drawn by seed."""
    deduplicate: bool = False
    """Write identical rows once, which takes away the vote's self-weighting."""


class LmsiConfig(Config):
    """An LMSI run."""

    method: Literal["lmsi"]
    """Names the method in a recipe."""
    model: str
    """The model that draws the paths: tiny, a folder, or a hub id."""
    student: str | None = None
    """Another model to train on the paths (distillation, Table 7); None: the model itself."""
    seed: int = 0
    """Seeds every draw and shuffle of the run."""
    iterations: int = Field(default=1, ge=1)
    """Rounds of draw, vote, train. Paper: 1."""
    restart: bool = True
    """Each round trains the base anew on the newest model's paths; false trains on."""
    data: DataConfig
    """Question sets."""
    decontaminate: bool = True
    """Learn from no question, and show no exemplar, that is held out or nearly so (`data.overlap` says
    what that means). They are counted in the report either way."""
    questions: low_resource.QuestionsConfig | None = None
    """Let the model write the training questions (Sec. 5.3); None uses `data.train`."""
    exemplars: low_resource.ExemplarsConfig | None = None
    """Let the model write its few-shot exemplars (Sec. 5.3); None uses the shipped ones."""
    paths: PathsConfig = PathsConfig()
    """Drawing."""
    vote: VoteConfig = VoteConfig()
    """Counting."""
    keep: KeepConfig = KeepConfig()
    """Filtering."""
    formats: FormatsConfig = FormatsConfig()
    """Writing."""
    sft: SftConfig = SftConfig()
    """Fine-tuning."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Measuring."""
    controls: tuple[Control, ...] = ()
    """Control arms on the paths of the first round: unfiltered, gold."""
    engine: EngineConfig = EngineConfig()
    """Sampling engine."""
    export: ExportConfig = ExportConfig()
    """How trained models leave the run."""
    trackers: Trackers = ()

    later: ClassVar[frozenset[str]] = frozenset({"vote"})
    aside: ClassVar[frozenset[str]] = frozenset({"trackers"})

    @property
    def models(self) -> list[str]:
        """The models that a run reads; the first is the one that improves."""
        return [self.model, *([self.student] if self.student else [])]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.questions and "gold" in self.controls:
            raise ValueError("controls: there are no gold answers for questions the model wrote")
        if self.exemplars and self.paths.m % self.exemplars.sets:
            raise ValueError(
                "paths.m must be a multiple of exemplars.sets: paths are spread evenly"
            )
        for name, sources in (("train", self.data.train), ("test", self.data.test)):
            if not sources:
                raise ValueError(f"data.{name} holds no question: name at least one set")
        if "cot" not in self.evaluation.modes:
            raise ValueError("evaluation.modes must hold cot: the headline is measured by it")
        if "cot" not in self.evaluation.asking("control").modes:
            raise ValueError("evaluation.control_modes must hold cot: arms are compared by it")
        return self
