"""The fast lanes: one shared prefix, each prompt once, in-place buffers for a row's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from selfimprove.sampling.attention import KeysValues, hiding, whole_vectors
from selfimprove.sampling.forward import Forward
from selfimprove.sampling.lanes import left_padded
from selfimprove.sampling.prompt_cache import PromptCache
from selfimprove.sampling.prompts import Encoded

__all__ = ["CascadeLanes"]

# The prefix is read in pieces of this many tokens: the mask of a piece is its square.
_PIECE = 1024


@final
class CascadeLanes:
    """Lanes over preallocated buffers; transformers' models take them for their cache.

    A pass calls `update` in every layer. What that does depends on the pass under way: a reading
    of prefix or prompts keeps what comes, one entry a layer; a step writes into the buffers.
    """

    refills = True

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        forward: Forward,
        shared: Sequence[int],
        room: int,
        longest: int,
        new: int,
    ) -> None:
        """Make lanes for `room` rows.

        Args:
            model: whose keys and values are kept.
            forward: runs it.
            shared: what all prompts begin with.
            room: rows at once.
            longest: tokens of the longest prompt behind the shared ones.
            new: tokens sampled at most for a row.
        """
        self._forward = forward
        self._dtype: torch.dtype = model.dtype
        self._device: torch.device = model.device
        self._room, self._longest = room, whole_vectors(new, self._device)
        self._prompts = PromptCache(longest, self._device)
        self._shared = len(shared)
        self._prefix: list[KeysValues] = []
        self._prefix_bias: Tensor | None = None
        self._pool: list[KeysValues] = []
        self._pool_lengths: list[int] = []
        self._pool_logits = torch.empty(0)
        self._buffers: list[KeysValues] = []
        self._lengths: list[int] = []
        self._used = 0
        self._lengths_there = torch.zeros(room, dtype=torch.long, device=self._device)
        self._before = torch.zeros(room, dtype=torch.long, device=self._device)
        self._moved = False
        self._places = torch.empty(0)
        self._bias: Tensor | None = None
        self._reading: list[KeysValues] | None = None
        for start in range(0, len(shared), _PIECE):
            self._read_prefix(shared[start : start + _PIECE], start)
        self._prefix_bias = self._pad_prefix()

    def prefill(self, prompts: Sequence[Encoded]) -> None:
        """Read what prompts have behind the shared prefix; keep it left-aligned."""
        own = [p.ids[self._shared :] for p in prompts]
        ids, mask = left_padded(own, self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + self._shared
        self._pool = []
        self._prompts.forget_parents()
        self._pool_logits, read = self._read(ids, mask, positions)
        self._pool_lengths = [len(row) for row in own]
        if min(self._pool_lengths) < ids.shape[1]:
            read = [_left_aligned(layer, mask) for layer in read]
        self._pool = read

    def fork(self, parents: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Let rows begin behind prompts of the pool; a row number past the end adds a lane."""
        if not self._buffers:
            self._buffers = [self._allocate(layer) for layer in self._pool]
        self._lengths += [0] * (max(rows) + 1 - len(self._lengths))
        for row in rows:
            self._lengths[row] = 0
        self._lengths_there[self._index(rows)] = 0
        self._prompts.assign(self._pool, self._pool_lengths, parents, rows)
        self._moved = True
        return self._pool_logits[self._index(parents)]

    def step(self, tokens: Tensor) -> Tensor:
        """Run the model on one token a row."""
        if self._moved:
            self._prompts.lay_out()
            self._before = self._index(self._prompts.lengths) + self._shared
            self._moved = False
        rows = len(tokens)
        lengths = self._lengths_there[:rows]
        groups = self._buffers[0].keys.shape[1]
        lanes = torch.arange(rows * groups, device=self._device).view(rows, groups)
        self._places = (lanes * self._longest + lengths.unsqueeze(1)).view(-1)
        self._lengths = [length + 1 for length in self._lengths]
        self._used = whole_vectors(max(self._lengths), self._device)
        self._bias = self._padding(lengths) if min(self._lengths) < self._used else None
        logits = self._forward(tokens.unsqueeze(1), (lengths + self._before).unsqueeze(1), self)
        lengths += 1
        return logits

    def retire(self, sources: Sequence[int], holes: Sequence[int], count: int) -> None:
        """Move rows in place."""
        for old, new in zip(sources, holes, strict=True):
            self._lengths[new] = self._lengths[old]
        del self._lengths[count:]
        self._prompts.retire(sources, holes, count)
        self._moved = True
        if not sources:
            return
        source, target = self._index(sources), self._index(holes)
        self._lengths_there[target] = self._lengths_there[source]
        used = max(self._lengths)
        for keys, values in self._buffers:
            keys[target, :, :used] = keys[source, :, :used]
            values[target, :, :used] = values[source, :, :used]

    # What the model's layers and the attention function ask for during a pass.

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> KeysValues:
        """Store new keys and values of a layer; return all own ones that queries attend to."""
        # Under autocast keys are rotated in float32: they are kept like the values.
        key = key.to(value.dtype)
        if self._reading is not None:
            self._reading.append(KeysValues(key, value))
            return KeysValues(key, value)
        rows, longest = len(self._lengths), self._used
        kept = []
        for buffer, new in zip(self._buffers[layer], (key, value), strict=True):
            size = buffer.shape[-1]
            buffer.view(-1, size).index_copy_(0, self._places, new.reshape(-1, size))
            kept.append(buffer[:rows, :, :longest])
        return KeysValues(*kept)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: positions are always given; models ask only to guess them."""
        return 0

    @property
    def prompts(self) -> PromptCache | None:
        """Return the prompts that rows read, or None while prefix or prompts are read themselves."""
        return self._prompts if self._reading is None else None

    def prefix(self, layer: int) -> KeysValues | None:
        """Return the shared keys and values of a layer, or None when there are none (yet)."""
        return self._prefix[layer] if self._prefix else None

    @property
    def prefix_bias(self) -> Tensor | None:
        """Return what hides padding of the prefix, [1, 1, 1, its length]."""
        return self._prefix_bias

    def bias(self, queries: int) -> Tensor | None:
        """Return what hides padding and the future from `queries` packed queries a key head."""
        if self._bias is not None and self._bias.shape[2] != queries:
            self._bias = self._bias.repeat(1, 1, queries // self._bias.shape[2], 1)
        return self._bias

    def _read(
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
        self._reading = read
        try:
            return self._forward(ids, positions, self), read
        finally:
            self._reading = None

    @torch.inference_mode()
    def _read_prefix(self, piece: Sequence[int], start: int) -> None:
        ids = torch.tensor([list(piece)], device=self._device)
        positions = torch.arange(start, start + len(piece), device=self._device).unsqueeze(0)
        _, read = self._read(ids, torch.ones_like(ids), positions)
        before = self._prefix or [KeysValues(k[:, :, :0], v[:, :, :0]) for k, v in read]
        self._prefix = [
            KeysValues(torch.cat([a.keys, b.keys], 2), torch.cat([a.values, b.values], 2))
            for a, b in zip(before, read, strict=True)
        ]

    def _pad_prefix(self) -> Tensor | None:
        """Pad the prefix to whole vectors, and return what hides the padding."""
        length = whole_vectors(self._shared, self._device)
        if length == self._shared:
            return None
        more = (0, 0, 0, length - self._shared)
        self._prefix = [KeysValues(pad(k, more), pad(v, more)) for k, v in self._prefix]
        hidden = torch.arange(length, device=self._device) >= self._shared
        return hiding(hidden[None, None, None], self._dtype)

    def _padding(self, lengths: Tensor) -> Tensor:
        """Hide what lies behind the row's newest token, which is at its length before the step."""
        columns = torch.arange(self._used, device=self._device)
        return hiding(columns > lengths[:, None, None, None], self._dtype)

    def _allocate(self, like: KeysValues) -> KeysValues:
        """Make one layer's buffers; zeros, since what is hidden must still be a number."""
        shapes = [(self._room, t.shape[1], self._longest, t.shape[3]) for t in like]
        return KeysValues(*(like.keys.new_zeros(shape) for shape in shapes))

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _left_aligned(layer: KeysValues, mask: Tensor) -> KeysValues:
    """Move each row's entries to the front, over the padding before them."""
    length = mask.shape[1]
    padding = length - mask.sum(-1, keepdim=True)
    places = (torch.arange(length, device=mask.device) + padding).clamp(max=length - 1)
    places = places[:, None, :, None]
    return KeysValues(layer.keys.take_along_dim(places, 2), layer.values.take_along_dim(places, 2))
