"""The trainer of a policy: TRL's loop, whose every step draws, rewards and learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, final

import torch
from transformers import Trainer

from selfimprove.errors import TrainingError
from selfimprove.sampling.engine import Sampler, SamplingConfig, draw_in_order
from selfimprove.sampling.prompts import encode
from selfimprove.seeds import seed_of
from selfimprove.training._completion_trainer import CompletionTrainer, by_row
from selfimprove.training._tries import Tries
from selfimprove.training.pieces import MIN_PREFIX, Group, plain_piece, shared_piece
from selfimprove.training.policy_gradient import PolicyGradientConfig, Reward
from selfimprove.training.policy_loss import leave_one_out, penalised, truncated_ratio
from selfimprove.training.processes import everyones
from selfimprove.training.tokens import TokenisedExample
from selfimprove.types import Draw, Prompt

__all__ = ["Draws", "PolicyTrainer", "numbered"]

_TINY: Final = 1e-4  # TRL's: keeps a batch of equal rewards from blowing up


def numbered(batch: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Return the numbers of a step's prompts, and a label each for the trainer to count."""
    # The trainer counts labels from the second on.
    labels = torch.tensor([-100] + [0] * len(batch))
    return {"numbers": [item["row"] for item in batch], "labels": labels}


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn, and what it is worth."""

    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt]
    reward: Reward
    config: PolicyGradientConfig
    max_tokens: int
    seed: int


@final
class PolicyTrainer(CompletionTrainer):
    """Every step: K draws a prompt, their rewards, and one step on their advantages."""

    def set_up(
        self,
        draws: Draws,
        tries: Tries,
        sampler: Sampler,
        reference: Any,  # noqa: ANN401
        limits: tuple[int, bool],
    ) -> None:
        """Tell what to draw, where the best policy is kept, who draws, the anchor, and what a pass holds."""
        self._draws, self._tries, self._sampler, self._reference = draws, tries, sampler, reference
        self._piece_tokens, self._share = limits
        self.tokens = self.tokens_sampled = 0
        self.stopped = ""

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Draw from the policy as it is, and add up the gradients; return the mean penalised loss."""
        step, config = self.state.global_step, self._draws.config
        if step % config.try_every == 0:
            self.try_policy()
        prompts = [self._draws.prompts[number] for number in inputs["numbers"]]
        # A prompt that comes twice in a batch is drawn anew: its key is its place in the batch, of
        # which every process has the next part.
        first = self.accelerator.process_index * len(prompts)
        asked = [Prompt(str(place), p.content) for place, p in enumerate(prompts, start=first)]
        # One batch of draws a step, number 0.
        draws = self._draw(asked, config.n, seed_of(self._draws.seed, "rl", step, 0))
        rewards = self._rewards([p.key for p in prompts for _ in range(config.n)], draws)
        encoded = encode(asked, self.processing_class)
        rows = [
            TokenisedExample((*encoded[i // config.n].ids, *d.tokens), d.prompt_tokens)
            for i, d in enumerate(draws)
        ]
        self.tokens += sum(len(row.ids) for row in rows)
        return self._learn(model, rows, rewards, [d.logprobs for d in draws])

    @property
    def _policy(self) -> Any:  # noqa: ANN401
        """The model that learns; the trainer's own type leaves open whether there is one."""
        return self.model

    def _draw(self, prompts: Sequence[Prompt], n: int, seed: int) -> list[Draw]:
        self._policy.eval()
        asked = SamplingConfig(n=n, temperature=1.0, max_tokens=self._draws.max_tokens)
        with self.compute_loss_context_manager():
            draws = draw_in_order(self._sampler, prompts, asked, seed=seed)
        self.tokens_sampled += sum(d.new_tokens for d in draws)
        return draws

    def _rewards(self, keys: Sequence[str], draws: Sequence[Draw]) -> torch.Tensor:
        """Reward draws; one that did not end, or cannot be rewarded, gets the least of the batch."""
        told = list(self._draws.reward(keys, [d.text.strip() for d in draws]))
        pairs = zip(draws, told, strict=True)
        known = [None if d.finish != "stop" else reward for d, reward in pairs]
        ended = [reward for reward in known if reward is not None]
        self._note("unfinished", [float(reward is None) for reward in known])
        told_by_all = [reward for reward in everyones(told) if reward is not None]
        least = min(everyones(ended), default=min(told_by_all, default=0.0))
        return torch.tensor([least if reward is None else reward for reward in known])

    def _learn(
        self,
        model: torch.nn.Module,
        rows: Sequence[TokenisedExample],
        rewards: torch.Tensor,
        sampled: Sequence[tuple[float, ...]],
    ) -> torch.Tensor:
        """Add up the gradients of -advantage x log-probability, whole prompts at a time.

        Advantages hold the KL of their own prompt's draws alone, so that one pass over the policy
        is enough; their standard deviation over the batch, a common factor, comes in at the end.
        """
        config = self._draws.config
        model.train()
        losses, advantages, kls = [], [], []
        pieces = list(self._pieces(rows))
        for number, places in enumerate(pieces, start=1):
            piece = self._prepare_inputs(self._piece([rows[i] for i in places]))
            with torch.no_grad(), self.compute_loss_context_manager():
                anchor = self.row_log_probs(self._reference, piece)
            last = number == len(pieces)
            with self.accelerator.no_sync(model) if not last else torch.enable_grad():
                with self.compute_loss_context_manager():
                    tokens, counts = self.log_probs(model, piece), piece["completion_tokens"]
                held = by_row(tokens.detach(), counts)
                worth = penalised(rewards[places].to(held.device), held, anchor, config.beta)
                advantage = leave_one_out(worth.view(-1, config.n)).flatten()
                counted = by_row(self._counted(tokens, [sampled[i] for i in places]), counts)
                loss = -(advantage * counted).sum() / len(rows)
                self.accelerator.backward(loss)
            kls += (held - anchor).tolist()
            self._note("entropy", (-held / counts).tolist())
            self._note("completion_length", counts.tolist())
            losses.append(loss.detach())
            advantages.append(advantage)
        self._scale(model, torch.cat(advantages))
        self._note("reward", rewards.tolist())
        self._note("kl", kls)
        self._stop_if_away()
        return torch.stack(losses).sum()

    def _counted(self, tokens: torch.Tensor, sampled: Sequence[tuple[float, ...]]) -> torch.Tensor:
        """Return log-probabilities as often as they count: once, where the policy itself drew."""
        if not all(sampled):
            return tokens
        told = torch.tensor([one for row in sampled for one in row], device=tokens.device)
        ratios = truncated_ratio(tokens.detach(), told)
        self._note("sampling_ratio", ratios.tolist())
        return ratios * tokens

    def _scale(self, model: torch.nn.Module, advantages: torch.Tensor) -> None:
        if not self._draws.config.normalize_advantages:
            return
        spread = float(self.accelerator.gather(advantages).std()) + _TINY
        for weights in model.parameters():
            if weights.grad is not None:
                weights.grad.div_(spread)

    def _pieces(self, rows: Sequence[TokenisedExample]) -> list[list[int]]:
        """Cut a batch into passes of few enough tokens; the draws of a prompt are never parted."""
        n, limit = self._draws.config.n, self._piece_tokens
        starts = sorted(
            range(0, len(rows), n), key=lambda s: max(len(r.ids) for r in rows[s : s + n])
        )
        pieces: list[list[int]] = []
        for start in starts:
            width = max(len(row.ids) for row in rows[start : start + n])
            if not pieces or (len(pieces[-1]) + n) * width > limit:
                pieces.append([])
            pieces[-1] += range(start, start + n)
        return pieces

    def _piece(self, rows: Sequence[TokenisedExample]) -> dict[str, torch.Tensor]:
        n = self._draws.config.n
        shortest = min(row.prompt_tokens for row in rows) - 1
        if self._share and shortest >= MIN_PREFIX:
            groups = [Group(tuple(rows[i : i + n]), rows[i].prompt_tokens - 1)
                      for i in range(0, len(rows), n)]  # fmt: skip
            piece = shared_piece(groups)
        else:
            piece = plain_piece(rows)
        piece["completion_tokens"] = torch.tensor([len(r.ids) - r.prompt_tokens for r in rows])
        return piece

    def _stop_if_away(self) -> None:
        kl, most = fmean(everyones(self._metrics["train"]["kl"])), self._draws.config.max_kl
        if kl > most:
            self.stopped = (
                f"the KL reached {kl:.1f} nats a response at step {self.state.global_step + 1}, above "
                f"max_kl={most:g}: the policy leaves the supervised model faster than it gains; lower "
                "the learning rate or raise beta"
            )
            self.control.should_training_stop = True

    def try_policy(self) -> None:
        """Measure the policy as it is on the held-out prompts; the best one is kept."""
        step, here = self.state.global_step, self.accelerator
        held_out = self._draws.held_out[here.process_index :: here.num_processes]
        draws = self._draw(held_out, 1, seed_of(self._draws.seed, "held out"))
        told = self._draws.reward([p.key for p in held_out], [d.text.strip() for d in draws])
        known = [reward for reward in everyones(told) if reward is not None]
        if not known:
            raise TrainingError("no draw of a held-out prompt could be rewarded: lower max_tokens")
        self._tries.note(step, fmean(known), self._policy, writes=self.is_world_process_zero())
        # The usual trainer's own: TRL's would end the means of the step that is to come.
        Trainer.log(self, {"held_out_reward": fmean(known)})

    def _note(self, name: str, values: Sequence[float]) -> None:
        self._metrics["train"][name] += values
