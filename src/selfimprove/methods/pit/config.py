"""The keys of a PIT recipe."""

from __future__ import annotations

from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import FOLDS
from selfimprove.data.sources import Sources
from selfimprove.evaluation.improvements_config import ImprovementsConfig
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.methods.pit import baselines as pit_baselines
from selfimprove.methods.pit.inference import ImproveConfig
from selfimprove.own_code import OwnCode
from selfimprove.tracking.config import Trackers
from selfimprove.training.export import ExportConfig
from selfimprove.training.policy_config import PolicyGradientConfig, cannot_draw
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft_config import SftConfig

__all__ = ["Ablation", "PitConfig"]


Ablation: TypeAlias = Literal[
    "second_round_only", "gap_difference", "placebo_reference", "placebo_throughout", "reference_dropout",
    "two_references", "balanced_contrasts"
]  # fmt: skip
"""gap_difference: the whole curriculum by differences of R_P. placebo_reference: the whole curriculum with
references that are responses to other prompts; placebo_throughout: the supervised stage as well.
reference_dropout: of 0.25. two_references: draws of two references of a prompt are compared with each
other. balanced_contrasts: by an R_PIT of four contrasts."""


class PitConfig(ChatsAndJudges):
    """A PIT run."""

    method: Literal["pit"]
    """Names the method in a recipe."""
    model: str
    """The model that M_P, M_PIT and both reward models begin as: tiny, a folder, or a hub id."""
    seed: int = 0
    """Seeds every draw, split and shuffle of the run."""
    preferences: Sources
    """What people preferred, e.g. `hh_rlhf:FILE`; it is divided into three folds."""
    folds: Literal["drawn", "given"] = "drawn"
    """drawn: every prompt falls into one of the folds SFT, reward models, RL by chance. given: the three sources
    of `preferences` are those, in this order."""
    decontaminate: bool = True
    """Learn from no prompt that is held out or nearly so (`data.overlap` says what that means). They are
    counted in the report either way."""
    max_prompt_tokens: int = Field(default=512, ge=1)
    """Longer prompts are left out. Paper: 512."""
    max_response_tokens: int = Field(default=512, ge=1)
    """Longer responses are left out, and none is drawn. Paper: 512."""
    template: str = "v1"
    """How a response is shown that is to be improved: a shipped template, or a YAML file."""
    sft: SftConfig = SftConfig(learning_rate=3e-5)
    """Supervised stage. Paper: one epoch, 3e-5."""
    reward: RewardConfig = RewardConfig()
    """Both reward models. Paper: 3e-4."""
    reward_function: OwnCode | None = None
    """Code of your own in the place of R_P, module:name or path/to/file.py:name: it gets a list of prompts and one
    of responses, and returns a reward for each, or None. With `gap: difference` it is all that RL learns from."""
    gap: Literal["trained", "difference"] = "trained"
    """difference: an ablation, R_P(x, y) - R_P(x, y_ref) in place of R_PIT."""
    policy_rl: PolicyGradientConfig = PolicyGradientConfig()
    """RL of M_P. Paper: 1e-5."""
    first_round: PolicyGradientConfig = PolicyGradientConfig()
    """RL of M_PIT with references from the data. Paper: 1e-5."""
    second_round: PolicyGradientConfig = PolicyGradientConfig()
    """RL of M_PIT with references from the M_P that `start` names. Paper: 1e-5."""
    rounds: Literal["both", "first", "second"] = "both"
    """first, second: the paper's ablations of the curriculum (Table 2)."""
    validation_prompts: int = Field(default=64, ge=1)
    """Prompts of the RL fold on which the best policy is chosen; none of them is trained on."""
    start: Literal["rl", "sft"] = "rl"
    """Whose responses are improved, in the second round and in the reported chain: those of M_P after
    RL (the paper), or before it. The chain from the other one is measured as well."""
    improve: ImproveConfig = ImproveConfig()
    """Inference."""
    reference_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what M_PIT learns from, supervised and in RL, whose reference it is not shown; the gap that RL
    pays is still that over it."""
    ablations: tuple[Ablation, ...] = ()
    """Further arms of the same run; `Ablation` says which. The supervised M_PIT and the first round alone are
    always measured."""
    baselines: pit_baselines.BaselinesConfig = pit_baselines.BaselinesConfig()
    """Other ways to a better response, from the same M_P."""
    evaluation: ImprovementsConfig = ImprovementsConfig()
    """Measuring."""
    export: ExportConfig = ExportConfig()
    """How trained models leave the run, reward models too."""
    trackers: Trackers = ()

    later: ClassVar[frozenset[str]] = frozenset({"reward_function", "folds", "reference_dropout"})
    aside: ClassVar[frozenset[str]] = frozenset({"trackers"})

    @property
    def models(self) -> list[str]:
        """The models that a run reads; the first is the one that improves."""
        judge = self.evaluation.judge
        return [self.model, *([judge.model] if judge and judge.holds_model_here else [])]

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        improvement_template(self.template)  # a wrong one must not wait for the first training
        if self.folds == "given" and len(self.preferences) != len(FOLDS):
            raise ValueError(f"folds: given needs {len(FOLDS)} sources of preferences, for SFT, reward "
                             f"models and RL; here are {len(self.preferences)}")  # fmt: skip
        if self.folds == "given" and not self.evaluation.preferences:
            raise ValueError(
                "folds: given needs evaluation.preferences: no part of a fold is set apart"
            )
        for name in ("policy_rl", "first_round", "second_round"):
            if why_not := cannot_draw(getattr(self, name), self.engine):
                raise ValueError(f"{name}: {why_not}")
        return self

    @model_validator(mode="after")
    def _has_arms_of_its_own(self) -> Self:
        rounds = (self.first_round, self.second_round)
        cannot_be_two = any(one.n % 2 or one.references == 2 for one in rounds)
        cannot: dict[Ablation, tuple[object, str]] = {
            "second_round_only": (
                self.rounds == "second",
                "is the run itself where rounds is second",
            ),
            "gap_difference": (
                self.gap == "difference",
                "is the run itself where gap is difference",
            ),
            "balanced_contrasts": (
                self.gap == "difference",
                "needs gap: trained; R_P has no contrasts",
            ),
            "two_references": (cannot_be_two, "needs an even n and references: 1 in both rounds"),
            "reference_dropout": (
                self.reference_dropout,
                "needs a run without: set reference_dropout to 0",
            ),
        }
        for name in self.ablations:
            fails, why = cannot.get(name, (False, ""))
            if fails:
                raise ValueError(f"ablations: {name} {why}")
        if self.policy_rl.references != 1:
            raise ValueError("policy_rl.references: M_P improves nothing; leave it at 1")
        return self
