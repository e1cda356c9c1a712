"""Where rows live inside the model: one lane of key-value cache a row. Two ways to keep them.

`PaddedLanes` is the general way: transformers' own cache, prompts padded on the left. It works for
any causal model with attention, sliding windows included. `cascade.py` has the fast way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Protocol, final

import torch
from torch import Tensor

from selfimprove.errors import EngineError
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.sending import sent

__all__ = ["Lanes", "PaddedLanes", "left_padded", "resized"]


class Lanes(Protocol):
    """Key-value caches of the rows under way; row i of every call is lane i."""

    refills: bool
    """Whether rows may join while others are under way."""

    def prefill(self, prompts: Sequence[Encoded]) -> None:
        """Read prompts into the pool that rows are forked from; forgets the earlier pool."""
        ...

    def fork(self, parents: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Make each row a copy of its parent in the pool; return the logits of its next token.

        Rows may be ones that ended, or follow the last one.
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row; return the logits of the next."""
        ...

    def retire(self, sources: Sequence[int], holes: Sequence[int], count: int) -> None:
        """Move each source row into its hole, then forget the rows from `count` on."""
        ...

    def resize(self, room: int, longest: int, new: int) -> None:
        """Make place for `room` rows of prompts of `longest` tokens and `new` ones behind them.

        What the rows under way hold stays; it must fit.
        """
        ...


@final
class PaddedLanes:
    """transformers' dynamic cache over left-padded rows; a wave ends before the next begins."""

    refills = False

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._positions = torch.empty(0)
        self._logits = torch.empty(0)

    def prefill(self, prompts: Sequence[Encoded]) -> None:
        """Read all prompts in one pass."""
        ids, self._mask = left_padded([p.ids for p in prompts], self._model.device)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._cache = None
        self._logits = self._forward(ids, positions)
        self._positions = positions[:, -1:]

    def fork(self, parents: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Repeat the pool's rows: in this class the pool itself becomes the rows."""
        places = torch.tensor(parents, device=self._model.device)
        self._select(places)
        return self._logits[places]

    def step(self, tokens: Tensor) -> Tensor:
        """Run the model on one token a row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        self._positions = self._positions + 1
        return self._forward(tokens.unsqueeze(1), self._positions)

    def retire(self, sources: Sequence[int], holes: Sequence[int], count: int) -> None:
        """Copy the rows that stay."""
        rows = torch.arange(count)
        rows[list(holes)] = torch.tensor(sources, dtype=torch.long)
        self._select(rows.to(self._model.device))

    def resize(self, room: int, longest: int, new: int) -> None:
        """Do nothing: each wave takes what it needs."""

    def _select(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._positions = self._positions[rows]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.get("past_key_values")
        if self._cache is None:
            raise EngineError(
                f"{type(self._model).__name__} keeps no key-value cache: "
                "the torch engine samples models with attention only"
            )
        logits: Tensor = out.logits[:, -1]
        return logits


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids [rows, longest] with zeros before each row, and the mask of real ones."""
    longest = max(len(row) for row in rows)
    ids = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    both = sent(torch.tensor([ids, mask]), device)
    return both[0], both[1]


def resized(tensor: Tensor, *sizes: int | None) -> Tensor:
    """Return a tensor of other sizes in its first dimensions; zeros stand where nothing was. None: as it is.

    >>> resized(torch.ones(2, 3), 3, 2).tolist()
    [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """
    shape = [was if size is None else size for was, size in zip_longest(tensor.shape, sizes)]
    if shape == list(tensor.shape):
        return tensor
    found = tensor.new_zeros(shape)
    both = tuple(slice(min(a, b)) for a, b in zip(tensor.shape, shape, strict=True))
    found[both] = tensor[both]
    return found
