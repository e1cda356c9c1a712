"""Attention in training: on a CPU, of short rows, two plain products, whose gradient is four more.

The fused kernel of a CPU spares the memory of the probabilities, which short rows have to spare,
and pays for it in its gradient, which takes several times as long as these products. A GPU has a fused
kernel for rows end to end.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from selfimprove.sampling.architecture import unwrapped
from selfimprove.sampling.attention import hiding
from selfimprove.training import flash_rows, packed_rows
from selfimprove.training.packed_rows import MOST_TOKENS, is_table
from selfimprove.training.products import attended, gradients

__all__ = ["may_be_used_in", "use_in"]

_NAME: Final = "selfimprove_causal_products"
_MOST_PAIRS: Final = MOST_TOKENS**2
"""Of a query and a key in one row and head."""

# Arguments by which a model asks for another attention than softmax(query key / scale) value; a
# window is in the mask already.
_UNSUPPORTED: Final = ("softcap", "s_aux", "position_bias")


def use_in(model: Any) -> None:  # noqa: ANN401
    """Let a model in training attend by products where that is faster, and to rows end to end."""
    if may_be_used_in(model):
        unwrapped(model).set_attn_implementation(_NAME)


def may_be_used_in(model: Any) -> bool:  # noqa: ANN401
    """Whether a model attends or may attend so: it calls the function it is told to."""
    inner = unwrapped(model)
    told = inner.config._attn_implementation in {"sdpa", _NAME}
    return told and inner._supports_attention_backend


class _Products(torch.autograd.Function):
    """What `attended` returns, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        scale: float,
    ) -> Tensor:
        out, chances = attended(q, k, v, bias, scale)
        ctx.save_for_backward(q, k, v, chances)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, chances = ctx.saved_tensors
        return *gradients(grads[0], q, k, v, chances, ctx.scale), None, None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attend by products where they are exact and pay, else by the fused kernel.

    Shapes as transformers has them: query [rows, heads, queries, size], key and value
    [rows, key heads, keys, size]; the output is [rows, queries, heads, size].

    Raises:
        NotImplementedError: rows lie end to end, and the model asks for another kind of attention.
    """
    # Under autocast, rotated queries and keys are float32, and the gradient runs outside of it.
    query, key = query.to(value.dtype), key.to(value.dtype)
    queries, keys = query.shape[2], key.shape[2]
    # Without a gradient, too: a reference must be computed as the policy is.
    plain = not (kwargs.get("dropout") or any(kwargs.get(n) is not None for n in _UNSUPPORTED))
    scale = kwargs.get("scaling") or query.shape[3] ** -0.5
    if is_table(attention_mask):
        if not plain:
            raise NotImplementedError("rows end to end have neither dropout nor another softmax")
        end_to_end = packed_rows if query.device.type == "cpu" else flash_rows
        return end_to_end.attend(query, key, value, attention_mask, scale), None
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    known = attention_mask is not None or (causal and queries == keys)
    short = query.device.type == "cpu" and queries * keys <= _MOST_PAIRS
    if not (plain and known and short):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    bias = _bias(query, attention_mask, keys)
    packed = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
    out = _Products.apply(packed, key, value, bias, scale)  # type: ignore[no-untyped-call]
    return out.view(*query.shape[:3], -1).transpose(1, 2).contiguous(), None


def _bias(query: Tensor, mask: Tensor | None, keys: int) -> Tensor:
    """Return what hides keys, [rows or 1, 1, queries, keys]; no mask: those that come later."""
    if mask is None:
        seen = torch.ones(query.shape[2], keys, dtype=torch.bool, device=query.device).tril()
        mask = seen[None, None]
    if mask.dtype != torch.bool:
        return mask
    # Finite: padding on the left sees no key, and would turn its row into NaN.
    return hiding(~mask, query.dtype).clamp_(min=torch.finfo(query.dtype).min)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
