"""All weights of a model in training, as whoever draws from it elsewhere holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["whole_weights"]


@torch.no_grad()
def whole_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401
    """Yield every weight once, by the name that the model's folder gives it.

    Adapters are added to what they change, one matrix at a time; the model itself stays as it is.
    """
    if not hasattr(model, "peft_config"):
        yield from model.named_parameters()
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    changes: dict[int, Any] = {}
    for layer in base.modules():
        if isinstance(layer, BaseTunerLayer):
            changes[id(layer.get_base_layer().weight)] = layer
    adapters = {id(p) for p in model.parameters() if p.requires_grad}
    for name, weights in base.named_parameters():
        if id(weights) in adapters:
            continue
        layer, whole = changes.get(id(weights)), weights
        if layer is not None:
            added = sum(layer.get_delta_weight(one).float() for one in layer.active_adapters)
            whole = (weights.float() + added).to(weights.dtype)
        yield name.replace(".base_layer.", "."), whole
