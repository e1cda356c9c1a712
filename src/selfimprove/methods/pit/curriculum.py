"""The RL of M_PIT, in two rounds: references that are easy to improve on, then those of M_P (Eq. 4-5)."""

from __future__ import annotations

from dataclasses import dataclass

from selfimprove.data.preferences import Preference
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.stages import reinforce
from selfimprove.methods.pit.tasks import Task
from selfimprove.rows import Rows
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.responses import answer
from selfimprove.store import Run
from selfimprove.types import ModelRef

__all__ = ["Curriculum"]


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The RL of M_PIT: first references that are easy to improve on, then those of M_P."""

    config: PitConfig
    steps: Run
    m_pit: ModelRef
    improved: ModelRef
    """The M_P whose responses are improved at inference."""
    rl_fold: Rows[Preference]
    rl_prompts: Rows[Task]
    placebo: bool = False
    """Improve responses to other prompts: a control."""
    arm: str = ""
    """What the steps are called by in which this line differs from the run's own."""

    def run(self, name: str, rounds: str, gap_model: ModelRef) -> tuple[ModelRef, ModelRef]:
        """Return M_PIT after the rounds asked for, and what it was after the first of them."""
        config, steps, model = self.config, self.steps, self.m_pit
        first = model
        if rounds in ("both", "first"):
            tasks = steps.rows("first-round-tasks", pit_tasks.from_data, self.rl_fold)
            tasks = self._given("first-round", tasks)
            model = first = reinforce(config, steps, f"{name}-rl-1", model, self.m_pit, gap_model,
                                      tasks, config.first_round)  # fmt: skip
        if rounds in ("both", "second"):
            tasks = self._given("second-round", self.policy_references())
            model = reinforce(config, steps, f"{name}-rl-2", model, self.m_pit, gap_model,
                              tasks, config.second_round)  # fmt: skip
        return model, first

    def _given(self, name: str, tasks: Rows[Task]) -> Rows[Task]:
        if self.placebo:
            name = f"{name}-placebos"
            tasks = self.steps.rows(name, pit_tasks.placebos, tasks)
        if share := self.config.reference_dropout:
            tasks = self.steps.rows(f"{name}-some-hidden", pit_tasks.some_hidden, tasks, share,
                                    self.steps.seed)  # fmt: skip
        return tasks

    def policy_references(self) -> Rows[Task]:
        """Return the RL prompts, each with what M_P responds to it: once, or as often as is compared."""
        sampling = SamplingConfig(n=self.config.second_round.references, temperature=1.0,
                                  max_tokens=self.config.max_response_tokens)  # fmt: skip
        asked = self.steps.rows("references-asked", pit_tasks.asked, self.rl_prompts)
        drawn = self.steps.sharded(f"{self.arm}references", answer, asked, self.steps.asks(self.improved),
                                   sampling, self.steps.seed,
                                   shard_items=self.config.evaluation.shard_prompts)  # fmt: skip
        return self.steps.rows(
            f"{self.arm}second-round-tasks", pit_tasks.from_policy, self.rl_prompts, drawn
        )
