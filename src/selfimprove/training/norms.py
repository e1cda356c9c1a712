"""Root mean square norms of a model in training on a CPU: a few rows at a time stay in the cache.

The float32 that such a norm computes in is twice or four times the memory of what it reads, and passes
through it a dozen times, its gradient included; transformers' takes three times as long.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, final

import torch
from torch import Tensor, nn

__all__ = ["RootMeanSquare", "use_in"]

_ROWS: Final = 256


def use_in(model: nn.Module) -> None:
    """Let the norms of a model compute so, those of them that scale by a root mean square alone."""
    norms = {id(m): RootMeanSquare(m) for m in model.modules() if _is_one(m)}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if id(child) in norms:
                setattr(parent, name, norms[id(child)])


def _is_one(module: Any) -> bool:  # noqa: ANN401
    """Whether a module is such a norm: by what it holds and takes, and by what comes out."""
    held = [name for name, _ in module.named_parameters()]
    if not type(module).__name__.endswith("RMSNorm") or held != ["weight"]:
        return False
    if (
        "variance_epsilon" not in vars(module)
        or len(inspect.signature(module.forward).parameters) != 1
    ):
        return False
    row = torch.linspace(-2, 3, module.weight.numel(), device=module.weight.device)[None]
    row = row.to(module.weight.dtype)
    with torch.no_grad():
        return torch.allclose(module(row), RootMeanSquare(module)(row), rtol=1e-2, atol=1e-3)


@final
class RootMeanSquare(nn.Module):
    """weight x / sqrt(mean(x^2) + epsilon), the scale in float32, as transformers' norms have it."""

    def __init__(self, like: Any) -> None:  # noqa: ANN401
        """Take weights and epsilon of a norm."""
        super().__init__()
        self.weight = like.weight
        self.epsilon = float(like.variance_epsilon)
        self.train(like.training)

    def forward(self, states: Tensor) -> Tensor:
        """Return the states, (..., size), each scaled."""
        if states.dtype == self.weight.dtype:
            out: Tensor = _Norm.apply(states, self.weight, self.epsilon)  # type: ignore[no-untyped-call]
            return out
        wide = states.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        scaled: Tensor = self.weight * (wide * scale).to(states.dtype)
        return scaled


class _Norm(torch.autograd.Function):
    """What `RootMeanSquare` returns, with its gradient; states and weight are of one precision."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401
        out = torch.empty_like(states, memory_format=torch.contiguous_format)
        size, scales = states.shape[-1], []
        for part, there in zip(_parts(states), _parts(out), strict=True):
            wide = part.to(torch.float32, copy=True)
            scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
            scale.square_().div_(size).add_(epsilon).rsqrt_()
            there.copy_(wide.mul_(scale)).mul_(weight)
            scales.append(scale)
        ctx.save_for_backward(states, weight, *scales)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        states, weight, *scales = ctx.saved_tensors
        wide = weight.float()
        of_states = torch.empty_like(states, memory_format=torch.contiguous_format)
        of_weight = torch.zeros_like(wide)
        parts = zip(_parts(states), _parts(grads[0]), _parts(of_states), scales, strict=True)
        for part, grad, there, scale in parts:
            scaled = part.to(torch.float32, copy=True).mul_(scale)
            given = grad.to(torch.float32, copy=True)
            product = given * scaled
            of_weight += product.sum(0)
            # What a longer state would take away again.
            along = torch.mv(product, wide).div_(len(wide))[:, None]
            there.copy_(given.mul_(wide).addcmul_(scaled, along, value=-1).mul_(scale))
        return of_states, of_weight.to(weight.dtype), None


def _parts(states: Tensor) -> tuple[Tensor, ...]:
    rows: Tensor = states.reshape(-1, states.shape[-1])
    return torch.split(rows, _ROWS)
