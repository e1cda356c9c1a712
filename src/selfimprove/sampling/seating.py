"""Which row of a board reads which prompt: slots hold a prompt each, and seats for so many rows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple, final

__all__ = ["Moves", "Seating", "to_the_front"]


class Moves(NamedTuple):
    """From where to where rows and slots are to be copied."""

    rows: dict[int, int]
    slots: dict[int, int]


@final
class Seating:
    """Rows and slots, taken from the front; what leaves in between is taken again first."""

    def __init__(self, rows: int, slots: int, width: int) -> None:
        """Make place for so many rows and slots; `width` rows read one slot at most."""
        self._width, self._count = width, rows
        self._members: list[list[int]] = [[] for _ in range(slots)]
        self._prompts: list[str | None] = [None] * slots
        self._slot_of: dict[int, int] = {}
        self._open: dict[str, set[int]] = {}
        self._free_rows, self._free_slots = list(range(rows)), list(range(slots))

    @property
    def taken(self) -> int:
        """How many rows there are."""
        return len(self._slot_of)

    @property
    def free(self) -> int:
        """How many more there may be."""
        return self._count - len(self._slot_of)

    @property
    def rows(self) -> int:
        """One more than the last row taken."""
        return max(self._slot_of, default=-1) + 1

    @property
    def slots(self) -> int:
        """One more than the last slot taken."""
        return (
            max((s for s, prompt in enumerate(self._prompts) if prompt is not None), default=-1) + 1
        )

    @property
    def held(self) -> int:
        """How many slots are taken."""
        return len(self._members) - len(self._free_slots)

    def has_seat(self, prompt: str) -> bool:
        """Tell whether one more row can read this prompt."""
        return bool(self._free_rows) and bool(self._free_slots or self._open.get(prompt))

    def sit(self, prompt: str) -> tuple[int, int, bool]:
        """Take a row for a prompt; return it, its slot, and whether the slot is a new one."""
        row = heapq.heappop(self._free_rows)
        open_slots = self._open.setdefault(prompt, set())
        if new := not open_slots:
            slot = heapq.heappop(self._free_slots)
            self._prompts[slot] = prompt
            open_slots.add(slot)
        slot = min(open_slots)
        self._members[slot].append(row)
        self._slot_of[row] = slot
        if len(self._members[slot]) == self._width:
            open_slots.discard(slot)
        return row, slot, new

    def leave(self, row: int) -> None:
        """Give up a row, and its slot with the last row of it."""
        slot = self._slot_of.pop(row)
        self._members[slot].remove(row)
        heapq.heappush(self._free_rows, row)
        prompt = self._prompts[slot]
        assert prompt is not None
        if self._members[slot]:
            self._open.setdefault(prompt, set()).add(slot)
            return
        self._prompts[slot] = None
        self._open.get(prompt, set()).discard(slot)
        heapq.heappush(self._free_slots, slot)

    def plan(self) -> tuple[list[int], list[int]]:
        """Return the row of each seat, up to the last slot, and the seat of each row, up to the last.

        A seat that no row takes, and a row that is free, are given the first one.
        """
        members = [
            row
            for rows in self._members[: self.slots]
            for row in rows + [0] * (self._width - len(rows))
        ]
        places = [0] * self.rows
        for slot, rows in enumerate(self._members):
            for seat, row in enumerate(rows):
                places[row] = slot * self._width + seat
        return members, places

    def close_gaps(self) -> Moves:
        """Move rows and slots from the end to the gaps before them."""
        rows = to_the_front(sorted(self._slot_of))
        held = [slot for slot, prompt in enumerate(self._prompts) if prompt is not None]
        slots = to_the_front(held)
        for old, new in slots.items():
            self._prompts[new], self._prompts[old] = self._prompts[old], None
            self._members[new], self._members[old] = self._members[old], []
        for place, members in enumerate(self._members):
            self._members[place] = [rows.get(row, row) for row in members]
        self._slot_of = {row: s for s, members in enumerate(self._members) for row in members}
        self._open = {}
        for slot, prompt in enumerate(self._prompts):
            if prompt is not None and len(self._members[slot]) < self._width:
                self._open.setdefault(prompt, set()).add(slot)
        self._free_rows = [row for row in range(self._count) if row not in self._slot_of]
        self._free_slots = [s for s, prompt in enumerate(self._prompts) if prompt is None]
        return Moves(rows, slots)


def to_the_front(taken: Sequence[int]) -> dict[int, int]:
    """Return which of the numbers `taken`, sorted, go where, so that they are the first ones.

    >>> to_the_front([0, 3, 4])
    {3: 1, 4: 2}
    """
    gaps = sorted(set(range(len(taken))) - set(taken))
    return dict(zip(taken[len(taken) - len(gaps) :], gaps, strict=True))
