"""The bfloat16 copy of a model in training: what computes, while the float32 weights learn.

Autocast rounds every weight again in every pass, and keeps the activations between its products in
float32. A copy that is rounded once a step does both in bfloat16; its gradients are added up in the
float32 of the weights themselves (as in Micikevicius et al. 2018, Sec. 3.1: master weights).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final, final

import torch

from selfimprove.kernels.calls import takes
from selfimprove.kernels.layers import add_rounded
from selfimprove.training.few_rows import few_rows

__all__ = ["HalfCopy"]

_AT_ONCE: Final = 1 << 16
"""Weights."""


@final
class HalfCopy:
    """A copy of a float32 model, in bfloat16; weights that are frozen are shared with it."""

    def __init__(self, model: Any, whole: Iterable[torch.nn.Parameter] = ()) -> None:  # noqa: ANN401
        """Copy the model before a trainer hangs hooks on it.

        Args:
            model: that learns.
            whole: weights of it that are not rounded, but shared with the copy.
        """
        whole = list(whole)
        shared = [*whole, *(p for p in model.parameters() if not p.requires_grad)]
        self.model: Any = copy.deepcopy(model, {id(p): p for p in shared})
        self._of = model
        self.learning = [
            (own, there)
            for own, there in zip(model.parameters(), self.model.parameters(), strict=True)
            if own is not there
        ]
        """Weights that learn, each with the rounded one."""
        self.taught = [*self.learning, *((p, p) for p in whole if p.requires_grad)]
        """All weights that learn, each with what computes for it: what is not rounded, itself."""
        for own, there in self.learning:
            # Weights alone: rounded, the frequencies of rotary positions would be others.
            there.data = own.data.to(torch.bfloat16)
            there.register_post_accumulate_grad_hook(_handing_to(own))
        self._stale = False
        # No bound method: a copy of the model would copy this one, too.
        model.register_load_state_dict_post_hook(lambda *_: self._mark())

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Round the weights anew behind its steps, which change them as reading a checkpoint does."""
        optimizer.register_step_post_hook(self._mark)

    def _mark(self, *_: object) -> None:
        self._stale = True

    @torch.no_grad()
    def refresh(self) -> Any:  # noqa: ANN401
        """Return the copy, with the weights as they now are, in the mode of the model."""
        if self._stale:
            torch._foreach_copy_(
                [there for _, there in self.learning], [own for own, _ in self.learning]
            )
            self._stale = False
        for own, there in zip(self._of.modules(), self.model.modules(), strict=True):
            there.training = own.training
        return self.model


def _handing_to(own: torch.nn.Parameter) -> Callable[[torch.Tensor], None]:
    """Return a hook that adds a gradient of the copy to that of the weights themselves."""

    def hand(there: torch.Tensor) -> None:
        if there.grad is None:
            return
        if own.grad is None:
            own.grad = there.grad.to(own.dtype)
        elif own.device.type != "cpu":
            own.grad.add_(there.grad)
        elif takes(own.device, own.dtype) and there.grad.is_contiguous():
            add_rounded(own.grad, there.grad)
        else:
            # They are widened on the way.
            both = torch.atleast_1d(own.grad, there.grad)
            for known, new in few_rows(_AT_ONCE, *both):
                known.add_(new.to(own.dtype))
        there.grad = None

    return hand
