"""Reinforcement learning: prompts and a reward in, a plain Hugging Face folder out.

    maximise  E[ r(x, y) ] - beta KL(policy || reference)                      PIT, Eq. 3-5

by policy gradient with leave-one-out advantages (Ahmadian et al. 2024, RLOO): K draws a prompt, each
compared with the others; one optimiser step on every batch of draws, so that all of them come from
the very policy that learns. The paper does not name its algorithm. The built-in engine draws from
the model in memory, at temperature 1. Or others do (`rollouts`): replicas of it, or a vLLM server, which
are given all weights, or the adapters, as they change, a step ahead if asked; then each token counts by
how likely the policy itself finds it.

Held-out prompts are drawn and rewarded at intervals, the start included: the policy whose E[r] - beta
KL is the highest there is the result, not the last one. A KL that runs away ends the training, and
only policies inside the bound may be chosen. Unfinished draws count by the one rule of `unfinished`.
The policy learns without dropout, as it draws, and in the reference's precision. Only where the built-in
engine draws, here or in replicas, does a resumed training end with the very weights of an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from selfimprove.errors import TrainingError
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.fit import Collate, Fitted, Job, Loaded, Objective, fit
from selfimprove.training.policy_config import PolicyGradientConfig, Reward
from selfimprove.training.processes import everyones
from selfimprove.types import Prompt

if TYPE_CHECKING:
    from selfimprove.training._policy_trainer import PolicyTrainer

__all__ = ["TrainedPolicy", "train_policy"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainedPolicy:
    """What a reinforcement learning did."""

    steps: int
    """Optimiser steps made."""
    prompts: int
    """Different prompts that could be trained on."""
    tokens: int
    """Tokens of prompts and draws that were trained on, since the last resume."""
    tokens_sampled: int
    """Tokens drawn, those of held-out prompts included, since the last resume."""
    first_reward: float
    """Mean reward of the first batch, before any change of the weights."""
    final_reward: float
    """Mean reward of the last batch."""
    final_kl: float
    """Mean of log pi - log pi_ref over the last batch, in nats a response."""
    best_step: int
    """Steps after which the policy that was kept did best; 0: no policy inside the bound was better
    than the start."""
    best_reward: float
    """Its mean reward on held-out prompts."""
    best_kl: float
    """Its KL there, in nats a response."""
    best_unfinished: float
    """Share of its draws there that did not end."""
    start_reward: float
    """Mean reward of the start on held-out prompts."""
    start_kl: float
    """Its KL there: 0 where the start is the reference."""
    start_unfinished: float
    """Share of its draws there that did not end."""
    stopped: str
    """Why the training ended before its last step; empty where it did not."""
    arithmetic: str
    """The precision that was computed in, and why."""
    seconds: float
    """Of this call: after a resume, the part since then."""


def train_policy(  # noqa: PLR0913  two models, two sets of prompts, a reward, folders and a seed, by name
    policy: Path,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PolicyGradientConfig,
    engine: EngineConfig,
    *,
    reference: Path,
    held_out: Sequence[Prompt],
    max_tokens: int,
    out: Path,
    checkpoints: Path,
    seed: int,
) -> TrainedPolicy:
    """Train the model of `policy` towards higher rewards, and write the best one to `out`.

    Args:
        policy: a Hugging Face folder; where training starts.
        prompts: what is responded to; their keys name them to the reward. Where draws of two references
            are compared, the two prompts of each stand together.
        reward: of responses.
        config: how.
        engine: bounds of the built-in engine, which draws with the training's device and precision;
            or, where it draws apart, the replicas or the server.
        reference: the folder of the model that the policy is held to, by `beta`.
        held_out: prompts that decide which policy is kept.
        max_tokens: of one draw; one that does not end by then is worth the least of its batch.
        out: becomes a Hugging Face folder; the log is written beside it.
        checkpoints: where an interrupted training is looked for, and left.
        seed: of the order of the prompts, of the draws, of adapters and dropout.

    Raises:
        TrainingError: no prompt, a reward or loss that is no number.
        EngineError: a folder holds no causal language model, or a prompt does not fit its context.
    """
    if not prompts or not held_out:
        raise TrainingError(
            f"reinforcement learning needs prompts to learn on and to be measured on: there are "
            f"{len(prompts)} and {len(held_out)}"
        )
    told = RewardedDraws(prompts, held_out, reward, engine, reference, max_tokens)
    return fit(Job(policy, config, out, checkpoints, seed), told)


@final
class RewardedDraws(Objective[PolicyGradientConfig, TrainedPolicy]):
    """-advantage x log-probability, of draws of the very policy that learns."""

    stream = "rl order"
    log_every = 1

    def __init__(
        self,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        reward: Reward,
        engine: EngineConfig,
        reference: Path,
        max_tokens: int,
    ) -> None:
        self._prompts, self._held_out, self._reward = prompts, held_out, reward
        self._engine, self._reference, self._max_tokens = engine, reference, max_tokens

    def trainer(self) -> type[PolicyTrainer]:
        """Return the loop whose every step draws, rewards and learns."""
        from selfimprove.training._policy_trainer import PolicyTrainer

        return PolicyTrainer

    def rows(self, job: Job[PolicyGradientConfig], loaded: Loaded) -> tuple[int, Collate]:
        """Return how many prompts there are; a batch is their numbers, as nothing is drawn yet."""
        from selfimprove.training._policy_trainer import numbered
        from selfimprove.training.support import piece_limits

        self._loaded = loaded
        # Tried before the trainer changes how the model attends.
        drops = self.trainer().dropout
        self._limits = piece_limits(loaded.model, job.config, loaded.use, drops=drops)
        return len(self._prompts) // job.config.references, numbered

    @contextmanager
    def learning(
        self,
        job: Job[PolicyGradientConfig],
        trainer: Any,  # noqa: ANN401
        resumed_at: int,
    ) -> Iterator[None]:
        """Hold what draws; after the last step try the policy once more, unless it ran away."""
        from selfimprove.training import model_folder
        from selfimprove.training._draws import Draws
        from selfimprove.training._policy_sampler import Policy, policy_sampler
        from selfimprove.training._rollouts import Rollouts
        from selfimprove.training._tries import Tries

        draws = Draws(self._prompts, self._held_out, self._reward, job.config, self._max_tokens,
                      job.seed, self._engine.chat_template_kwargs)  # fmt: skip
        self._tries = Tries(job.checkpoints, resumed_at=resumed_at)
        policy = Policy(trainer.drawn_from(), self._loaded.tokenizer, self._loaded.stop, job.base,
                        self._loaded.use)  # fmt: skip
        scratch = job.checkpoints / "adapter"
        sampler = policy_sampler(policy, self._engine, job.config, scratch)
        with closing(Rollouts(sampler, job.checkpoints, trainer.args.process_index)) as rollouts:
            frozen = model_folder.load_frozen(self._reference, job.config, trainer)
            trainer.set_up(draws, self._tries, rollouts, frozen, self._limits)
            yield
            if not trainer.stopped:
                trainer.try_policy()

    def write(self, job: Job[PolicyGradientConfig], trainer: Any) -> None:  # noqa: ANN401
        """Write the policy that did best on the held-out prompts."""
        trainer.accelerator.wait_for_everyone()
        step = trainer.state.global_step
        self._tries.load_best(trainer.model, step, shared_out=trainer.shared_out)
        super().write(job, trainer)
        if trainer.stopped:
            _log.warning("%s; kept the policy of step %d", trainer.stopped, self._tries.best)

    def told(self, fitted: Fitted) -> TrainedPolicy:
        """Return what the training did."""
        trainer, tries, logged = fitted.trainer, self._tries, fitted.logged("reward")
        last, best, start = logged[-1], tries.all[tries.best], tries.all[0]
        if not math.isfinite(last["reward"]):
            raise TrainingError(f"the reward is {last['reward']}: look at the reward model")
        return TrainedPolicy(
            steps=trainer.state.global_step,
            prompts=len(self._prompts),
            tokens=sum(everyones([trainer.tokens])),
            tokens_sampled=sum(everyones([trainer.tokens_sampled])),
            first_reward=logged[0]["reward"],
            final_reward=last["reward"],
            final_kl=last["kl"],
            best_step=tries.best,
            best_reward=best.reward,
            best_kl=best.kl,
            best_unfinished=best.unfinished,
            start_reward=start.reward,
            start_kl=start.kl,
            start_unfinished=start.unfinished,
            stopped=trainer.stopped,
            arithmetic=fitted.arithmetic,
            seconds=fitted.seconds,
        )
