"""Gated layers of a model in training: on a CPU, one pass over memory between their products.

SiLU(gate) times up is two passes and three tensors kept for the gradient, which is four passes more.
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from selfimprove.kernels import layers
from selfimprove.kernels.calls import takes
from selfimprove.training.replacing import replace_in, takes_states_alone

__all__ = ["GatedLayer", "use_in"]

_OFF: Final = 0.05
"""Of the largest number: how far apart two may be that are rounded to bfloat16."""
_PARTS: Final = {"gate_proj", "up_proj", "down_proj", "act_fn"}


def use_in(model: Any) -> None:  # noqa: ANN401
    """Let the gated layers of a model compute so, those that are gated by SiLU and no more than that."""
    replace_in(model, _ours)


def _ours(theirs: Any) -> GatedLayer | None:  # noqa: ANN401
    if not _may_be_one(theirs):
        return None
    ours = GatedLayer(theirs)
    return ours if _same(theirs, ours) else None


def _may_be_one(module: Any) -> bool:  # noqa: ANN401
    """Whether a module may be such a layer, by what it holds and takes."""
    plain = {name for name, _ in module.named_children()} == _PARTS
    return plain and takes_states_alone(module)


def _same(theirs: Any, ours: GatedLayer) -> bool:  # noqa: ANN401
    """Whether there are kernels for it, and the same comes out."""
    some: Tensor = next(theirs.gate_proj.parameters())
    if not (takes(some.device, some.dtype) and _is_silu(theirs.act_fn)):
        return False
    row = torch.linspace(-2, 3, theirs.gate_proj.in_features, dtype=some.dtype)[None]
    with torch.no_grad():
        wanted, found = theirs(row), ours(row)
    return bool((found - wanted).abs().max() <= _OFF * wanted.abs().max())


def _is_silu(activation: Any) -> bool:  # noqa: ANN401
    places = torch.linspace(-6, 6, 25)
    with torch.no_grad():
        return torch.allclose(activation(places), silu(places), atol=1e-6)


@final
class GatedLayer(nn.Module):
    """down(SiLU(gate(x)) * up(x)) (Shazeer 2020), of another such layer's parts, under their names."""

    def __init__(self, like: Any) -> None:  # noqa: ANN401
        """Take the parts of a layer."""
        super().__init__()
        self.gate_proj, self.up_proj = like.gate_proj, like.up_proj
        self.down_proj, self.act_fn = like.down_proj, like.act_fn
        self.train(like.training)

    def forward(self, states: Tensor) -> Tensor:
        """Return what the layer makes of the states, like them."""
        gate, up = self.gate_proj(states), self.up_proj(states)
        if gate.dtype == up.dtype and takes(gate.device, gate.dtype, gate.shape[-1]):
            both: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
        else:
            both = self.act_fn(gate) * up
        said: Tensor = self.down_proj(both)
        return said


class _Gated(torch.autograd.Function):
    """What `layers.gated` returns, with its gradient."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return layers.gated(gate, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        gate, up = ctx.saved_tensors
        return layers.gated_gradient(gate, up, grads[0].contiguous())
