"""The rows of draws that come one by one: laid out anew as larger ones come, within a budget of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from functools import reduce
from typing import Final, NamedTuple, final

from selfimprove.sampling.engine import READ_TOKENS
from selfimprove.sampling.jobs import Job
from selfimprove.sampling.rows import Rows
from selfimprove.sampling.torch_engine import TorchEngine

__all__ = ["Need", "Table", "TableSize"]

# Sizes are powers of two, so that few requests move what is there; none is smaller.
_LEAST_ROWS, _LEAST_LENGTH = 8, 64
# A larger table is not kept for whoever asks next, once nobody does.
_KEPT: Final = 16_384


class TableSize(NamedTuple):
    """What rows have place for."""

    room: int
    """Rows at once."""
    longest: int
    """Tokens of a prompt."""
    new: int
    """Tokens sampled for a row."""

    @property
    def entries(self) -> int:
        """Cache entries, at most."""
        return self.room * (self.longest + self.new)


class Need(NamedTuple):
    """What draws ask for together."""

    draws: int = 0
    longest: int = 1
    """Tokens of the longest prompt."""
    new: int = 1
    """Tokens of the draw that may have most."""

    def and_of(self, job: Job) -> Need:
        """Return what these draws and one more ask for."""
        new = max(self.new, job.rules.sampling.max_tokens)
        return Need(self.draws + 1, max(self.longest, len(job.prompt.ids)), new)

    def size(self, budget: int, most: int) -> TableSize | None:
        """Return what has place for them; None: it would be too large. One draw always has a place.

        Args:
            budget: cache entries.
            most: rows.
        """
        longest, new = _power(self.longest, _LEAST_LENGTH), _power(self.new, _LEAST_LENGTH)
        rows = max(1, min(budget // (longest + new), most))
        if self.draws > rows:
            return None
        return TableSize(min(rows, _power(self.draws, _LEAST_ROWS)), longest, new)


def _power(number: int, least: int) -> int:
    return max(least, 1 << (number - 1).bit_length())


@final
class Table:
    """Rows under way, and those that join at the next step."""

    def __init__(self, engine: TorchEngine) -> None:
        """Begin with none, on an engine that nobody else asks."""
        self._engine = engine
        self._rows: Rows | None = None
        self._size = TableSize(0, 0, 0)
        self._fast = False
        self._joining: deque[Job] = deque()

    @property
    def inside(self) -> list[Job]:
        """Draws begun, and those that are about to."""
        under_way = [] if self._rows is None else self._rows.under_way
        return [*under_way, *self._joining]

    @property
    def size(self) -> TableSize:
        """What there is place for."""
        return self._size

    @property
    def rows(self) -> Rows | None:
        """What is under way; None: nothing is laid out."""
        return self._rows

    def admit(self, waiting: deque[Job]) -> None:
        """Let the first of the waiting draws in; one without room keeps those behind it waiting."""
        if not waiting:
            return
        size, need = None, reduce(Need.and_of, self.inside, Need())
        while waiting:
            job = waiting[0]
            fast = self._engine.has_lanes_for(len(job.prompt.ids) + job.rules.sampling.max_tokens)
            need = need.and_of(job)
            more = need.size(self._engine.budget, self._engine.most_rows)
            if more is None or (need.draws > 1 and fast != self._fast):
                break
            if fast != self._fast:
                self._rows, self._fast = None, fast
            self._joining.append(waiting.popleft())
            size = more
        if size is not None:
            self._lay_out(size)

    def advance(self) -> None:
        """Give every row its next token."""
        if self._rows is not None:
            self._rows.advance(self._joining)

    def drop(self, jobs: Collection[Job]) -> None:
        """Give up draws; others may have their rows at the next step."""
        self._joining = deque(job for job in self._joining if job not in jobs)
        if self._rows is not None:
            self._rows.drop(jobs)

    def rest(self) -> None:
        """Give memory back where nobody draws."""
        if not self.inside and self._size.entries > _KEPT:
            self.clear()

    def clear(self) -> list[Job]:
        """Begin anew; return the draws that were inside."""
        inside = self.inside
        self._rows, self._size = None, TableSize(0, 0, 0)
        self._joining.clear()
        return inside

    def _lay_out(self, need: TableSize) -> None:
        both = TableSize(*map(max, need, self._size))
        # Larger than it must be where there is memory: to move everything takes time.
        size = both if both.entries <= self._engine.budget else need
        if self._rows is None:
            size = need
        pool = 1 + READ_TOKENS // size.longest if self._fast else size.room
        was, self._size = self._size, size  # first: where memory ends, it is of so much
        if self._rows is None:
            self._rows = self._engine.table(*size, pool=pool, fast=self._fast)
        elif size != was:
            self._rows.resize(*size, pool)
