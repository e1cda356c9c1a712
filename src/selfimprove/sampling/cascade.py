"""The fast lanes: one shared prefix, and in-place key-value buffers for each row's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import AttentionInterface

from selfimprove.sampling.attention import NAME, KeysValues, cascade_attention
from selfimprove.sampling.lanes import left_padded
from selfimprove.sampling.prompts import Encoded

__all__ = ["CascadeLanes"]

AttentionInterface.register(NAME, cascade_attention)


@final
class CascadeLanes:
    """Lanes over preallocated buffers; transformers' models see them as their cache.

    A model calls `update` in every layer; what that does depends on the pass under way: reading
    the prefix, reading prompts into the pool, or one step of all rows.
    """

    refills = True

    def __init__(self, model: Any, shared: Sequence[int], room: int, longest: int) -> None:  # noqa: ANN401
        """Make lanes for `room` rows of at most `longest` tokens behind the `shared` ones."""
        self._model = model
        self._device: torch.device = model.device
        self._shared = len(shared)
        self._shape = (room, longest)
        self._prefix: list[KeysValues] = []
        self._pool: list[KeysValues] = []
        self._pool_lengths: list[int] = []
        self._pool_logits = torch.empty(0)
        self._buffers: list[KeysValues] = []
        self._lengths: list[int] = []
        self._bias: Tensor | None = None
        self._places = torch.empty(0)
        self._reading: list[KeysValues] | None = None
        if shared:
            self._read([list(shared)], into=self._prefix)

    # What the attention function and the model's layers ask for.

    def prefix(self, layer: int) -> KeysValues | None:
        """Return the shared keys and values, or None when there are none (yet)."""
        return None if self._reading is self._prefix else self._prefix[layer] if self._prefix else None

    def bias(self, repeats: int) -> Tensor | None:
        """Return what hides padding and the future, for `repeats` query heads a key head."""
        if self._bias is None or self._reading is None:
            return self._bias
        return self._bias.repeat(1, 1, repeats, 1)

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values of a layer; return all that its queries may attend to."""
        if self._reading is not None:
            self._reading.append(KeysValues(key, value))
            return key, value
        if layer == len(self._buffers):
            self._buffers.append(self._allocate(key, value))
        rows, longest = len(self._lengths), max(self._lengths)
        kept = []
        for buffer, new in zip(self._buffers[layer], (key, value), strict=True):
            flat = buffer.view(-1, buffer.shape[-1])
            flat.index_copy_(0, self._places, new.reshape(-1, buffer.shape[-1]))
            kept.append(buffer[:rows, :, :longest])
        return kept[0], kept[1]

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: positions are always given, this only keeps models from guessing."""
        return 0
