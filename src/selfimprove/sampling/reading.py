"""Reads prompts: what all begin with once, then what each has behind it, in passes over several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from selfimprove.sampling.attention import (
    KeptPrompts,
    KeysValues,
    Partial,
    attend_together,
    for_queries,
    hiding,
    whole_vectors,
)
from selfimprove.sampling.forward import Forward
from selfimprove.sampling.lanes import left_padded
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.sending import sent

__all__ = ["Reader", "Reading"]

# The prefix is read in pieces of this many tokens: the mask of a piece is its square.
_PIECE = 1024


class Reading(NamedTuple):
    """What a pass over prompts leaves."""

    logits: Tensor
    """Of each prompt's next token, [prompts, vocabulary]."""
    layers: list[KeysValues]
    """Of what each prompt has behind the prefix, left-aligned."""
    lengths: list[int]
    """Tokens of each prompt behind the prefix."""


@final
class Reader:
    """The shared prefix, read; transformers' models take it for their cache while they read prompts.

    A pass calls `update` in every layer, and what comes is kept, one entry a layer.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        forward: Forward,
        shared: Sequence[int],
    ) -> None:
        """Read what all prompts begin with; `forward` runs the model."""
        self._forward = forward
        self._dtype: torch.dtype = model.dtype
        self._device: torch.device = model.device
        self.begins_with = tuple(shared)
        self.shared = len(shared)
        self._prefix: list[KeysValues] = []
        self._prefix_bias: Tensor | None = None
        self._bias: Tensor | None = None
        self._read: list[KeysValues] = []
        for start in range(0, len(shared), _PIECE):
            self._read_prefix(shared[start : start + _PIECE], start)
        self._prefix_bias = self._pad_prefix()

    @property
    def layers(self) -> list[KeysValues]:
        """The shared keys and values of every layer; none where nothing is shared."""
        return self._prefix

    @torch.inference_mode()
    def read(self, prompts: Sequence[Encoded]) -> Reading:
        """Read what prompts have behind the shared prefix."""
        own = [p.ids[self.shared :] for p in prompts]
        ids, mask = left_padded(own, self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + self.shared
        logits, layers = self._pass(ids, mask, positions)
        lengths = [len(row) for row in own]
        if min(lengths) < ids.shape[1]:
            layers = [_left_aligned(layer, mask) for layer in layers]
        return Reading(logits, layers, lengths)

    # What the model's layers and the attention function ask for during a pass.

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> KeysValues:
        """Keep new keys and values of a layer, and return them."""
        # Under autocast keys are rotated in float32: they are kept like the values.
        self._read.append(KeysValues(key.to(value.dtype), value))
        return self._read[-1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: positions are always given; models ask only to guess them."""
        return 0

    @property
    def prompts(self) -> KeptPrompts | None:
        """Return None: prompts are read themselves."""
        return None

    def over_prefix(self, packed: Tensor, layer: int, scale: float) -> Partial | None:
        """Attend to what all prompts begin with, or return None when there is nothing (yet)."""
        if not self._prefix:
            return None
        return attend_together(packed, self._prefix[layer], self._prefix_bias, scale)

    @property
    def last(self) -> None:
        """Return nothing: what is hidden is told by `bias` alone."""

    def in_place(self, layer: int) -> None:
        """Return nothing: new keys and values are kept by `update` alone."""

    def bias(self, queries: int) -> Tensor | None:
        """Return what hides padding and the future from `queries` packed queries a key head."""
        self._bias = for_queries(self._bias, queries)
        return self._bias

    def _pass(
        self, ids: Tensor, mask: Tensor, positions: Tensor
    ) -> tuple[Tensor, list[KeysValues]]:
        """Run the model on whole rows; return the last logits, and keys and values by layer."""
        length = ids.shape[1]
        past = torch.ones(length, length, dtype=torch.bool, device=self._device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=self._device)
        # Padding attends to itself alone: a softmax over nothing would be NaN.
        seen = (past & mask.bool()[:, None, None, :]) | itself
        self._bias = hiding(~seen, self._dtype)
        read: list[KeysValues] = []
        self._read = read
        try:
            return self._forward(ids, positions, self), read
        finally:
            self._read = []
            self._bias = None

    @torch.inference_mode()
    def _read_prefix(self, piece: Sequence[int], start: int) -> None:
        ids = sent(torch.tensor([list(piece)]), self._device)
        positions = torch.arange(start, start + len(piece), device=self._device).unsqueeze(0)
        _, read = self._pass(ids, torch.ones_like(ids), positions)
        before = self._prefix or [KeysValues(k[:, :, :0], v[:, :, :0]) for k, v in read]
        self._prefix = [
            KeysValues(torch.cat([a.keys, b.keys], 2), torch.cat([a.values, b.values], 2))
            for a, b in zip(before, read, strict=True)
        ]

    def _pad_prefix(self) -> Tensor | None:
        """Pad the prefix to whole vectors, and return what hides the padding."""
        length = whole_vectors(self.shared, self._device)
        if length == self.shared:
            return None
        more = (0, 0, 0, length - self.shared)
        self._prefix = [KeysValues(pad(k, more), pad(v, more)) for k, v in self._prefix]
        hidden = torch.arange(length, device=self._device) >= self.shared
        return hiding(hidden[None, None, None], self._dtype)


def _left_aligned(layer: KeysValues, mask: Tensor) -> KeysValues:
    """Move each row's entries to the front, over the padding before them."""
    length = mask.shape[1]
    padding = length - mask.sum(-1, keepdim=True)
    places = (torch.arange(length, device=mask.device) + padding).clamp(max=length - 1)
    places = places[:, None, :, None]
    return KeysValues(layer.keys.take_along_dim(places, 2), layer.values.take_along_dim(places, 2))
