"""The trainer of DPO: TRL's loop, pairs in pieces, a reference that was computed beforehand."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from transformers import TrainerCallback

from selfimprove.training._completion_trainer import CompletionTrainer
from selfimprove.training.dpo_loss import dpo_loss
from selfimprove.training.model_folder import write
from selfimprove.training.pieces import MIN_PREFIX, Group, Limits
from selfimprove.training.tokens import TokenisedExample

__all__ = ["Milestones", "PairCollator", "PairRows", "PreferenceTrainer"]


@dataclass(frozen=True, slots=True)
class PairRows:
    """A pair as two rows that begin with the same prompt, mostly."""

    chosen: TokenisedExample
    rejected: TokenisedExample

    @property
    def shared(self) -> int:
        """How many prompt tokens both rows begin with, but for the last one."""
        limit = min(self.chosen.prompt_tokens, self.rejected.prompt_tokens) - 1
        same = self.chosen.ids[:limit] == self.rejected.ids[:limit]
        return limit if same and limit >= MIN_PREFIX else 0


@final
class PairCollator:
    """Makes the pieces of one step; the two rows of a pair are never parted."""

    def __init__(self, pairs: Sequence[PairRows], limits: Limits) -> None:
        self.pairs = pairs
        self._limits = limits
        self.reference: torch.Tensor | None = None
        """(pairs, 2) log-probabilities of the reference model, once they are known."""

    def __call__(self, batch: Iterable[dict[str, int]]) -> dict[str, Any]:
        """Return the pieces, and one label a pair for the trainer to count."""
        numbers = [item["row"] for item in batch]
        groups = [self._group(self.pairs[n]) for n in numbers]
        pieces = [
            self._piece([groups[i] for i in chunk], [numbers[i] for i in chunk])
            for chunk in self._limits.chunks(groups)
        ]
        # The trainer counts labels from the second on.
        return {"pieces": pieces, "labels": torch.tensor([-100] + [0] * len(numbers))}

    def _group(self, pair: PairRows) -> Group:
        return Group((pair.chosen, pair.rejected), pair.shared if self._limits.share else 0)

    def _piece(self, groups: Sequence[Group], numbers: Sequence[int]) -> dict[str, Any]:
        rows = [row for group in groups for row in group.rows]
        piece = self._limits.piece(groups)
        piece["completion_tokens"] = torch.tensor([len(r.ids) - r.prompt_tokens for r in rows])
        if self.reference is not None:
            piece["reference"] = self.reference[torch.tensor(numbers)]
        piece["pair"] = torch.tensor(numbers)
        return piece


@final
class Milestones(TrainerCallback):
    """Writes the model as it is every so many steps, to be tried on prompts of its own."""

    def __init__(self, trainer: PreferenceTrainer, every: int, base: Path, folder: Path) -> None:
        self._trainer = trainer
        self._every = every
        self._base = base
        self._folder = folder

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Write one, whole or not at all, but for the last step, which is written anyway."""
        step = state.global_step
        if step % self._every or step >= state.max_steps:
            return
        out = self._folder / f"step-{step}"
        writes = state.is_world_process_zero and not out.exists()
        model = self._copy() if writes or self._trainer.shared_out else None
        if writes:
            partial = out.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            write(model, self._base, partial)
            partial.rename(out)

    def _copy(self) -> Any:  # noqa: ANN401
        """Return a copy of the model as it is: writing merges adapters and changes the precision."""
        trainer = self._trainer
        if trainer.shared_out:
            return trainer.whole_model()
        # Its hooks belong to the trainer, which is not to be copied with it.
        return copy.deepcopy(trainer.model, {id(trainer): trainer})


@final
class PreferenceTrainer(CompletionTrainer):
    """TRL's supervised loop around the DPO loss; rows 2k and 2k + 1 of a piece are a pair."""

    dropout = False
    beta = 0.1
    nll_alpha = 0.0

    def _summed_loss(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        policy = self.pair_log_probs(model, piece)
        told = dpo_loss(
            policy, piece["reference"], piece["completion_tokens"][::2],
            beta=self.beta, nll_alpha=self.nll_alpha,
        )  # fmt: skip
        metrics = {
            "rewards/chosen": told.chosen_reward,
            "rewards/rejected": told.rejected_reward,
            "rewards/margins": told.chosen_reward - told.rejected_reward,
            "rewards/accuracies": (told.chosen_reward > told.rejected_reward).float(),
            "logps/chosen": policy[:, 0].detach(),
            "logps/rejected": policy[:, 1].detach(),
        }
        self._measured.append(metrics)
        return told.loss.sum()

    def pair_log_probs(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        """Return the summed log-probabilities of chosen and rejected responses, (pairs, 2)."""
        return self.row_log_probs(model, piece).view(-1, 2)
