"""Keys and values of rows' own tokens, in buffers that stay: where a step writes its own, what it reads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfimprove.sampling.attention import KeysValues

__all__ = ["OwnPart", "own_part"]


class OwnPart(NamedTuple):
    """The part of buffers [rows, key-value heads, length, head size] that a step is about."""

    places: Tensor
    """Where it writes, counted over the first three dimensions, [rows * key-value heads]."""
    rows: int
    """Its rows, the first ones."""
    columns: int
    """Read of each row."""

    def update(self, buffers: KeysValues, key: Tensor, value: Tensor) -> KeysValues:
        """Store new keys and values; return all that queries attend to."""
        # Under autocast keys are rotated in float32: they are kept like the values.
        new = KeysValues(key.to(value.dtype), value)
        for buffer, entries in zip(buffers, new, strict=True):
            size = buffer.shape[-1]
            buffer.view(-1, size).index_copy_(0, self.places, entries.reshape(-1, size))
        return self.of(buffers)

    def of(self, buffers: KeysValues) -> KeysValues:
        """Return all that queries attend to."""
        return KeysValues(*(buffer[: self.rows, :, : self.columns] for buffer in buffers))


def own_part(buffer: Tensor, at: Tensor, columns: int) -> OwnPart:
    """Return the part of such buffers whose first rows write at columns `at`, and read `columns`."""
    rows, (_, groups, length, _) = len(at), buffer.shape
    lanes = torch.arange(rows * groups, device=buffer.device).view(rows, groups)
    return OwnPart((lanes * length + at.unsqueeze(1)).view(-1), rows, columns)
