"""What every trainer here does alike: a rounded copy computes, and attention and norms fit the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from selfimprove.training import causal_products, gates, norms
from selfimprove.training.half_copy import HalfCopy
from selfimprove.training.processes import processes
from selfimprove.training.recorded import Passes, Read

__all__ = ["RoundedTrainer"]


class RoundedTrainer(Trainer):
    """In bfloat16, a copy of the model computes whose weights are rounded once a step.

    On a GPU its passes over rows that lie end to end are recorded, whose launches would be waited for.
    """

    dropout = True
    """Off where log-probabilities are held against those of a reference, or of the draw itself."""

    def __init__(
        self,
        *,
        model: Any,  # noqa: ANN401
        whole: Iterable[torch.nn.Parameter] = (),
        **settings: Any,  # noqa: ANN401
    ) -> None:
        """Set up the usual trainer; weights in `whole` are not rounded."""
        args = settings["args"]
        # Layers that are computed twice, and processes that add up gradients, go by the model itself.
        halves = args.bf16 and not args.gradient_checkpointing and processes() == 1
        self._half = HalfCopy(model.to(args.device), whole) if halves else None
        super().__init__(model=model, **settings)
        self.lighten(model)
        if self._half is not None:
            self.lighten(self._half.model)
        # What is dropped would not be the same after a resume.
        drops = self.dropout and any(
            isinstance(m, torch.nn.Dropout) and m.p for m in model.modules()
        )
        self.records = self.args.device.type == "cuda" and self.computes_rounded and not drops
        """Whether passes over rows end to end are recorded."""
        self._known: dict[torch.nn.Module, Passes] = {}

    @classmethod
    def arguments(cls, told: dict[str, Any]) -> TrainingArguments:
        """Return what every training is told as this trainer's arguments."""
        return TrainingArguments(**told)

    def lighten(self, model: Any) -> None:  # noqa: ANN401
        """Let a model attend and scale as it pays on its device."""
        causal_products.use_in(model)
        norms.use_in(model)
        gates.use_in(model)

    @property
    def computes_rounded(self) -> bool:
        """Whether a copy with rounded weights computes; a reference then is rounded likewise."""
        return self._half is not None

    def computing(self, model: Any) -> Any:  # noqa: ANN401
        """Return what computes for the model: its rounded copy, as its weights now are, or itself."""
        return model if self._half is None else self._half.refresh()

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:  # noqa: ANN401
        """Make the usual one; what computes follows its steps."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args)
        if self._half is not None:
            self._half.follow(optimizer)
        return optimizer

    def add_up(
        self,
        model: torch.nn.Module,
        pieces: Sequence[dict[str, Any]],
        share: Callable[[dict[str, Any]], torch.Tensor],
    ) -> torch.Tensor:
        """Add up the gradients of the pieces of a step; return its loss, the sum of their shares of it."""
        losses = []
        for number, piece in enumerate(pieces, start=1):
            last = number == len(pieces)
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(self._taught(piece, share))
        return torch.stack(losses).sum()

    def _taught(
        self, piece: dict[str, Any], share: Callable[[dict[str, Any]], torch.Tensor]
    ) -> torch.Tensor:
        """Add the gradients of a piece; return its share of the loss, without what led to it.

        Nothing of a pass may be left when the next one is recorded: its graph holds the weights.
        """
        with self.compute_loss_context_manager():
            loss = share(piece)
        self.accelerator.backward(loss)
        return loss.detach()

    def passes(
        self, model: torch.nn.Module, read: Callable[[torch.nn.Module, Read], torch.Tensor]
    ) -> Passes:
        """Return the recorded passes of the model that computes, or of its reference."""
        if model not in self._known:
            half = self._half
            taught = half.taught if half is not None and model is half.model else ()
            self._known[model] = Passes(partial(read, model), self.args.device, taught)
        return self._known[model]

    def forget(self, model: torch.nn.Module) -> None:
        """Give up what was recorded of a model that will not be read again."""
        self._known.pop(model, None)
