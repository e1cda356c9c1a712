"""PIT: implicit self-improvement, learned from preference data (Wang et al., ICLR 2024, arXiv:2310.00898).

    preferences (x, y_w, y_l) in three folds: SFT, reward models, RL                   Sec. 3
    M_P   = SFT(y_w | x)              M_PIT = SFT(y_w | x, y_l)                        supervised
    R_P   = pairwise reward           R_PIT = gap r(x, y, y_ref), five contrasts       Eq. 1-2
    M_P   = RL(R_P)                                                                    Eq. 3
    M_PIT = RL(R_PIT), y_ref from the data: y_l and y_w                                Eq. 4, first round
    M_PIT = RL(R_PIT), y_ref from M_P                                                  Eq. 5, second round
    inference: y_0 = M_P(x), y_k = M_PIT(x, y_{k-1})                                   Algorithm 2

Deviations, and choices where the paper is silent:
- RL is policy gradient with leave-one-out advantages; the paper does not name its algorithm.
- In every RL the policy of the highest E[r] - beta KL on held-out prompts is kept, not the last one,
  and none beyond `max_kl`.
- An unfinished response is worth the least, and is nobody's reference: the rule of `unfinished`.
- References of the second round are drawn once, before it, from the M_P whose responses are
  improved at inference: the one after RL, or with `start: sft` the one before it.
- One optimiser step takes prompts with their references as they come; y_l and y_w of a prompt
  need not meet in one batch.
Measuring and the ablations belong to `evaluation`; no truth of it is read in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from selfimprove.data.improvement_prompts import improvement_template, rendered, unrendered
from selfimprove.data.preferences import (
    InFold,
    Preference,
    given_folds,
    of_fold,
    read_preferences,
    three_folds,
)
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.own_reward import own_reward, reward_scorer
from selfimprove.judges.plain_reward import reads_gaps
from selfimprove.judges.reward_rows import Improved
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.held_out import learned_preferences
from selfimprove.methods.pit.systems import Models, held_out, measure
from selfimprove.methods.pit.tasks import Task
from selfimprove.methods.reward_start import learn_reward
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import as_asked
from selfimprove.sampling.engine import EngineConfig, PromptLayout, SamplingConfig
from selfimprove.sampling.responses import answer
from selfimprove.sampling.shortening import inside
from selfimprove.store import Run
from selfimprove.training.export import Exporter
from selfimprove.training.policy_config import PolicyGradientConfig, Reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.trainings import GapRewardTraining, PolicyTraining, SupervisedTraining
from selfimprove.types import Example, ModelRef, Prompt

__all__ = ["run"]


# --8<-- [start:plot]
def run(config: PitConfig, steps: Run) -> ModelRef:
    """Run every stage and return M_PIT, as it leaves the run.

    Raises:
        SelfImproveError: bad data, a stale step, a model that cannot be loaded; nothing is lost.
    """
    base = steps.locate(config.model)
    told = preferences_that_fit(config, steps, base)
    folds = in_folds(config, steps, told)
    measured_on = held_out(config, steps, told, folds)
    learned, apart = learned_preferences(config, steps, told, folds, measured_on)
    sft_fold, reward_fold, rl_fold = (
        steps.rows(f"{fold}-fold", of_fold, learned, folds, fold)
        for fold in ("sft", "reward", "rl")
    )
    # Supervised: M_P imitates y_w, M_PIT turns y_l into y_w.
    m_p = steps.train("policy-sft", imitate, base, sft_fold, config.sft, steps.engine.layout,
                      steps.seed)  # fmt: skip
    m_pit = steps.train("pit-sft", imitate_improvement, base, sft_fold, config.sft,
                        steps.engine.layout, config.template, steps.seed)  # fmt: skip
    # Reward models: R_P of a response, R_PIT of the gap between two (Eq. 1-2).
    r_p = plain_reward(config, steps, base, reward_fold)
    r_pit = steps.train("gap-reward-model", learn_gaps, base, reward_fold, config.reward,
                        steps.engine.layout, config.template, steps.seed)  # fmt: skip
    # Reinforcement learning: M_P by R_P (Eq. 3), then M_PIT by the gap in two rounds (Eq. 4-5).
    rl_prompts = steps.rows("rl-prompts", pit_tasks.from_prompts, rl_fold)
    m_p_rl = reinforce(config, steps, "policy-rl", m_p, m_p, r_p, rl_prompts, config.policy_rl)
    improved = m_p_rl if config.start == "rl" else m_p
    lines = Curriculum(config, steps, m_pit, improved, rl_fold, rl_prompts)
    gap_model = r_pit if config.gap == "trained" else r_p
    pit, first = lines.run("pit", config.rounds, gap_model)
    ablated = {"first-round-only": first} if config.rounds == "both" else {}
    if "second_round_only" in config.ablations:
        ablated["second-round-only"], _ = lines.run("pit-second-only", "second", gap_model)
    if "gap_difference" in config.ablations:
        ablated["gap-difference"], _ = lines.run("pit-difference", config.rounds, r_p)
    if "placebo_reference" in config.ablations:
        blind = replace(lines, placebo=True)
        ablated["placebo-reference"], _ = blind.run("pit-placebo", config.rounds, gap_model)
    models = Models(m_p, m_p_rl, m_pit, pit, r_p, r_pit, ablated)
    models = models.leaving(Exporter(steps, config.export, base))
    measure(config, steps, measured_on, models, apart.told)
    return models.pit


# --8<-- [end:plot]


def preferences_that_fit(config: PitConfig, steps: Run, base: ModelRef) -> Rows[Preference]:
    """Read the preferences; those that do not fit the windows are left out, and counted."""
    told = steps.rows("preferences-read", read_preferences, config.preferences, steps.seed)
    return steps.rows("preferences", pit_tasks.fitting, told, base, steps.engine.layout,
                      config.max_prompt_tokens, config.max_response_tokens)  # fmt: skip


def in_folds(config: PitConfig, steps: Run, told: Rows[Preference]) -> Rows[InFold]:
    """Divide the preferences into SFT, reward models and RL, and what is measured on."""
    if config.folds == "given":
        return steps.rows("folds", given_folds, config.preferences, steps.seed)
    share = 0.0 if config.evaluation.preferences else config.evaluation.held_out
    return steps.rows("folds", three_folds, told, steps.seed, share)


def plain_reward(
    config: PitConfig, steps: Run, base: ModelRef, preferences: Rows[Preference]
) -> ModelRef:
    """Return R_P: trained on preferences, or code of the user's own."""
    if config.reward_function is not None:
        return steps.model("reward-model", own_reward, base, config.reward_function)
    return steps.train("reward-model", learn_reward, base, preferences, config.reward,
                       steps.engine.layout, steps.seed)  # fmt: skip


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

    def run(self, name: str, rounds: str, gap_model: ModelRef) -> tuple[ModelRef, ModelRef]:
        """Return M_PIT after the rounds asked for, and what it was after the first of them."""
        config, steps, model = self.config, self.steps, self.m_pit
        first = model
        if rounds in ("both", "first"):
            tasks = steps.rows("first-round-tasks", pit_tasks.from_data, self.rl_fold)
            tasks = self._given("first-round-placebos", tasks)
            model = first = reinforce(config, steps, f"{name}-rl-1", model, self.m_pit, gap_model,
                                      tasks, config.first_round)  # fmt: skip
        if rounds in ("both", "second"):
            tasks = self._given("second-round-placebos", self.policy_references())
            model = reinforce(config, steps, f"{name}-rl-2", model, self.m_pit, gap_model,
                              tasks, config.second_round)  # fmt: skip
        return model, first

    def _given(self, name: str, tasks: Rows[Task]) -> Rows[Task]:
        return self.steps.rows(name, pit_tasks.placebos, tasks) if self.placebo else tasks

    def policy_references(self) -> Rows[Task]:
        """Return the RL prompts, each with a response that M_P draws to it."""
        sampling = SamplingConfig(temperature=1.0, max_tokens=self.config.max_response_tokens)
        asked = self.steps.rows("references-asked", pit_tasks.asked, self.rl_prompts)
        drawn = self.steps.sharded("references", answer, asked, self.steps.asks(self.improved),
                                   sampling, self.steps.seed,
                                   shard_items=self.config.evaluation.shard_prompts)  # fmt: skip
        return self.steps.rows("second-round-tasks", pit_tasks.from_policy, self.rl_prompts, drawn)


