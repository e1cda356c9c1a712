"""Further arms of a run: M_PIT without a part of the method, or with an option that the paper does not have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from selfimprove.data.preferences import Preference
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.config import Ablation
from selfimprove.methods.pit.curriculum import Curriculum
from selfimprove.methods.pit.stages import gap_reward, improver
from selfimprove.methods.pit.systems import Ablated
from selfimprove.rows import Rows
from selfimprove.types import ModelRef

__all__ = ["Ablations"]

_DROPOUT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Ablations:
    """What the arms share with the run itself."""

    lines: Curriculum
    base: ModelRef
    sft_fold: Rows[Preference]
    reward_fold: Rows[Preference]
    r_p: ModelRef
    gap: ModelRef
    """By which the run's own M_PIT learns."""

    def run(self) -> dict[str, Ablated]:
        """Return M_PIT of each arm that the recipe names."""
        return {name.replace("_", "-"): self._arm(name) for name in self.lines.config.ablations}

    def _arm(self, name: Ablation) -> Ablated:
        config, steps = self.lines.config, self.lines.steps
        match name:
            case "second_round_only":
                return Ablated(self._line("pit-second-only", rounds="second"))
            case "gap_difference":
                return Ablated(self._line("pit-difference", gap=self.r_p))
            case "placebo_reference":
                return Ablated(self._line("pit-placebo", placebo=True))
            case "placebo_throughout":
                told = steps.rows("sft-fold-placebos", pit_tasks.placebo_rejected, self.sft_fold)
                blind = improver(config, steps, "pit-sft-placebo", self.base, told)
                return Ablated(self._line("pit-placebo-throughout", placebo=True, m_pit=blind))
            case "reference_dropout":
                some = _with(config, reference_dropout=_DROPOUT)
                model = improver(some, steps, "pit-sft-dropout", self.base, self.sft_fold)
                return Ablated(self._line("pit-dropout", config=some, m_pit=model))
            case "two_references":
                rounds = ("first_round", "second_round")
                two = {one: _with(getattr(config, one), references=2) for one in rounds}
                return Ablated(self._line("pit-two-references", config=_with(config, **two),
                                          arm="two-references-"))  # fmt: skip
            case "balanced_contrasts":
                four = _with(config, reward=_with(config.reward, contrasts="balanced"))
                gap = gap_reward(four, steps, "gap-reward-balanced", self.base, self.reward_fold)
                return Ablated(self._line("pit-balanced", gap=gap), gap)

    def _line(
        self,
        name: str,
        *,
        gap: ModelRef | None = None,
        rounds: str = "",
        **changes: Any,  # noqa: ANN401  fields of the curriculum
    ) -> ModelRef:
        lines = replace(self.lines, **changes)
        return lines.run(name, rounds or lines.config.rounds, gap or self.gap)[0]


def _with(config: Any, **fields: object) -> Any:  # noqa: ANN401  the same config, but for fields
    return config.model_copy(update=fields)
