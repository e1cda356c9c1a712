"""One pass of a model over the lanes: transformers' own code, or for the Llama family a leaner one.

A decoding step is many small operations, and on few cores what lies between the products counts. The
lean pass has one product for queries, keys and values, one for the two halves of the gated layer, and
nothing that asks what kind of pass this is. It reads the modules of transformers' model and is equal
to it up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AttentionInterface

from selfimprove.sampling.attention import KeptKeys, KeysValues
from selfimprove.sampling.fused import gated, norm_rows, turn_and_keep
from selfimprove.sampling.fused_trials import can_gate
from selfimprove.sampling.packed import PackedLinear, can_pack
from selfimprove.sampling.quantized import is_plain
from selfimprove.sampling.three_parts import NAME, cascade_attention, over_all_parts

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


def lean_forward(model: Any, *, frozen: bool = True) -> LlamaForward | None:  # noqa: ANN401
    """Return the lean pass of a model of the Llama family with plain weights, else None.

    Of a `frozen` model it rearranges the weights, which must not be trained afterwards; the model's
    own code still runs on them. Of another it reads them where they are, as they are at each pass.
    """
    if type(model).__name__ not in _FAMILY:
        return None
    return LlamaForward(model, frozen=frozen) if _is_plain(model) else None


def _is_plain(model: Any) -> bool:  # noqa: ANN401
    """Whether every linear map is one of plain weights.

    No map is held by a name here: those that are packed are to leave the memory one by one.
    """
    layers = model.model.layers
    return is_plain(model.lm_head) and all(
        is_plain(part) for layer in layers for part in _projections(layer)
    )


@final
class LlamaForward:
    """Touvron et al. 2023, as far as decoding needs it."""

    def __init__(self, model: Any, *, frozen: bool = True) -> None:  # noqa: ANN401
        inner = model.model
        if packs := frozen and can_pack(model.lm_head.weight):
            _packed(model, "lm_head")
        self._embed, self._norm, self._head = inner.embed_tokens, inner.norm, model.lm_head
        self._rotary = inner.rotary_emb
        self._layers = [
            (
                _Attention(layer, place, frozen=frozen),
                _PackedFeedForward(layer) if packs else _FeedForward(layer, frozen=frozen),
            )
            for place, layer in enumerate(inner.layers)
        ]

    def __call__(self, ids: Tensor, positions: Tensor, lanes: KeptKeys) -> Tensor:
        """Return the logits [rows, vocabulary] behind the last of the tokens [rows, length]."""
        hidden = self._embed(ids)
        cos, sin = (angles.unsqueeze(2) for angles in self._rotary(hidden, positions))
        half = sin.shape[-1] // 2
        turn = (cos, torch.cat([-sin[..., :half], sin[..., half:]], -1))
        for attention, feed_forward in self._layers:
            hidden = attention(hidden, turn, lanes)
            hidden = feed_forward(hidden)
        logits: Tensor = self._head(_normed(hidden[:, -1], self._norm))
        return logits


@final
class _Attention:
    """A layer's first half: adds to `hidden` [rows, length, width] what earlier positions say."""

    def __init__(self, layer: Any, place: int, *, frozen: bool) -> None:  # noqa: ANN401
        attention, self._norm = layer.self_attn, layer.input_layernorm
        self._place, self._scale, self._size = place, attention.scaling, attention.head_dim
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        self._heads = [part.out_features // self._size for part in projections]
        self._joined = _joined(projections) if frozen else _side_by_side(projections)
        self._head_norms = [
            part for name, part in attention.named_children() if name in ("q_norm", "k_norm")
        ]
        self._add_out = _adding(attention, "o_proj", frozen=frozen)

    def __call__(self, hidden: Tensor, turn: tuple[Tensor, Tensor], lanes: KeptKeys) -> Tensor:
        rows, length, _ = hidden.shape
        mixed = self._joined(_normed(hidden, self._norm)).view(rows, length, -1, self._size)
        query, kept = self._turned_and_kept(mixed, turn, lanes)
        found = over_all_parts(lanes, self._place, query, kept, self._scale)
        return self._add_out(found.reshape(rows, length, -1), hidden)

    def _turned_and_kept(
        self, mixed: Tensor, turn: tuple[Tensor, Tensor], lanes: KeptKeys
    ) -> tuple[Tensor, KeysValues]:
        """Return queries [rows, heads, length, size], and all own keys and values."""
        own, last = lanes.in_place(self._place), lanes.last
        if own is not None and last is not None and self._turns_alike(mixed, turn, own):
            return turn_and_keep(mixed.squeeze(1), turn, last, own).unsqueeze(2), own
        queries, keys, _ = self._heads
        turned = _turned(self._head_normed(mixed[:, :, : queries + keys]), turn)
        query, key = turned.transpose(1, 2).split([queries, keys], 1)
        value = mixed[:, :, queries + keys :].transpose(1, 2)
        return query, lanes.update(key, value, self._place)

    def _turns_alike(self, mixed: Tensor, turn: tuple[Tensor, Tensor], own: KeysValues) -> bool:
        """Whether nothing lies between product and turn, neither a norm nor another precision."""
        return not self._head_norms and mixed.dtype == turn[0].dtype == own.keys.dtype

    def _head_normed(self, mixed: Tensor) -> Tensor:
        if not self._head_norms:
            return mixed
        halves = zip(mixed.split(self._heads[:2], 2), self._head_norms, strict=True)
        return torch.cat([_normed(half, norm) for half, norm in halves], 2)


@final
class _FeedForward:
    """A layer's second half: adds to `hidden` what each position makes of itself."""

    def __init__(self, layer: Any, *, frozen: bool) -> None:  # noqa: ANN401
        mlp, self._norm = layer.mlp, layer.post_attention_layernorm
        halves = [mlp.gate_proj, mlp.up_proj]
        self._gate_up = _joined(halves) if frozen else _side_by_side(halves)
        self._activation, self._add_down = mlp.act_fn, _adding(mlp, "down_proj", frozen=frozen)
        self._is_silu = mlp.config.hidden_act == "silu"

    def __call__(self, hidden: Tensor) -> Tensor:
        both = self._gate_up(_normed(hidden, self._norm))
        if self._is_silu and can_gate(both.device, both.dtype):
            return self._add_down(gated(both), hidden)
        gate, up = both.chunk(2, -1)
        return self._add_down(self._activation(gate).mul_(up), hidden)


@final
class _PackedFeedForward:
    """The same where weights are packed: each step is part of a product."""

    def __init__(self, layer: Any) -> None:  # noqa: ANN401
        mlp, self._norm = layer.mlp, layer.post_attention_layernorm
        gate, up = _packed(mlp, "gate_proj"), _packed(mlp, "up_proj")
        activation = mlp.act_fn
        by_product = mlp.config.hidden_act == "silu"
        self._gate = gate.activated if by_product else lambda read: activation(gate(read))
        self._times_up, self._add_down = up.times, _packed(mlp, "down_proj").plus

    def __call__(self, hidden: Tensor) -> Tensor:
        read = _normed(hidden, self._norm)
        return self._add_down(self._times_up(read, self._gate(read)), hidden)


def _packed(parent: nn.Module, name: str) -> PackedLinear:
    """Put a packed linear map in the place of a plain one."""
    plain: Any = parent.get_submodule(name)
    packed = PackedLinear(plain.weight, plain.bias)
    parent.set_submodule(name, packed)
    return packed


def _adding(parent: nn.Module, name: str, *, frozen: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the sum of a linear map of its first argument and its second, packed where that is fast.

    On a GPU the second becomes the sum, which the product then adds to at no cost.
    """
    plain: Any = parent.get_submodule(name)
    if frozen and can_pack(plain.weight):
        return _packed(parent, name).plus

    def add(read: Tensor, hidden: Tensor) -> Tensor:
        by_product = hidden.device.type == "cuda" and plain.bias is None
        if by_product and hidden.dtype == read.dtype == plain.weight.dtype:
            hidden.flatten(0, 1).addmm_(read.flatten(0, 1), plain.weight.t())
            return hidden
        return hidden.add(plain(read))

    return add


def _joined(parts: Sequence[nn.Linear]) -> Callable[[Tensor], Tensor]:
    """Join linear maps of one input into one product; they become views of its weights.

    So the weights are held once (packed, twice), and the model's own code still runs on them.
    """
    widths = [part.out_features for part in parts]
    weight = _one_storage([part.weight for part in parts], widths)
    bias = None if parts[0].bias is None else _one_storage([part.bias for part in parts], widths)
    if can_pack(weight):
        return PackedLinear(weight, bias)
    return lambda hidden: linear(hidden, weight, bias)


def _side_by_side(parts: Sequence[nn.Linear]) -> Callable[[Tensor], Tensor]:
    """Return what linear maps of one input make of it, side by side; their weights stay their own."""
    return lambda hidden: torch.cat([part(hidden) for part in parts], -1)


def _one_storage(parts: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    whole = torch.cat([part.data for part in parts])
    for part, view in zip(parts, whole.split(list(widths)), strict=True):
        part.data = view
    return whole


def _normed(hidden: Tensor, norm: Any) -> Tensor:  # noqa: ANN401
    return norm_rows(hidden, norm.weight, norm.variance_epsilon)


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
