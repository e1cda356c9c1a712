"""Attention in three parts: a prefix that all rows share, a prompt that its draws share, a row's own.

All queries of a batch meet the shared prefix in one dense product, and all draws of a prompt meet
the prompt in one, so each is read once a step instead of once a row (Juravsky et al. 2024, Hydragen;
Ye et al. 2024, Cascade Inference). The softmaxes are joined exactly, by their log-sum-exps.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from torch import Tensor, nn

from selfimprove.sampling.attention import KeptKeys, KeysValues, attend, merge
from selfimprove.sampling.fused import attend_to_own

__all__ = ["NAME", "cascade_attention", "over_all_parts"]

NAME = "selfimprove_cascade"
"""Under this name transformers' models find `cascade_attention`."""

# Arguments by which a model asks for another attention than softmax(query key / scale) value.
_UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias", "head_mask")


def cascade_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attend to the shared prefix, the prompts and the rows' own keys, as transformers' interface asks.

    The model passes the keyword `lanes` through; it holds prefix and prompts and hides padding.

    Raises:
        NotImplementedError: the model asks for another kind of attention.
    """
    asked = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if asked or scaling is None or attention_mask is not None:
        raise NotImplementedError(f"cascade attention knows no {', '.join(asked) or 'masks'}")
    lanes: KeptKeys = kwargs["lanes"]
    layer: Any = module.layer_idx
    return over_all_parts(lanes, layer, query, KeysValues(key, value), scaling), None


def over_all_parts(
    lanes: KeptKeys, layer: int, query: Tensor, own: KeysValues, scale: float
) -> Tensor:
    """Return the attention of `query` [rows, heads, length, size], as [rows, length, heads, size]."""
    rows, heads, length, size = query.shape
    # Query heads that share a key-value head become queries of that one head.
    packed = query.reshape(rows, own.keys.shape[1], -1, size)
    parts = []
    if (prompts := lanes.prompts) is not None:
        parts.append(prompts.attend(packed, layer, scale))
    if (prefix := lanes.over_prefix(packed, layer, scale)) is not None:
        parts.append(prefix)
    if lanes.last is not None:
        out = attend_to_own(packed, own, lanes.last, parts, scale)
    else:
        own_part = attend(packed, own, lanes.bias(packed.shape[2]), scale)
        out = reduce(lambda joined, part: merge(part, joined), parts, own_part).out
    return out.reshape(rows, heads, length, size).transpose(1, 2)
