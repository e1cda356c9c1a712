"""Trainings that are set up and not yet run: what a training step of a method is made of.

Such a job knows what it would cost at most before anything is loaded, which is what a dry run asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from selfimprove.data.improvement_prompts import ImprovementTemplate, rendered
from selfimprove.data.preferences import Preference
from selfimprove.sampling.conversation import Asked
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.dpo import DpoConfig, TrainedDpo, train_dpo
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.order import in_order
from selfimprove.training.policy_config import PolicyGradientConfig, Reward
from selfimprove.training.policy_gradient import TrainedPolicy, train_policy
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig, TrainedReward
from selfimprove.training.sft import Trained, train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import Shown
from selfimprove.training.training_config import TrainingConfig
from selfimprove.types import Example, Pair, Prompt

__all__ = ["AtMost", "Count", "GapRewardTraining", "PolicyTraining", "PreferenceTraining",
           "RewardTraining", "SupervisedTraining", "Training"]  # fmt: skip

Count: TypeAlias = Callable[[str], int]
"""The tokens of a text."""

_MARKS: Final = 8
"""Tokens of a chat template around a turn, about."""


class AtMost(NamedTuple):
    """Upper bounds of what a training costs."""

    trained: int
    """Tokens that are trained on, prompts included."""
    sampled: int = 0
    """Tokens that are drawn for it."""
    longest: int = 0
    """Tokens of the longest row that is computed."""
    kept: tuple[int, ...] = ()
    """Steps whose models are kept beside the last one."""
    rows: int = 0
    """That are trained on, each as often as that happens."""


class Training(Protocol):
    """A training that is set up."""

    @property
    def base(self) -> Path:
        """The folder of the model that it begins with."""
        ...

    @property
    def config(self) -> TrainingConfig:
        """How it trains."""
        ...

    @property
    def beside(self) -> int:
        """Models of the same size that are held beside the one in training."""
        ...

    @property
    def draws(self) -> EngineConfig | None:
        """The engine that draws from the model while it learns; None: nothing is drawn here."""
        ...

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        ...


@dataclass(frozen=True, slots=True)
class SupervisedTraining:
    """Fine-tuning on examples."""

    base: Path
    examples: Sequence[Example]
    config: SftConfig
    seed: int
    shown: Shown = field(default_factory=Shown)

    beside = 0
    draws = None

    def fit(self, *, out: Path, checkpoints: Path) -> Trained:
        """Train, and write the model to `out`; `train_sft` says the rest."""
        return train_sft(self.base, self.examples, self.config, out=out, checkpoints=checkpoints,
                         seed=self.seed, shown=self.shown)  # fmt: skip

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        rows = ([(e.prompt, e.completion)] for e in self.examples)
        return AtMost(_tokens(rows, self.config, count), longest=self.config.max_length,
                      rows=_rows(len(self.examples), self.config))  # fmt: skip


@dataclass(frozen=True, slots=True)
class PreferenceTraining:
    """DPO on pairs, with the start as the reference."""

    base: Path
    pairs: Sequence[Pair]
    config: DpoConfig
    seed: int
    shown: Shown = field(default_factory=Shown)

    beside = 0
    draws = None

    def fit(self, *, out: Path, checkpoints: Path) -> TrainedDpo:
        """Train, and write the model to `out`; `train_dpo` says the rest."""
        return train_dpo(self.base, self.pairs, self.config, out=out, checkpoints=checkpoints,
                         seed=self.seed, shown=self.shown)  # fmt: skip

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        rows = ([(p.prompt, p.chosen), (p.prompt, p.rejected)] for p in self.pairs)
        every, last = self.config.try_every, _steps(len(self.pairs), self.config)
        kept = range(every, last, every) if every else ()
        return AtMost(_tokens(rows, self.config, count), longest=self.config.max_length,
                      kept=tuple(kept), rows=_rows(len(self.pairs), self.config))  # fmt: skip


@dataclass(frozen=True, slots=True)
class RewardTraining:
    """A plain reward model R_P, from preferences."""

    base: Path
    preferences: Sequence[Preference]
    config: RewardConfig
    seed: int
    chat: bool
    chat_template_kwargs: Mapping[str, Any]

    beside = 0
    draws = None

    def fit(self, *, out: Path, checkpoints: Path) -> TrainedReward:
        """Train, and write the model to `out`; `train_reward` says the rest."""
        return train_reward(self.base, self.preferences, self.config, out=out,
                            checkpoints=checkpoints, seed=self.seed, chat=self.chat,
                            chat_template_kwargs=self.chat_template_kwargs)  # fmt: skip

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        rows = ([(p.prompt, text) for text in (p.chosen, p.rejected)] for p in self.preferences)
        return AtMost(_tokens(rows, self.config, count), longest=self.config.max_length,
                      rows=_rows(len(self.preferences), self.config))  # fmt: skip


@dataclass(frozen=True, slots=True)
class GapRewardTraining:
    """The gap reward model R_PIT, from the four gaps of each preference (PIT, Eq. 1-2)."""

    base: Path
    preferences: Sequence[Preference]
    config: RewardConfig
    seed: int
    chat: bool
    template: ImprovementTemplate
    chat_template_kwargs: Mapping[str, Any]

    beside = 0
    draws = None

    def fit(self, *, out: Path, checkpoints: Path) -> TrainedReward:
        """Train, and write the model to `out`; `train_gap_reward` says the rest."""
        return train_gap_reward(self.base, self.preferences, self.config, out=out,
                                checkpoints=checkpoints, seed=self.seed, chat=self.chat,
                                template=self.template,
                                chat_template_kwargs=self.chat_template_kwargs)  # fmt: skip

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        rows = (
            [
                (rendered(self.template, p.prompt, reference), text)
                for reference in (p.chosen, p.rejected)
                for text in (p.chosen, p.rejected)
            ]
            for p in self.preferences
        )
        return AtMost(_tokens(rows, self.config, count), longest=self.config.max_length,
                      rows=_rows(len(self.preferences), self.config))  # fmt: skip


@dataclass(frozen=True, slots=True)
class PolicyTraining:
    """Reinforcement learning of a policy, held to a reference (PIT, Eq. 3-5)."""

    base: Path
    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt]
    load_reward: Callable[[], Reward]
    """Loads the reward model."""
    config: PolicyGradientConfig
    engine: EngineConfig
    reference: Path
    max_tokens: int
    """Of one draw."""
    seed: int

    beside = 2  # the reference, and the reward model

    @property
    def draws(self) -> EngineConfig | None:
        """The engine that draws from the model while it learns; None: one apart does."""
        served = self.engine.server is not None and self.engine.server.adapters
        return None if served or self.config.rollouts.by == "engine" else self.engine

    def fit(self, *, out: Path, checkpoints: Path) -> TrainedPolicy:
        """Train, and write the model to `out`; `train_policy` says the rest."""
        return train_policy(self.base, self.prompts, self.load_reward(), self.config, self.engine,
                            reference=self.reference, held_out=self.held_out,
                            max_tokens=self.max_tokens, out=out, checkpoints=checkpoints,
                            seed=self.seed)  # fmt: skip

    def at_most(self, count: Count) -> AtMost:
        """Return upper bounds of its cost."""
        config = self.config
        asked = [_length(p.content, count) for p in self.prompts]
        steps = _steps(len(asked) // config.references, config)
        draws = steps * config.batch_size * config.n
        tries = ceil(steps / config.try_every) + 1
        read = round(sum(asked) / max(len(asked), 1) * draws)
        sampled = (draws + tries * len(self.held_out)) * self.max_tokens
        longest = max(asked, default=0) + self.max_tokens
        return AtMost(draws * self.max_tokens + read, sampled, longest,
                      rows=steps * config.batch_size)  # fmt: skip


def _steps(rows: int, config: TrainingConfig) -> int:
    return in_order(rows, config, 0, "")[1] if rows else 0


def _rows(count: int, config: TrainingConfig) -> int:
    return len(in_order(count, config, 0, "")[0]) if count else 0


def _tokens(groups: Iterable[Sequence[tuple[Asked, str]]], config: SftConfig, count: Count) -> int:
    """Return the tokens of all groups of rows, each time they are trained on."""
    told = [
        sum(
            min(_length(asked, count) + count(said) + 1, config.max_length) for asked, said in group
        )
        for group in groups
    ]
    rows = (
        config.max_steps * config.batch_size
        if config.max_steps
        else max(round(config.epochs * len(told)), 1)
    )
    return round(sum(told) / max(len(told), 1) * rows) if told else 0


def _length(asked: Asked, count: Count) -> int:
    if isinstance(asked, str):
        return count(asked)
    return sum(count(turn.content) + _MARKS for turn in asked)
