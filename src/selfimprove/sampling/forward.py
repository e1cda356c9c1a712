"""One pass of a model over the lanes: transformers' own code, or for the Llama family a leaner one.

A decoding step is many small operations, and on few cores what lies between the products counts. The
lean pass has one product for queries, keys and values, one for the two halves of the gated layer, and
nothing that asks what kind of pass this is. It reads the modules of transformers' model and is equal
to it up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers import AttentionInterface

from selfimprove.sampling.attention import NAME, KeptKeys, cascade_attention, over_all_parts

__all__ = ["Forward", "LlamaForward", "TransformersForward", "lean_forward"]

AttentionInterface.register(NAME, cascade_attention)

# What they share: rotated queries and keys, RMS norm before each half of a layer, a gated MLP, and
# nothing else. Qwen3 also norms its queries and keys, Qwen2 adds biases to them.
_FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


class Forward(Protocol):
    """Runs a model whose attention reads and fills lanes."""

    def __call__(self, ids: Tensor, positions: Tensor, lanes: KeptKeys) -> Tensor:
        """Return the logits [rows, vocabulary] behind the last of the tokens [rows, length]."""
        ...


@final
class TransformersForward:
    """The model's own code, its attention replaced; weights are those of the moment."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model

    def __call__(self, ids: Tensor, positions: Tensor, lanes: KeptKeys) -> Tensor:
        """Return the logits [rows, vocabulary] behind the last of the tokens [rows, length]."""
        config = self._model.config
        usual, config._attn_implementation = config._attn_implementation, NAME
        try:
            out = self._model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                position_ids=positions,
                past_key_values=lanes,
                use_cache=True,
                logits_to_keep=1,
                lanes=lanes,
            )
        finally:
            config._attn_implementation = usual
        logits: Tensor = out.logits[:, -1]
        return logits


def lean_forward(model: Any) -> LlamaForward | None:  # noqa: ANN401
    """Return the lean pass of a model of the Llama family with plain weights, else None.

    The model's weights must not be replaced afterwards.
    """
    if type(model).__name__ not in _FAMILY:
        return None
    parts = [part for layer in model.model.layers for part in _projections(layer)]
    # Adapters and quantised weights are other classes.
    if not all(type(part) is nn.Linear for part in [*parts, model.lm_head]):
        return None
    return LlamaForward(model)


@final
class LlamaForward:
    """Touvron et al. 2023, as far as decoding needs it."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        inner = model.model
        self._embed, self._norm, self._head = inner.embed_tokens, inner.norm, model.lm_head
        self._rotary = inner.rotary_emb
        self._layers = [_Layer(layer, place) for place, layer in enumerate(inner.layers)]

    def __call__(self, ids: Tensor, positions: Tensor, lanes: KeptKeys) -> Tensor:
        """Return the logits [rows, vocabulary] behind the last of the tokens [rows, length]."""
        hidden = self._embed(ids)
        cos, sin = (angles.unsqueeze(2) for angles in self._rotary(hidden, positions))
        half = sin.shape[-1] // 2
        turn = (cos, torch.cat([-sin[..., :half], sin[..., half:]], -1))
        for layer in self._layers:
            hidden = layer.attention(hidden, turn, lanes)
            hidden = layer.feed_forward(hidden)
        logits: Tensor = self._head(_normed(hidden[:, -1], self._norm))
        return logits


@final
class _Layer:
    """One layer; its two halves each add to `hidden` [rows, length, width]."""

    def __init__(self, layer: Any, place: int) -> None:  # noqa: ANN401
        attention, mlp = layer.self_attn, layer.mlp
        self._place, self._scale, self._size = place, attention.scaling, attention.head_dim
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._query_key_value = _Joined([attention.q_proj, attention.k_proj, attention.v_proj])
        self._heads = [width // self._size for width in self._query_key_value.widths]
        self._head_norms = [
            part for name, part in attention.named_children() if name in ("q_norm", "k_norm")
        ]
        self._out = attention.o_proj
        self._gate_up = _Joined([mlp.gate_proj, mlp.up_proj])
        self._activation, self._down = mlp.act_fn, mlp.down_proj

    def attention(self, hidden: Tensor, turn: tuple[Tensor, Tensor], lanes: KeptKeys) -> Tensor:
        """Let every position read its own and earlier ones."""
        rows, length, _ = hidden.shape
        mixed = self._query_key_value(_normed(hidden, self._norms[0]))
        mixed = mixed.view(rows, length, -1, self._size)
        queries, keys, _ = self._heads
        turned = _turned(self._head_normed(mixed[:, :, : queries + keys]), turn)
        query, key = turned.transpose(1, 2).split([queries, keys], 1)
        value = mixed[:, :, queries + keys :].transpose(1, 2)
        kept = lanes.update(key, value, self._place)
        found = over_all_parts(lanes, self._place, query, kept, self._scale)
        return hidden + self._out(found.reshape(rows, length, -1))

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """Transform every position by itself."""
        gate, up = self._gate_up(_normed(hidden, self._norms[1])).chunk(2, -1)
        return hidden + self._down(self._activation(gate).mul_(up))

    def _head_normed(self, mixed: Tensor) -> Tensor:
        if not self._head_norms:
            return mixed
        halves = zip(mixed.split(self._heads[:2], 2), self._head_norms, strict=True)
        return torch.cat([_normed(half, norm) for half, norm in halves], 2)


@final
class _Joined:
    """Several linear maps of one input in one product; they become views of its weights.

    So the weights are held once, and the model's own code still runs on them.
    """

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        self.widths = [part.out_features for part in parts]
        self._weight = _one_storage([part.weight for part in parts], self.widths)
        biases = [part.bias for part in parts if part.bias is not None]
        self._bias = _one_storage(biases, self.widths) if biases else None

    def __call__(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self._weight, self._bias)


def _one_storage(parts: Sequence[nn.Parameter], widths: Sequence[int]) -> Tensor:
    whole = torch.cat([part.data for part in parts])
    for part, view in zip(parts, whole.split(list(widths)), strict=True):
        part.data = view
    return whole


def _normed(hidden: Tensor, norm: Any) -> Tensor:  # noqa: ANN401
    return rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turned(heads: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate [rows, length, heads, size] by its positions (Su et al. 2021).

    `turn` has cosines and sines, the sines of the first half negated.
    """
    cos, sin = turn
    first, second = heads.chunk(2, -1)
    return (heads * cos).addcmul_(torch.cat([second, first], -1), sin)


def _projections(layer: Any) -> list[nn.Module]:  # noqa: ANN401
    attention, mlp = layer.self_attn, layer.mlp
    return [
        attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
        mlp.gate_proj, mlp.up_proj, mlp.down_proj,
    ]  # fmt: skip
