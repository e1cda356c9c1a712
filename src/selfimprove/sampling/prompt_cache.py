"""Prompts whose draws are under way: keys and values of each prompt once, for all of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from selfimprove.sampling.attention import KeysValues, Partial, attend, hiding, whole_vectors
from selfimprove.sampling.lanes import resized
from selfimprove.sampling.seating import to_the_front

__all__ = ["PromptCache", "Seats", "attend_by_slot"]


class Seats(NamedTuple):
    """Which rows read which slot: every slot has as many seats, some of them taken by no row."""

    members: Tensor
    """The row of each seat, slot after slot; any row where no one sits."""
    places: Tensor
    """The seat of each row."""


def attend_by_slot(
    packed: Tensor, kept: KeysValues, seats: Seats, bias: Tensor | None, scale: float
) -> Partial:
    """Attend to each row's slot of `kept` with its queries, [rows, key heads, queries, size].

    `bias` [slots, 1, 1, length] hides what lies behind shorter prompts.
    """
    slots = len(kept.keys)
    _, groups, queries, size = packed.shape
    together = packed.index_select(0, seats.members).view(slots, -1, groups, queries, size)
    together = together.transpose(1, 2).reshape(slots, groups, -1, size)
    bias = None if bias is None else bias.expand(-1, -1, together.shape[2], -1)
    found = attend(together, kept, bias, scale)
    out = found.out.view(slots, groups, -1, queries, size).transpose(1, 2)
    lse = found.lse.view(slots, groups, -1, queries).transpose(1, 2)
    return Partial(
        out.reshape(-1, groups, queries, size).index_select(0, seats.places),
        lse.reshape(-1, groups, queries).index_select(0, seats.places),
    )


@final
class PromptCache:
    """Slots that hold a prompt each, and which slot every row reads.

    The queries of the rows of one prompt meet its keys in one product, as those of all rows meet the
    shared prefix: a prompt is read once a step instead of once a draw.
    """

    def __init__(self, longest: int, device: torch.device) -> None:
        """Make slots for prompts of at most `longest` tokens behind the shared prefix."""
        self._longest, self._device = whole_vectors(longest, device), device
        self._layers: list[KeysValues] = []
        self._lengths: list[int] = []
        self._parents: list[int | None] = []
        self._slots: list[int] = []
        self._used = 0
        self._members = self._places = torch.empty(0)
        self._bias: Tensor | None = None

    @property
    def lengths(self) -> list[int]:
        """How many tokens of its prompt each row reads here."""
        return [self._lengths[slot] for slot in self._slots]

    def forget_parents(self) -> None:
        """The pool was read anew: its places mean other prompts from now on."""
        self._parents = [None] * len(self._parents)

    def assign(
        self,
        pool: Sequence[KeysValues],
        lengths: Sequence[int],
        parents: Sequence[int],
        rows: Sequence[int],
    ) -> None:
        """Let each row read its parent in the pool, which gets a slot unless it has one."""
        known = {parent: slot for slot, parent in enumerate(self._parents) if parent is not None}
        new = [parent for parent in dict.fromkeys(parents) if parent not in known]
        first = len(self._lengths)
        known |= {parent: slot for slot, parent in enumerate(new, start=first)}
        self._lengths += [lengths[parent] for parent in new]
        self._parents += new
        self._copy_in(pool, new, first)
        self._slots += [0] * (max(rows) + 1 - len(self._slots))
        for row, parent in zip(rows, parents, strict=True):
            self._slots[row] = known[parent]

    def retire(self, sources: Sequence[int], holes: Sequence[int], count: int) -> None:
        """Move rows, as lanes do."""
        for old, new in zip(sources, holes, strict=True):
            self._slots[new] = self._slots[old]
        del self._slots[count:]

    def lay_out(self) -> None:
        """Put the rows of each slot side by side; slots that no row reads are given up."""
        self._close_gaps()
        self._used = whole_vectors(max(self._lengths), self._device)
        members: list[list[int]] = [[] for _ in self._lengths]
        for row, slot in enumerate(self._slots):
            members[slot].append(row)
        most = max(map(len, members))
        places = [0] * len(self._slots)
        for slot, rows in enumerate(members):
            for place, row in enumerate(rows):
                places[row] = slot * most + place
        self._members = self._index([r for m in members for r in m + [0] * (most - len(m))])
        self._places = self._index(places)
        self._bias = self._padding()

    def resize(self, longest: int) -> None:
        """Make place for longer or shorter prompts; those that rows read must fit."""
        if self._lengths:
            self._close_gaps()
        self._longest = whole_vectors(longest, self._device)
        count = len(self._lengths)
        self._layers = [
            KeysValues(*(resized(t, count, None, self._longest) for t in kv))
            for kv in self._layers
            if count
        ]

    def attend(self, packed: Tensor, layer: int, scale: float) -> Partial:
        """Attend to each row's own prompt with its queries, [rows, key heads, queries, size]."""
        keys, values = (t[: len(self._lengths), :, : self._used] for t in self._layers[layer])
        seats = Seats(self._members, self._places)
        return attend_by_slot(packed, KeysValues(keys, values), seats, self._bias, scale)

    def _copy_in(self, pool: Sequence[KeysValues], parents: Sequence[int], first: int) -> None:
        if not parents:
            return
        if not self._layers:
            self._layers = [KeysValues(*(self._more(t, len(parents)) for t in kv)) for kv in pool]
        if (short := first + len(parents) - len(self._layers[0].keys)) > 0:
            grown = max(short, len(self._layers[0].keys))
            self._layers = [
                KeysValues(*(torch.cat([t, self._more(t, grown)]) for t in kv))
                for kv in self._layers
            ]
        # A pool may have been read beside longer prompts than there is place for: padding, here.
        there, used = self._index(parents), min(pool[0].keys.shape[2], self._longest)
        for layer, read in zip(self._layers, pool, strict=True):
            for slots, entries in zip(layer, read, strict=True):
                slots[first : first + len(parents), :, :used] = entries[there, :, :used]

    def _more(self, like: Tensor, count: int) -> Tensor:
        """Make slots; zeros, since what is hidden must still be a number."""
        return like.new_zeros(count, like.shape[1], self._longest, like.shape[3])

    def _close_gaps(self) -> None:
        """Move slots from the end into the places of those that no row reads any more."""
        alive = sorted(set(self._slots))
        count = len(alive)
        if count == len(self._lengths):
            return
        now = to_the_front(alive)
        if now:
            source, target = self._index(list(now)), self._index(list(now.values()))
            for kv in self._layers:
                for slots in kv:
                    slots[target] = slots[source]
        for old, new in now.items():
            self._lengths[new], self._parents[new] = self._lengths[old], self._parents[old]
        del self._lengths[count:], self._parents[count:]
        self._slots = [now.get(slot, slot) for slot in self._slots]

    def _padding(self) -> Tensor | None:
        """Return what hides the places behind shorter prompts, [slots, 1, 1, longest]."""
        if min(self._lengths) == self._used:
            return None
        columns = torch.arange(self._used, device=self._device)
        hidden = columns >= self._index(self._lengths)[:, None, None, None]
        return hiding(hidden, self._layers[0].keys.dtype)

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)
