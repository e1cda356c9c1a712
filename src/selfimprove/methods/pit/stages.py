"""The trainings of PIT: what each learns from, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from selfimprove.data.improvement_prompts import improvement_template, rendered, unrendered
from selfimprove.data.preferences import Preference
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.own_reward import own_reward, reward_scorer
from selfimprove.judges.plain_reward import reads_gaps
from selfimprove.judges.reward_rows import Improved
from selfimprove.methods.pit import tasks as pit_tasks
from selfimprove.methods.pit.config import PitConfig
from selfimprove.methods.pit.tasks import Task
from selfimprove.methods.reward_start import learn_reward
from selfimprove.rows import Rows
from selfimprove.sampling.conversation import as_asked
from selfimprove.sampling.engine import EngineConfig, PromptLayout
from selfimprove.sampling.shortening import inside
from selfimprove.store import Run
from selfimprove.training.policy_config import PolicyGradientConfig, Reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.trainings import GapRewardTraining, PolicyTraining, SupervisedTraining
from selfimprove.types import Example, Message, ModelRef, Prompt

__all__ = ["gap_reward", "imitate", "improver", "plain_reward", "reinforce"]


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


def improver(
    config: PitConfig, steps: Run, name: str, base: ModelRef, preferences: Rows[Preference]
) -> ModelRef:
    """Return the supervised M_PIT."""
    told = (base, preferences, config.sft, steps.engine.layout, config.template, steps.seed)
    if config.reference_dropout:
        return steps.train(name, imitate_with_some_hidden, *told, config.reference_dropout)
    return steps.train(name, imitate_improvement, *told)


def imitate_improvement(
    base: ModelRef,
    preferences: Sequence[Preference],
    config: SftConfig,
    layout: PromptLayout,
    template: str,
    seed: int,
) -> SupervisedTraining:
    """Train M_PIT: log p(y_w | x, y_l)."""
    return imitate_with_some_hidden(base, preferences, config, layout, template, seed, 0)


def imitate_with_some_hidden(  # noqa: PLR0913  what is shown to whom, how
    base: ModelRef,
    preferences: Sequence[Preference],
    config: SftConfig,
    layout: PromptLayout,
    template: str,
    seed: int,
    dropout: float,
) -> SupervisedTraining:
    """Train M_PIT: log p(y_w | x, y_l), and for a share `dropout` of the preferences log p(y_w | x)."""
    words = improvement_template(template)

    def read(told: Preference) -> tuple[Message, ...]:
        hidden = pit_tasks.is_hidden(told.id, dropout, seed)
        return told.prompt if hidden else rendered(words, told.prompt, told.rejected)

    examples = [Example(as_asked(read(p), chat=layout.chat), p.chosen) for p in preferences]
    within = inside(partial(unrendered, words), partial(rendered, words))
    return SupervisedTraining(Path(base.path), examples, config, seed,
                              Shown(layout.chat_template_kwargs, within))  # fmt: skip


def gap_reward(
    config: PitConfig, steps: Run, name: str, base: ModelRef, preferences: Rows[Preference]
) -> ModelRef:
    """Return R_PIT."""
    return steps.train(name, learn_gaps, base, preferences, config.reward, steps.engine.layout,
                       config.template, steps.seed)  # fmt: skip


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


def plain_reward(
    config: PitConfig, steps: Run, base: ModelRef, preferences: Rows[Preference]
) -> ModelRef:
    """Return R_P: trained on preferences, or code of the user's own."""
    if config.reward_function is not None:
        return steps.model("reward-model", own_reward, base, config.reward_function)
    return steps.train("reward-model", learn_reward, base, preferences, config.reward,
                       steps.engine.layout, steps.seed)  # fmt: skip


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
