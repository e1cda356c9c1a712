"""TRL's supervised trainer with a cheaper step: the same loss, from fewer computed positions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import DynamicCache, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from selfimprove.training._rounded_trainer import RoundedTrainer
from selfimprove.training.likelihood import log_likelihood
from selfimprove.training.processes import mean_of_everyone
from selfimprove.training.recorded import Read

__all__ = ["CompletionTrainer", "by_row"]


def by_row(tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Add up what is known of each token, (tokens,), for each row, (rows,), of so many tokens."""
    numbers = torch.arange(len(counts), device=tokens.device)
    row = torch.repeat_interleave(numbers, counts, output_size=len(tokens))
    return torch.zeros(len(counts), device=tokens.device).index_add(0, row, tokens)


class CompletionTrainer(RoundedTrainer, SFTTrainer):
    """One level below SFTTrainer, which has no hook for what makes small models slow.

    - The output layer sees scored positions alone (TRL computes all on a CPU).
    - Rows lie end to end, or come in pieces of like length; a prefix that they share is computed
      once, and its gradient is the sum over the rows.
    - In bfloat16, a copy of the model computes whose weights are rounded once a step.
    - No entropy and accuracy of each token, no model card with each checkpoint, no telemetry.
    """

    def __init__(self, *, model: Any, **settings: Any) -> None:  # noqa: ANN401
        self._scored: torch.Tensor | None = None  # places in all rows, one behind the other
        # Read when logged: a GPU is not waited for.
        self._measured: list[dict[str, torch.Tensor]] = []
        super().__init__(model=model, **settings)

    @classmethod
    def arguments(cls, told: dict[str, Any]) -> TrainingArguments:
        """Return what every training is told as TRL's arguments, whose rows are made already."""
        prepared = {"skip_prepare_dataset": True}
        made: TrainingArguments = SFTConfig(**told, max_length=None, dataset_kwargs=prepared)
        return made

    def lighten(self, model: Any) -> None:  # noqa: ANN401
        """Let a model compute what is scored alone, and attend and scale as it pays."""
        super().lighten(model)
        model.get_output_embeddings().register_forward_pre_hook(self._keep_scored)

    def _keep_scored(
        self,
        head: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, ...]:
        if self._scored is None:
            return inputs
        return (inputs[0].flatten(0, 1).index_select(0, self._scored)[None],)

    def begin(self, model: torch.nn.Module) -> Any:  # noqa: ANN401
        """Put the model into the mode in which it learns; return what computes for it."""
        model.train()
        if not self.dropout:
            for module in model.modules():
                # A layer that is computed twice looks here whether it is to be.
                twice = isinstance(module, GradientCheckpointingLayer)
                module.training = twice and bool(module.gradient_checkpointing)
        return self.computing(model)

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Add up the gradients of the pieces; return the mean loss of a scored token."""
        computing = self.begin(model)
        inputs = self._prepare_inputs(inputs)
        if num_items_in_batch is None:
            num_items_in_batch = (inputs["labels"] != -100).sum()
        whole, everyone = num_items_in_batch, self.accelerator.num_processes
        return self.add_up(
            model,
            inputs["pieces"],
            lambda piece: self._summed_loss(computing, piece) / whole * everyone,
        )

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which passes without a gradient compute as those that learn do."""
        rounded = self.computes_rounded or self.shared_out
        return nullcontext() if rounded else self.accelerator.autocast()

    def _summed_loss(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        return -self.log_probs(model, piece).sum()

    def log_probs(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        """Return the log-probability of every scored token, row by row, in nats."""
        if "spans" in piece:
            if self.records:
                return self.passes(model, self._read_packed).told(piece)
            return self._read_packed(model, Read.of(piece))
        context: dict[str, Any] = {"use_cache": False}
        if "prefix_ids" in piece:
            context = self._read_prefixes(model, piece)
        self._scored = piece["scored"]
        logits = model(input_ids=piece["input_ids"], **context).logits[0]
        self._scored = None
        return log_likelihood(logits, piece["targets"])

    def _read_packed(self, model: torch.nn.Module, read: Read) -> torch.Tensor:
        self._scored = read.scored
        logits = model(
            input_ids=read.ids, attention_mask=read.table, position_ids=read.positions,
            use_cache=False,
        ).logits[0]  # fmt: skip
        self._scored = None
        return log_likelihood(logits, read.targets)

    def on_device(self, piece: dict[str, Any]) -> dict[str, Any]:
        """Return a piece with its tensors where the model is."""
        here: dict[str, Any] = self._prepare_inputs(piece)
        return here

    def row_log_probs(self, model: torch.nn.Module, piece: dict[str, Any]) -> torch.Tensor:
        """Return the log-probability of each row's whole completion, (rows,), in nats."""
        return by_row(self.log_probs(model, piece), piece["completion_tokens"])

    def _read_prefixes(self, model: torch.nn.Module, piece: dict[str, Any]) -> dict[str, Any]:
        """Keys and values of each prefix, computed once and handed to every row that has it."""
        prefixes, lengths = piece["prefix_ids"], piece["prefix_tokens"]
        read = model(input_ids=prefixes, use_cache=True, logits_to_keep=1).past_key_values
        # index_select, as its gradient is added up in a fixed order.
        spread = [
            (
                layer.keys.index_select(0, piece["prefix_of"]),
                layer.values.index_select(0, piece["prefix_of"]),
            )
            for layer in read.layers
        ]
        rows, width = piece["input_ids"].shape
        places = torch.arange(width, device=prefixes.device)
        seen = torch.arange(prefixes.shape[1], device=prefixes.device) < lengths[:, None]
        own = seen.new_ones(rows, width)
        return {
            "past_key_values": DynamicCache(spread),
            "use_cache": True,
            "attention_mask": torch.cat([seen, own], dim=1).long(),
            "position_ids": lengths[:, None] + places,
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry, over all processes."""
        for told in self._measured:
            for name, values in told.items():
                self._metrics["train"][name] += values.tolist()
        self._measured.clear()
        means = mean_of_everyone(self._metrics["train"])
        self._metrics["train"].clear()
        super().log({**logs, **means}, start_time)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the pieces have no common shape."""
        return 0

    def create_model_card(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401
        """The card is written once, with the finished model."""

    def _send_telemetry(self) -> None:
        """Nothing is reported to anyone."""
