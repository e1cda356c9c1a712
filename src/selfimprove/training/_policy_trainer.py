"""The trainer of a policy: TRL's loop, whose every step draws, rewards and learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Final, NamedTuple, final

import torch
from transformers import Trainer

from selfimprove.errors import TrainingError
from selfimprove.sampling.prompts import encode
from selfimprove.sampling.sending import sent
from selfimprove.seeds import seed_of
from selfimprove.training import sharded
from selfimprove.training._completion_trainer import CompletionTrainer, by_row
from selfimprove.training._draws import Draws
from selfimprove.training._mismatch import Mismatch
from selfimprove.training._rollouts import Rollouts
from selfimprove.training._tries import Tried, Tries
from selfimprove.training.pieces import MIN_PREFIX, Group, Limits, common_beginning
from selfimprove.training.policy_loss import leave_one_out, penalised
from selfimprove.training.processes import everyones
from selfimprove.training.tokens import TokenisedExample
from selfimprove.types import Draw, Prompt
from selfimprove.unfinished import least, worth

__all__ = ["PolicyTrainer", "numbered"]

_TINY: Final = 1e-4  # TRL's: keeps a batch of equal rewards from blowing up


def numbered(batch: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Return the numbers of a step's prompts, and a label each for the trainer to count."""
    # The trainer counts labels from the second on.
    labels = torch.tensor([-100] + [0] * len(batch))
    return {"numbers": [item["row"] for item in batch], "labels": labels}


class Rewarded(NamedTuple):
    """What the reward model says of draws, as they stand."""

    rewards: list[float | None]
    ended: list[bool]
    lowest: float | None
    """What one that did not end is worth at most, by the draws of all processes."""

    def by_the_rule(self, lowest: float) -> list[float]:
        """Return what each draw counts."""
        pairs = zip(self.rewards, self.ended, strict=True)
        told = [worth(reward, done, lowest) for reward, done in pairs]
        return [lowest if reward is None else reward for reward in told]


class Learned(NamedTuple):
    """What a piece of a batch taught, and what is told of its draws, (draws,) each."""

    loss: torch.Tensor
    advantages: torch.Tensor
    kl: torch.Tensor
    entropy: torch.Tensor
    completion_length: torch.Tensor


