"""Root mean square norms of a model in training: on a CPU, a few rows at a time stay in the cache.

The float32 that such a norm computes in is twice or four times the memory of what it reads, and passes
through it a dozen times, its gradient included; transformers' takes three times as long. A GPU has one
kernel for all of it.
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from selfimprove.kernels import layers
from selfimprove.kernels.calls import takes
from selfimprove.training.few_rows import few_rows
from selfimprove.training.replacing import replace_in, takes_states_alone

__all__ = ["RootMeanSquare", "use_in"]

_AT_ONCE: Final = 1 << 17
"""Numbers."""


def use_in(model: Any) -> None:  # noqa: ANN401
    """Let the norms of a model compute so, those that scale by a root mean square alone."""
    replace_in(model, _ours)


def _ours(theirs: Any) -> RootMeanSquare | None:  # noqa: ANN401
    if not _may_be_one(theirs):
        return None
    ours = RootMeanSquare(theirs)
    return ours if _same(theirs, ours) else None


def _may_be_one(module: Any) -> bool:  # noqa: ANN401
    """Whether a module may be such a norm, by what it holds and takes."""
    held = [name for name, _ in module.named_parameters()]
    named = type(module).__name__.endswith("RMSNorm") and held == ["weight"]
    plain = named and "variance_epsilon" in vars(module)
    return plain and takes_states_alone(module)


def _same(theirs: Any, ours: RootMeanSquare) -> bool:  # noqa: ANN401
    """Whether the same comes out."""
    weight = ours.weight
    row = torch.linspace(-2, 3, weight.numel(), dtype=weight.dtype, device=weight.device)[None]
    with torch.no_grad():
        return torch.allclose(theirs(row), ours(row), rtol=1e-2, atol=1e-3)


@final
class RootMeanSquare(nn.Module):
    """weight x / sqrt(mean(x^2) + epsilon), the scale in float32, as transformers' norms have it."""

    def __init__(self, like: Any) -> None:  # noqa: ANN401
        """Take weights and epsilon of a norm."""
        super().__init__()
        self.weight = like.weight
        # By the name that transformers gives it, for whoever reads the norms of a model.
        self.variance_epsilon = float(like.variance_epsilon)
        self.train(like.training)

    def forward(self, states: Tensor) -> Tensor:
        """Return the states, (..., size), each scaled."""
        if states.dtype == self.weight.dtype and states.device.type != "cpu":
            return rms_norm(states, self.weight.shape, self.weight, self.variance_epsilon)
        if states.dtype == self.weight.dtype:
            out: Tensor = _Norm.apply(states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
            return out
        wide = states.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        scaled: Tensor = self.weight * (wide * scale).to(states.dtype)
        return scaled


class _Norm(torch.autograd.Function):
    """What `RootMeanSquare` returns, with its gradient; states and weight are of one precision."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401
        if takes(states.device, states.dtype, len(weight)):
            states = states.contiguous()
            out, scales = layers.norm(states, weight, epsilon)
            ctx.save_for_backward(states, weight, scales)
            return out
        out = torch.empty_like(states, memory_format=torch.contiguous_format)
        rows, size = _rows(states), states.shape[-1]
        scales = states.new_empty(len(rows), 1, dtype=torch.float32)
        for part, there, scale in few_rows(_AT_ONCE, rows, _rows(out), scales):
            wide = part.to(torch.float32, copy=True)
            torch.linalg.vector_norm(wide, dim=-1, keepdim=True, out=scale)
            scale.square_().div_(size).add_(epsilon).rsqrt_()
            there.copy_(wide.mul_(scale)).mul_(weight)
        ctx.save_for_backward(states, weight, scales)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        states, weight, scales = ctx.saved_tensors
        if takes(states.device, states.dtype, len(weight)):
            of_x, of_w = layers.norm_gradient(states, weight, grads[0].contiguous(), scales)
            return of_x, of_w.to(weight.dtype), None
        wide = weight.float()
        of_states = torch.empty_like(states, memory_format=torch.contiguous_format)
        of_weight = torch.zeros_like(wide) if ctx.needs_input_grad[1] else None
        rows = (_rows(x) for x in (states, grads[0], of_states))
        for part, grad, there, scale in few_rows(_AT_ONCE, *rows, scales):
            scaled = part.to(torch.float32, copy=True).mul_(scale)
            given = grad.to(torch.float32, copy=True)
            product = given * scaled
            if of_weight is not None:
                of_weight += product.sum(0)
            # What a longer state would take away again.
            along = torch.mv(product, wide).div_(len(wide))[:, None]
            there.copy_(given.mul_(wide).addcmul_(scaled, along, value=-1).mul_(scale))
        return of_states, None if of_weight is None else of_weight.to(weight.dtype), None


def _rows(states: Tensor) -> Tensor:
    rows: Tensor = states.reshape(-1, states.shape[-1])
    return rows