def reinforce(  # noqa: PLR0913  who learns from whom, held to whom, by whose reward, how
    config: PitConfig,
    steps: Run,
    name: str,
    start: ModelRef,
    anchor: ModelRef,
    reward: ModelRef,
    tasks: Rows[Task],
    how: PolicyGradientConfig,
) -> ModelRef:
    """Train one policy; its KL is taken to the supervised model of its own line."""
    return steps.train(name, optimise, start, anchor, reward, tasks, config.validation_prompts, how,
                       config.template, config.max_response_tokens, steps.engine,
                       steps.seed)  # fmt: skip


def optimise(  # noqa: PLR0913  who learns from whom, held to whom, by whose reward, how
    start: ModelRef,
    anchor: ModelRef,
    reward: ModelRef,
    tasks: Sequence[Task],
    validation: int,
    config: PolicyGradientConfig,
    template: str,
    max_tokens: int,
    engine: EngineConfig,
    seed: int,
) -> PolicyTraining:
    """Train by r(x, y), or r_gap(x, y, y_ref) where tasks have references (Eq. 3-5)."""
    tasks = list(tasks)
    learned, held_out = pit_tasks.split(tasks, validation)
    words = improvement_template(template)
    prompts, tried = (
        [Prompt(t.id, as_asked(pit_tasks.shown(t, words), chat=engine.chat)) for t in part]
        for part in (learned, held_out)
    )
    return PolicyTraining(Path(start.path), prompts, tried,
                          partial(_rewarding, tasks, Path(reward.path), engine), config, engine,
                          Path(anchor.path), max_tokens, seed)  # fmt: skip


