"""The fast lanes: one shared prefix, each prompt once, in-place buffers for a row's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from selfimprove.sampling.attention import KeysValues, Partial, for_queries, hiding, whole_vectors
from selfimprove.sampling.forward import Forward
from selfimprove.sampling.fused_trials import can_attend
from selfimprove.sampling.lanes import resized
from selfimprove.sampling.own_keys import OwnPart, own_part
from selfimprove.sampling.prompt_cache import PromptCache
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.reading import Reader, Reading

__all__ = ["CascadeLanes"]


@final
class CascadeLanes:
    """Lanes over preallocated buffers; transformers' models take them for their cache.

    A step calls `update` in every layer, which writes into the buffers. Prefix and prompts are read by
    passes of their own (`reading.py`).
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
        self._reader = Reader(model, forward, shared)
        self._pool: Reading | None = None
        self._buffers: list[KeysValues] = []
        self._lengths: list[int] = []
        self._used = 0
        self._lengths_there = torch.zeros(room, dtype=torch.long, device=self._device)
        self._before = torch.zeros(room, dtype=torch.long, device=self._device)
        self._moved = False
        self._part = OwnPart(torch.empty(0), 0, 0)
        self._bias: Tensor | None = None
        self._has_kernel = _has_kernel(model)
        self._last: Tensor | None = None

    def prefill(self, prompts: Sequence[Encoded]) -> None:
        """Read what prompts have behind the shared prefix; keep it left-aligned."""
        self._pool = None
        self._prompts.forget_parents()
        self._pool = self._reader.read(prompts)

    def fork(self, parents: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Let rows begin behind prompts of the pool; a row number past the end adds a lane."""
        if self._pool is None:
            raise AssertionError("no prompts were read")
        if not self._buffers:
            self._buffers = [self._allocate(layer) for layer in self._pool.layers]
        self._lengths += [0] * (max(rows) + 1 - len(self._lengths))
        for row in rows:
            self._lengths[row] = 0
        self._lengths_there[self._index(rows)] = 0
        self._prompts.assign(self._pool.layers, self._pool.lengths, parents, rows)
        self._moved = True
        return self._pool.logits[self._index(parents)]

    def step(self, tokens: Tensor) -> Tensor:
        """Run the model on one token a row."""
        if self._moved:
            self._prompts.lay_out()
            self._before = self._index(self._prompts.lengths) + self._shared
            self._moved = False
        lengths = self._lengths_there[: len(tokens)]
        self._lengths = [length + 1 for length in self._lengths]
        self._used = whole_vectors(max(self._lengths), self._device)
        self._part = own_part(self._buffers[0].keys, lengths, self._used)
        if self._has_kernel:
            self._last = lengths
        elif min(self._lengths) < self._used:
            self._bias = self._padding(lengths)
        else:
            self._bias = None
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

    def resize(self, room: int, longest: int, new: int) -> None:
        """Move all that rows hold into buffers of other sizes."""
        self._room, self._longest = room, whole_vectors(new, self._device)
        self._buffers = [
            KeysValues(*(resized(t, room, None, self._longest) for t in kv)) for kv in self._buffers
        ]
        self._lengths_there = resized(self._lengths_there, room)
        self._prompts.resize(longest)
        self._moved = True

    # What the model's layers and the attention function ask for during a pass.

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> KeysValues:
        """Store new keys and values of a layer; return all own ones that queries attend to."""
        return self._part.update(self._buffers[layer], key, value)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return 0: positions are always given; models ask only to guess them."""
        return 0

    @property
    def prompts(self) -> PromptCache:
        """Return the prompts that rows read."""
        return self._prompts

    def over_prefix(self, packed: Tensor, layer: int, scale: float) -> Partial | None:
        """Attend to what all prompts begin with, or return None when there is nothing (yet)."""
        return self._reader.over_prefix(packed, layer, scale)

    @property
    def last(self) -> Tensor | None:
        """Return the last own key that each row sees, [rows], where the kernel that goes by it works."""
        return self._last

    def in_place(self, layer: int) -> KeysValues | None:
        """Return all own keys and values of a layer, where a kernel puts new ones at `last`."""
        return None if self._last is None else self._part.of(self._buffers[layer])

    def bias(self, queries: int) -> Tensor | None:
        """Return what hides padding from `queries` packed queries a key head."""
        self._bias = for_queries(self._bias, queries)
        return self._bias

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


def _has_kernel(model: Any) -> bool:  # noqa: ANN401
    """Whether a kernel reads a row's own keys on a CPU: on a GPU steps are over a board."""
    if model.device.type != "cpu":
        return False
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_attention_heads
    queries = heads // (getattr(config, "num_key_value_heads", None) or heads)
    return can_attend(model.device, model.dtype, size, queries)
