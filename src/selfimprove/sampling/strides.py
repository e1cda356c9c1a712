"""The draw loop without waiting: rows take several steps between two looks of the host.

The device itself sees that a row ended or is full. The host only looks every few steps: it gives the
places of rows that ended to waiting draws, and turns tokens into text while the device goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from selfimprove.sampling.board import Board, Rung
from selfimprove.sampling.choose import choose, choose_from_all, may_be_unsure
from selfimprove.sampling.forward import Forward
from selfimprove.sampling.graphs import Graphs, rung_over
from selfimprove.sampling.jobs import (
    End,
    Job,
    Made,
    Rules,
    broken_model,
    drawn,
    next_prompts,
    seeds_of,
)
from selfimprove.sampling.reading import Reader, Reading
from selfimprove.sampling.seating import Seating
from selfimprove.sampling.sending import sent
from selfimprove.sampling.static_step import settle, step
from selfimprove.types import Draw

__all__ = ["STRIDE", "Strides"]

STRIDE = 8
"""Steps between two looks."""

# Rows join only when this share of the board is free: joining costs a pass over their prompts.
_REFILL_SHARE = 8

# Fewer rows or columns make a step so little cheaper that recording it would not pay.
_LEAST_ROWS, _LEAST_COLUMNS = 64, 128

# To record a step takes as long as so many steps save by being lower.
_WORTH_A_RUNG = 2 * STRIDE


class _Seen(NamedTuple):
    """What a look found of a row: its tokens, and whether it takes no more of them."""

    job: Job
    tokens: list[int]
    checked: int
    """How many of them were looked at before."""
    over: bool


@final
class Strides:
    """Rows under way on a board."""

    def __init__(
        self, board: Board, graphs: Graphs, forward: Forward, reader: Reader, rules: Rules, pool: int
    ) -> None:  # fmt: skip
        """Begin with no rows.

        Args:
            board: that no others use meanwhile.
            graphs: of steps over this board.
            forward: runs the model of both.
            reader: has read what all prompts begin with.
            rules: what holds for every row.
            pool: prompts read at once.
        """
        self._board, self._graphs, self._forward, self._reader = board, graphs, forward, reader
        self._rules, self._pool_size = rules, pool
        self._pool: dict[str, int] = {}
        self._read: Reading | None = None
        self._seating = Seating(board.size.rows, board.size.slots, board.size.width)
        self._jobs: list[Job | None] = [None] * board.size.rows
        self._checked, self._made = [0] * board.size.rows, [0] * board.size.rows
        self._cut: list[int] = []
        self._laid = (0, 0)
        self._seen: list[_Seen] = []
        self.ready: deque[Made] = deque()
        self._ends = set(rules.ends.tolist())
        may_stop = rules.may_stop
        self._stops = set() if may_stop is None else set(may_stop.nonzero().squeeze(1).tolist())
        self._prepare()

    @property
    def under_way(self) -> list[Job]:
        """Draws begun and not finished."""
        over = [seen.job for seen in self._seen if seen.over]
        return over + [job for job in self._jobs if job is not None]

    @torch.inference_mode()
    def _prepare(self) -> None:
        board, rules = self._board, self._rules
        board.begin(rules.ends, rules.may_stop, rules.sampling.max_tokens)
        if may_be_unsure(rules.sampling):
            board.keep_logits()
        if board.prefix:
            board.put_prefix(self._reader.layers, self._reader.shared)

    @torch.inference_mode()
    def advance(self, queue: deque[Job]) -> None:
        """Look, let waiting draws join, set the device going; meanwhile read what was seen."""
        if self._cut:
            self._board.alive[self._index(self._cut)] = False
            self._cut = []
        if self._seating.taken:
            self._look()
        while queue and self._join(queue):
            pass
        if not queue:
            self._close_gaps()
        self._go()
        self._read_ahead(queue)
        self._read_seen()

    def _look(self) -> None:
        """See how far rows came; those that ended give up their places."""
        board = self._board
        if may_be_unsure(self._rules.sampling):
            self._choose_unsure()
        count = self._seating.rows
        told = (board.made, board.alive, board.asks, board.broken)
        # Here the host waits for the device.
        made, alive, asks, broken = torch.stack([t[:count].long() for t in told]).tolist()
        if any(broken):
            raise broken_model(self._called(broken.index(1)))
        self._made[:count] = made
        found = [
            (row, job)
            for row, job in enumerate(self._jobs[:count])
            if job is not None and (asks[row] or not alive[row])
        ]
        if not found:
            return
        board.asks.zero_()
        rows = [row for row, _ in found]
        tokens = board.tokens[self._index(rows)].tolist()
        for (row, job), ids in zip(found, tokens, strict=True):
            self._seen.append(_Seen(job, ids[: made[row]], self._checked[row], not alive[row]))
            self._checked[row] = made[row]
            if not alive[row]:
                self._leave(row)

    def _called(self, row: int) -> str:
        job = self._jobs[row]
        return "one of the prompts under way" if job is None else f"prompt {job.prompt.key!r}"

    def _choose_unsure(self) -> None:
        """Choose for the rows that need the whole vocabulary for it."""
        board = self._board
        rows = board.unsure.nonzero().squeeze(1)
        if len(rows):
            seeds, made = board.seeds[rows], board.made[rows]
            tokens = choose_from_all(board.logits[rows], seeds, made, self._rules.sampling)
            settle(board, rows, tokens, board.alive[rows])
            board.unsure.zero_()

    def _leave(self, row: int) -> None:
        self._jobs[row] = None
        self._seating.leave(row)

    def _join(self, queue: deque[Job]) -> bool:
        """Begin waiting draws, as far as places and the pool of prompts go; tell whether any did."""
        seating, size = self._seating, self._board.size
        if seating.taken and seating.free * _REFILL_SHARE < size.rows:
            return False
        if not seating.has_seat(queue[0].prompt.key):
            return False
        if queue[0].prompt.key not in self._pool:
            self._fill_pool(queue)
        begun: list[tuple[int, Job]] = []
        new_slots: dict[int, int] = {}
        while queue and (key := queue[0].prompt.key) in self._pool and seating.has_seat(key):
            row, slot, new = seating.sit(key)
            if new:
                new_slots[slot] = self._pool[key]
            begun.append((row, queue.popleft()))
            self._jobs[row] = begun[-1][1]
            self._checked[row] = self._made[row] = 0
        self._begin(begun, new_slots)
        return True

    def _begin(self, begun: Sequence[tuple[int, Job]], new_slots: dict[int, int]) -> None:
        """Lay prompts and rows out on the board, and draw the first token of each row."""
        board, rules, read = self._board, self._rules, self._read
        jobs = [job for _, job in begun]
        assert read is not None
        if new_slots:
            lengths = self._index([read.lengths[place] for place in new_slots.values()])
            slots, places = self._index(list(new_slots)), self._index(list(new_slots.values()))
            board.put_prompts(slots, read.layers, places, lengths)
        rows = self._index([row for row, _ in begun])
        board.seeds[rows] = seeds_of(jobs, board.device)
        board.before[rows] = self._index([len(job.prompt.ids) for job in jobs])
        board.made[rows] = 0
        board.asks[rows] = False
        board.alive[rows] = True
        self._seat()
        logits = read.logits[self._index([self._pool[job.prompt.key] for job in jobs])]
        board.broken[rows] = logits.isnan().any(-1)
        tokens = choose(logits, board.seeds[rows], board.made[rows], rules.sampling)
        tokens = tokens.clamp(max=logits.shape[1] - 1)
        settle(board, rows, tokens, torch.ones_like(rows, dtype=torch.bool))

    def _fill_pool(self, queue: deque[Job]) -> None:
        """Read the next prompts of the queue."""
        prompts = next_prompts(queue, self._pool_size)
        self._pool, self._read = {}, None
        self._read = self._reader.read(prompts)
        self._pool = {prompt.key: place for place, prompt in enumerate(prompts)}

    def _read_ahead(self, queue: deque[Job]) -> None:
        """Let the device read the prompts that come next behind the steps it is taking."""
        if queue and queue[0].prompt.key not in self._pool:
            self._fill_pool(queue)

    def _close_gaps(self) -> None:
        """Once no more draws wait, move rows together wherever a lower rung will do then, for long."""
        board, seating = self._board, self._seating
        if self._steps_left(self._under_way_made()) < _WORTH_A_RUNG:
            return
        if self._rung(seating.taken, seating.held) == self._laid:
            return
        rows, slots = seating.close_gaps()
        if rows:
            board.move_rows(self._index(list(rows)), self._index(list(rows.values())))
        if slots:
            board.move_slots(self._index(list(slots)), self._index(list(slots.values())))
        for old, new in rows.items():
            self._jobs[new], self._jobs[old] = self._jobs[old], None
            self._checked[new], self._made[new] = self._checked[old], self._made[old]
        board.alive[seating.rows :] = False
        self._seat()

    def _go(self) -> None:
        """Set the device going: as many steps as some row can take."""
        asked, board, size = self._rules.sampling, self._board, self._board.size
        made = self._under_way_made()
        times = min(STRIDE, self._steps_left(made))
        if not times:
            return
        columns = max(1, *made) + times
        rung = Rung(*self._laid, rung_over(columns, size.new, least=_LEAST_COLUMNS))
        key = (rung, asked.temperature, asked.top_k, asked.top_p)
        self._graphs.run(key, lambda: step(board, rung, self._forward, asked), times)

    def _read_seen(self) -> None:
        """Make draws ready as soon as they ended, at a stop string or otherwise: many texts at once."""
        found: list[tuple[_Seen, Draw]] = []
        # Of each row in turn the first place where it may have ended, then the second of those left.
        left = [(seen, places) for seen in self._seen if (places := self._may_end(seen))]
        while left:
            ends = [
                End(seen.job, seen.tokens[:made], ended=seen.tokens[made - 1] in self._ends)
                for seen, (made, *_) in left
            ]
            draws = drawn(ends)
            pairs = list(zip(left, draws, strict=True))
            found += [(seen, draw) for (seen, _), draw in pairs if draw is not None]
            left = [(seen, more) for (seen, (_, *more)), draw in pairs if draw is None and more]
        self.ready.extend(Made(seen.job, draw) for seen, draw in found)
        self._cut_off([seen.job for seen, _ in found if not seen.over])
        self._seen = []

    def _may_end(self, seen: _Seen) -> list[int]:
        """Return how many tokens a row had wherever it may have ended since it was last looked at."""
        made, tokens = len(seen.tokens), seen.tokens
        counts = range(seen.checked + 1, made + 1)
        places = [n for n in counts if tokens[n - 1] in self._stops] if self._stops else []
        return [*places, made] if seen.over and places[-1:] != [made] else places

    def _cut_off(self, jobs: Sequence[Job]) -> None:
        """Free the rows of draws that ended at a stop string, which the device cannot see."""
        if not jobs:
            return
        rows = {id(job): row for row, job in enumerate(self._jobs) if job is not None}
        for job in jobs:
            self._leave(rows[id(job)])
            self._cut.append(rows[id(job)])

    def _under_way_made(self) -> list[int]:
        """Return how many tokens each row has that is under way."""
        return [m for m, job in zip(self._made, self._jobs, strict=True) if job is not None]

    def _steps_left(self, made: Sequence[int]) -> int:
        """Return how many steps some row can take at most, where rows have `made` tokens."""
        # A row that has just begun has one token, wherever the last look saw it.
        return self._rules.sampling.max_tokens - max(1, min(made)) if made else 0

    def _seat(self) -> None:
        """Tell the board who sits where; rows that leave stay in what a step computes until then."""
        seating = self._seating
        members, places = seating.plan()
        self._board.seat(self._index(members), self._index(places))
        self._laid = self._rung(seating.rows, seating.slots)

    def _rung(self, rows: int, slots: int) -> tuple[int, int]:
        """Return the parts that hold them: few different ones, as each has to be recorded."""
        size = self._board.size
        part = rung_over(rows, size.rows, least=_LEAST_ROWS, factor=4)
        few = min(part, size.slots // 2)
        return part, few if slots <= few else size.slots

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return sent(torch.tensor(numbers, dtype=torch.long), self._board.device)