def _rewarding(tasks: Sequence[Task], model: Path, engine: EngineConfig) -> Reward:
    """Return the reward of these tasks, by the model in memory."""
    of = {task.id: task for task in tasks}
    by = (
        reward_scorer(model, engine)
        if tasks[0].reference is None
        else GapScorer(model, engine, by_difference=not reads_gaps(model))
    )

    def reward(
        keys: Sequence[str], texts: Sequence[str], finished: Sequence[bool]
    ) -> list[float | None]:
        told = zip((of[key] for key in keys), texts, finished, strict=True)
        rows = [Improved(t.id, 0, t.prompt, y, t.reference or "", done) for t, y, done in told]
        return by.told(rows).scores

    return reward


def imitate(
    base: ModelRef,
    preferences: Sequence[Preference],
    config: SftConfig,
    layout: PromptLayout,
    seed: int,
) -> SupervisedTraining:
    """Train M_P: log p(y_w | x)."""
    examples = [Example(as_asked(p.prompt, chat=layout.chat), p.chosen) for p in preferences]
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs))  # fmt: skip


def imitate_improvement(
    base: ModelRef,
    preferences: Sequence[Preference],
    config: SftConfig,
    layout: PromptLayout,
    template: str,
    seed: int,
) -> SupervisedTraining:
    """Train M_PIT: log p(y_w | x, y_l)."""
    words = improvement_template(template)
    examples = [
        Example(as_asked(rendered(words, p.prompt, p.rejected), chat=layout.chat), p.chosen)
        for p in preferences
    ]
    within = inside(partial(unrendered, words), partial(rendered, words))
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs, within))  # fmt: skip


def learn_gaps(
    base: ModelRef,
    preferences: Sequence[Preference],
    config: RewardConfig,
    layout: PromptLayout,
    template: str,
    seed: int,
) -> GapRewardTraining:
    """Train R_PIT (Eq. 1-2)."""
    return GapRewardTraining(Path(base.path), preferences, config, seed, layout.chat,
                             improvement_template(template), layout.chat_template_kwargs)  # fmt: skip
