"""What every trainer here does alike: a rounded copy computes, and attention and norms fit the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from selfimprove.training import causal_products, gates, norms, sharded, sharded_checkpoints
from selfimprove.training.half_copy import HalfCopy
from selfimprove.training.processes import everyones, processes
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
        self.shared_out = bool(args.fsdp)
        """Whether the processes share the weights out: see `sharded`."""
        self._bones = sharded.skeleton(model) if self.shared_out else None
        learning = [(p, p.data) for p in model.parameters() if p.requires_grad]
        super().__init__(model=model, **settings)
        for own, exact in learning:
            if own.dtype != exact.dtype:
                # TRL rounds adapters around four bits to bfloat16, where small updates would be lost.
                own.data = exact.to(own.device)
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

    def whole_copy(self) -> Any:  # noqa: ANN401
        """Return a whole copy of the model in this process, of weights rounded to what computes."""
        copied = sharded.put_together(self._bones, self.model, here=True)
        if self.args.bf16:
            for weights in copied.parameters():  # alone: rotary frequencies stay as they are
                weights.data = weights.data.to(torch.bfloat16)
        copied = copied.to(self.accelerator.device).requires_grad_(False)
        self.lighten(copied)
        return copied.eval()

    def create_accelerator_and_postprocess(self) -> None:
        """Let the accelerator share weights out where it is told to."""
        if self.shared_out:
            sharded.policy_of(self.args)
        super().create_accelerator_and_postprocess()
        if self.shared_out:
            sharded.enforce(self)

    def frozen(self, model: Any) -> Any:  # noqa: ANN401
        """Return a model that is only read, held as the one that learns."""
        return sharded.share_out(model, self.accelerator) if self.shared_out else model

    def whole_model(self) -> Any:  # noqa: ANN401
        """Return the model with all its weights, in the process that writes; every process calls this."""
        if self._bones is None:
            return self.model
        here = self.is_world_process_zero()
        return sharded.put_together(self._bones, self.model, here=here)

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
        losses, missing = [], self.missing(len(pieces))
        for number, piece in enumerate(pieces, start=1):
            with self.unsynced(model, last=number == len(pieces)):
                losses.append(self._taught(piece, share))
        for _ in range(missing):
            self.accelerator.backward(self.idle(model))
        return torch.stack(losses).sum()

    def unsynced(self, model: torch.nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one pass of a step: the last one adds up the gradients of all processes.

        Of weights that are shared out they are added up at once, as nobody has room for all of them.
        """
        at_once = last or self.shared_out
        return nullcontext() if at_once else self.accelerator.no_sync(model)

    def missing(self, passes: int) -> int:
        """Return how many idle passes bring this process to as many as the busiest one makes.

        Asked before the first one: within a pass the processes talk of layers.
        """
        return max(everyones([passes])) - passes if self.shared_out else 0

    def reading(self) -> AbstractContextManager[Any]:
        """Return the context of passes without a gradient.

        Weights that are put together in inference mode could teach nothing afterwards.
        """
        return torch.no_grad() if self.shared_out else torch.inference_mode()

    def idle(self, model: Any) -> torch.Tensor:  # noqa: ANN401
        """Return 0 by a pass of two tokens, which teaches nothing."""
        ids = torch.zeros(1, 2, dtype=torch.long, device=self.accelerator.device)
        told: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float().sum() * 0
        return told

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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.shared_out:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        sharded_checkpoints.save(Path(output_dir), self.model, self.optimizer, self.lr_scheduler)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        if not self.shared_out and not sharded_checkpoints.is_one(Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        there = self.model if model is None else model
        sharded_checkpoints.load_weights(Path(resume_from_checkpoint), there)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not sharded_checkpoints.is_one(Path(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        model = self.accelerator.unwrap_model(self.model)
        sharded_checkpoints.load_moments(Path(checkpoint), model, self.optimizer, self.lr_scheduler)

    def forget(self, model: torch.nn.Module) -> None:
        """Give up what was recorded of a model that will not be read again."""
        self._known.pop(model, None)