@final
class PolicyTrainer(CompletionTrainer):
    """Every step: K draws a prompt, their rewards, and one step on their advantages."""

    dropout = False

    def set_up(
        self,
        draws: Draws,
        tries: Tries,
        rollouts: Rollouts,
        reference: Any,  # noqa: ANN401
        limits: Limits,
    ) -> None:
        """Tell what to draw, where the best policy is kept, who draws, the anchor, and what a pass holds."""
        self._draws, self._tries, self._rollouts = draws, tries, rollouts
        self._reference = reference
        self._limits = limits
        self.tokens = self.tokens_sampled = 0
        self.stopped = ""

    def drawn_from(self) -> Any:  # noqa: ANN401
        """Return the model that is drawn from: what computes, or a whole copy of what is shared out."""
        if not self.shared_out:
            return self.computing(self.model)
        self._whole = self.whole_copy()
        return self._whole

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Draw from the policy as it is, and add up the gradients; return the mean penalised loss."""
        step, config = self.state.global_step, self._draws.config
        stale = self._is_drawn_ahead(step)
        numbers = self._draws.compared(inputs["numbers"])
        asked = self._asked(numbers)
        ahead = self._counted_in(self._rollouts.ahead(step, asked)) if stale else None
        tried = self._tried() if step % config.try_every == 0 else None
        draws = ahead or self._draw(asked, self._draws.each, self._draws.seed_at(step))
        if self._is_drawn_ahead(step + 1):
            self._draw_ahead(step + 1, len(inputs["numbers"]))
        keys = [self._draws.prompts[number].key for number in numbers]
        rewards = self._rewards([key for key in keys for _ in range(self._draws.each)], draws)
        rows = self._rows(asked, draws)
        self.tokens += sum(len(row.ids) for row in rows)
        corrects = stale or not self._rollouts.sampler.as_here
        self._mismatch = Mismatch(config.rollouts, corrects=corrects)
        loss = self._learn(model, rows, rewards, [d.logprobs for d in draws])
        if tried is not None:
            # Noted now that the batch, too, has told how far this policy is from the reference.
            self._note_try(replace(tried, inside=tried.inside and not self.stopped))
        return loss

    @property
    def _policy(self) -> Any:  # noqa: ANN401
        """The model that learns; the trainer's own type leaves open whether there is one."""
        return self.model

    def _asked(self, numbers: Sequence[int]) -> list[Prompt]:
        """Return the prompts of this process's part of a batch: every process has the next one."""
        return self._draws.asked(numbers, self.accelerator.process_index * len(numbers))

    def _draw(self, prompts: Sequence[Prompt], n: int, seed: int) -> list[Draw]:
        self._follow()
        # A rounded copy has nothing left to be rounded; autocast would keep it from recorded steps.
        with self.precision():
            return self._counted_in(self._rollouts.draw(prompts, self._draws.how(n), seed))

    def _is_drawn_ahead(self, step: int) -> bool:
        """Whether a step's draws are made while the one before it learns: not the first, nor a batch that is no whole one."""
        config = self._draws.config
        whole = (step + 1) * config.batch_size <= len(self.train_dataset)  # type: ignore[arg-type]
        return config.rollouts.max_staleness > 0 and step > 0 and whole

    def _draw_ahead(self, step: int, count: int) -> None:
        """Let the next step's draws be made of the weights as they are before this one learns."""
        self._follow()
        first = (step * self.accelerator.num_processes + self.accelerator.process_index) * count
        told = self._draws
        items = self.train_dataset["row"][first : first + count]  # type: ignore[index]
        asked = self._asked(told.compared(items))
        self._rollouts.begin(step, asked, told.how(told.each), told.seed_at(step))

    def _follow(self) -> None:
        """Let whoever draws see the policy as it is."""
        self._policy.eval()
        if self.shared_out:
            sharded.follow(self._whole, self._policy)
        else:
            self.computing(self._policy)
        self._rollouts.sampler.follow(self.state.global_step)

    def _counted_in(self, draws: list[Draw]) -> list[Draw]:
        self.tokens_sampled += sum(d.new_tokens for d in draws)
        return draws

    def _rows(self, prompts: Sequence[Prompt], draws: Sequence[Draw]) -> list[TokenisedExample]:
        """Return draws behind their prompts, token by token as they were sampled."""
        variables = self._draws.chat_template_kwargs
        ids = {p.key: p.ids for p in encode(prompts, self.processing_class, variables)}
        return [TokenisedExample((*ids[d.key], *d.tokens), d.prompt_tokens) for d in draws]

    def _told(self, keys: Sequence[str], draws: Sequence[Draw]) -> Rewarded:
        """Reward draws, and say which of them count; one that cannot be rewarded never ended either."""
        texts, finished = [d.text.strip() for d in draws], [d.is_finished for d in draws]
        rewards = list(self._draws.reward(keys, texts, finished))
        pairs = zip(draws, rewards, strict=True)
        ended = [d.is_finished and reward is not None for d, reward in pairs]
        return Rewarded(rewards, ended, least(everyones(rewards), everyones(ended)))

    def _rewards(self, keys: Sequence[str], draws: Sequence[Draw]) -> torch.Tensor:
        """Reward draws, (draws,); one that did not end gets the least of the batch."""
        told = self._told(keys, draws)
        self._note("unfinished", [float(not done) for done in told.ended])
        return torch.tensor(told.by_the_rule(told.lowest or 0.0))

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
        computing = self.begin(model)
        learned = []
        pieces = self._pieces(rows, config.n)
        missing = self.missing(len(pieces))
        for number, (places, told) in enumerate(pieces, start=1):
            with self.unsynced(model, last=number == len(pieces)):
                drawn = [sampled[i] for i in places]
                piece = self.on_device(told)
                learned.append(self._learned(computing, piece, rewards[places], drawn, len(rows)))
        for _ in range(missing):  # in the order of a pass that teaches
            with torch.no_grad():
                self.idle(self._reference)
            self.accelerator.backward(self.idle(model))
        self._scale(model, torch.cat([piece.advantages for piece in learned]))
        self._note("reward", rewards.tolist())
        for name in ("kl", "entropy", "completion_length"):
            self._note(name, torch.cat([getattr(piece, name) for piece in learned]).tolist())
        for name, values in self._mismatch.noted().items():
            self._note(name, values)
        self._stop_if_away()
        return torch.stack([piece.loss for piece in learned]).sum()

    def _learned(
        self,
        computing: torch.nn.Module,
        piece: dict[str, Any],
        rewards: torch.Tensor,
        sampled: Sequence[tuple[float, ...]],
        rows: int,
    ) -> Learned:
        """Add the gradients of a piece of so many rows; nothing of its pass is left: see `_taught`."""
        config, counts = self._draws.config, piece["completion_tokens"]
        with torch.no_grad(), self.precision():
            anchor = self.row_log_probs(self._reference, piece)
        with self.compute_loss_context_manager():
            tokens = self.log_probs(computing, piece)
        held = by_row(tokens.detach(), counts)
        penalty_paid = penalised(sent(rewards, held.device), held, anchor, config.beta)
        advantages = leave_one_out(penalty_paid.view(-1, config.n)).flatten()
        counted = self._mismatch.counted(tokens, counts, sampled)
        loss = -(advantages * by_row(counted, counts)).sum() / rows
        self.accelerator.backward(loss)
        return Learned(loss.detach(), advantages, held - anchor, -held / counts, counts.float())

    def _scale(self, model: torch.nn.Module, advantages: torch.Tensor) -> None:
        if not self._draws.config.normalize_advantages:
            return
        spread = float(self.accelerator.gather(advantages).std()) + _TINY
        torch._foreach_div_([w.grad for w in model.parameters() if w.grad is not None], spread)

    def _pieces(
        self, rows: Sequence[TokenisedExample], n: int
    ) -> list[tuple[list[int], dict[str, Any]]]:
        """Cut a batch into passes, each with its rows; the n draws of a prompt are never parted."""
        groups = [self._group(rows[start : start + n]) for start in range(0, len(rows), n)]
        pieces = []
        for chunk in self._limits.chunks(groups):
            places = [i for number in chunk for i in range(number * n, (number + 1) * n)]
            piece = self._limits.piece([groups[number] for number in chunk])
            counts = [len(rows[i].ids) - rows[i].prompt_tokens for i in places]
            pieces.append((places, {**piece, "completion_tokens": torch.tensor(counts)}))
        return pieces

    def _group(self, draws: Sequence[TokenisedExample]) -> Group:
        """Return draws that are compared: what their prompts begin with is shared, but for a last token."""
        shared = common_beginning(draws[0], draws[-1], draws[0].prompt_tokens)
        pays = self._limits.share and len(draws) > 1 and shared >= MIN_PREFIX
        return Group(tuple(draws), shared if pays else 0)

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
        self._note_try(self._tried())

    def _tried(self) -> Tried:
        """Draw once from every held-out prompt: E[r] - beta KL as the policy now is.

        An unfinished draw is worth no more here than at the start: a policy whose few finished draws
        are good does not raise what the others count.
        """
        here, config = self.accelerator, self._draws.config
        held_out = self._draws.held_out[here.process_index :: here.num_processes]
        draws = self._draw(held_out, 1, seed_of(self._draws.seed, "held out"))
        told = self._told([p.key for p in held_out], draws)
        start = self._tries.all.get(0)
        known = [x for x in (told.lowest, start.lowest if start else None) if x is not None]
        if not known:
            raise TrainingError("no draw of a held-out prompt could be rewarded: lower max_tokens")
        lowest = min(known)
        reward = fmean(everyones(told.by_the_rule(lowest)))
        kl = fmean(everyones(self._kls(self._rows(held_out, draws))))
        objective = reward - config.beta * kl
        unfinished = fmean(not done for done in everyones(told.ended))
        inside = kl <= config.max_kl and math.isfinite(objective)
        return Tried(reward, kl, objective, unfinished, lowest, inside)

    def _kls(self, rows: Sequence[TokenisedExample]) -> list[float]:
        """Return log pi - log pi_ref of draws of the policy: in the mean, the KL between the two."""
        computing = self.begin(self._policy)
        found, pieces = [], self._pieces(rows, 1)
        missing = self.missing(len(pieces))
        with torch.no_grad(), self.precision():
            for _, told in pieces:
                piece = self.on_device(told)
                policy = self.row_log_probs(computing, piece)
                found += (policy - self.row_log_probs(self._reference, piece)).tolist()
            for _ in range(missing):
                self.idle(computing)
                self.idle(self._reference)
        return found

    def _note_try(self, tried: Tried) -> None:
        self._tries.note(
            self.state.global_step, tried, self._policy, writes=self.is_world_process_zero()
        )
        told = {"reward": tried.reward, "kl": tried.kl, "objective": tried.objective,
                "unfinished": tried.unfinished}  # fmt: skip
        # The usual trainer's own: TRL's would end the means of the step that is to come.
        Trainer.log(self, {f"held_out_{name}": value for name, value in told.items()})

    def _save_checkpoint(self, *args: Any) -> None:  # noqa: ANN401
        """Keep a checkpoint, but none of a policy that ran away: nothing goes on from there."""
        if not self.stopped:
            self._rollouts.save()
            super()._save_checkpoint(*args)  # type: ignore[no-untyped-call]

    def _note(self, name: str, values: Sequence[float]) -> None:
        self._metrics["train"][name] += values
