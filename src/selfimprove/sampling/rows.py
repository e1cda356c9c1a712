"""Rows in lanes: they join as room appears, step together, and leave as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from selfimprove.sampling.choose import choose
from selfimprove.sampling.jobs import (
    End,
    Job,
    Made,
    Rules,
    drawn,
    next_prompts,
    refuse_nan,
    seeds_of,
)
from selfimprove.sampling.lanes import Lanes, resized
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.seating import to_the_front

__all__ = ["Rows"]


@final
class Rows:
    """Rows under way; row i is lane i. A row that ends is taken by a waiting draw or the last row."""

    def __init__(
        self, lanes: Lanes, device: torch.device, room: int, new: int, pool: int
    ) -> None:  # fmt: skip
        """Begin with no rows.

        Args:
            lanes: where rows live.
            device: of their model.
            room: rows at once.
            new: tokens sampled at most for a row.
            pool: prompts read at once.
        """
        self._lanes, self._room, self._pool_size = lanes, room, pool
        self._pool: dict[int, int] = {}
        self._pool_of: list[Encoded] = []
        self._jobs: list[Job | None] = []
        self.ready: deque[Made] = deque()
        self.news: deque[tuple[Job, int]] = deque()
        """Tokens of draws that are watched and go on, each once."""
        self._tokens = torch.zeros(room, new, dtype=torch.long, device=device)
        # Of each row: its seed, its tokens so far, and how many it may have.
        self._seeds, self._steps, self._most = self._tokens.new_zeros(3, room)

    @property
    def under_way(self) -> list[Job]:
        """Draws begun and not finished."""
        return [job for job in self._jobs if job is not None]

    @torch.inference_mode()
    def resize(self, room: int, longest: int, new: int, pool: int) -> None:
        """Make place for other sizes, in which all that is under way fits.

        Args:
            room: rows at once.
            longest: tokens of the longest prompt behind what all share.
            new: tokens sampled at most for a row.
            pool: prompts read at once.
        """
        self._close_gaps()
        self._room, self._pool_size = room, pool
        self._lanes.resize(room, longest, new)
        self._tokens = resized(self._tokens, room, new)
        self._seeds, self._steps, self._most = (
            resized(t, room) for t in (self._seeds, self._steps, self._most)
        )

    def drop(self, jobs: Collection[Job]) -> None:
        """Give up draws under way; their rows are free for others."""
        self._jobs = [None if job in jobs else job for job in self._jobs]

    @torch.inference_mode()
    def advance(self, queue: deque[Job]) -> None:
        """Let waiting draws join, then give every row its next token."""
        while queue and (free := self._free_rows()):
            self._join(queue, free)
        self._close_gaps()
        count = len(self._jobs)
        if count:
            last = self._tokens[:count].gather(1, self._steps[:count, None] - 1).squeeze(1)
            self._choose(self._lanes.step(last), list(range(count)), slice(count))

    def _free_rows(self) -> list[int]:
        """Return the rows that waiting draws may take now."""
        if self._jobs and not self._lanes.refills:
            return []
        ended = [row for row, job in enumerate(self._jobs) if job is None]
        return ended + list(range(len(self._jobs), self._room))

    def _join(self, queue: deque[Job], free: list[int]) -> None:
        """Begin waiting draws in free rows, as far as their prompts are in the pool."""
        if id(queue[0].prompt) not in self._pool:
            self._fill_pool(queue)
        begun: list[Job] = []
        while queue and len(begun) < len(free) and id(queue[0].prompt) in self._pool:
            begun.append(queue.popleft())
        rows = free[: len(begun)]
        self._jobs += [None] * (rows[-1] + 1 - len(self._jobs))
        for row, job in zip(rows, begun, strict=True):
            self._jobs[row] = job
        where = torch.tensor(rows, device=self._seeds.device)
        self._seeds[where] = seeds_of(begun, self._seeds.device)
        self._most[where] = self._index([job.rules.sampling.max_tokens for job in begun])
        self._steps[where] = 0
        parents = [self._pool[id(job.prompt)] for job in begun]
        if not self._lanes.refills:
            self._pool = {}
        logits = self._lanes.fork(parents, rows)
        refuse_nan(logits, begun[0])
        self._choose(logits, rows, where)

    def _fill_pool(self, queue: deque[Job]) -> None:
        """Read the next prompts of the queue."""
        self._pool_of = next_prompts(queue, self._pool_size)  # kept, so that their ids stay theirs
        self._lanes.prefill(self._pool_of)
        self._pool = {id(prompt): place for place, prompt in enumerate(self._pool_of)}

    def _choose(self, logits: Tensor, rows: Sequence[int], where: Tensor | slice) -> None:
        """Append a token to rows; `where` indexes the same rows on the device."""
        for rules, places in self._alike(rows):
            if len(places) == len(rows):
                self._choose_alike(rules, logits, rows, where)
            else:
                some = [rows[place] for place in places]
                self._choose_alike(rules, logits[self._index(places)], some, self._index(some))

    def _alike(self, rows: Sequence[int]) -> Iterator[tuple[Rules, list[int]]]:
        """Yield the places in `rows` of those whose tokens are chosen together."""
        found: dict[object, tuple[Rules, list[int]]] = {}
        known: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            job = self._jobs[row]
            assert job is not None
            if id(job.rules) not in known:
                known[id(job.rules)] = found.setdefault(job.rules.manner, (job.rules, []))[1]
            known[id(job.rules)].append(place)
        yield from found.values()

    def _choose_alike(
        self, rules: Rules, logits: Tensor, rows: Sequence[int], where: Tensor | slice
    ) -> None:
        steps = self._steps[where]
        new = choose(logits, self._seeds[where], steps, rules.sampling)
        places = torch.arange(self._room, device=new.device)[where]
        self._tokens[places, steps] = new
        self._steps[where] = steps = steps + 1
        ended = torch.isin(new, rules.ends)
        look = ended | (steps == self._most[where])
        if rules.may_stop is not None:
            look |= rules.may_stop[new]
        # The one place where the host waits for the device.
        found = look.nonzero().squeeze(1)
        tokens = self._tokens[places[found]].tolist()
        state = zip(found.tolist(), ended[found].tolist(), steps[found].tolist(), strict=True)
        seen = [
            (rows[place], end, ids[:made])
            for (place, end, made), ids in zip(state, tokens, strict=True)
        ]
        self._finish(seen)
        self._tell(new, rows)

    def _finish(self, seen: Sequence[tuple[int, bool, list[int]]]) -> None:
        """Make rows' draws ready, unless no stop string was there after all.

        Of each row: whether its last token ends a text, and its tokens.
        """
        ends = [
            (row, End(job, new, ended))
            for row, ended, new in seen
            if (job := self._jobs[row]) is not None
        ]
        draws = drawn([end for _, end in ends])
        for (row, end), draw in zip(ends, draws, strict=True):
            if draw is not None:
                self.ready.append(Made(end.job, draw))
                self._jobs[row] = None

    def _tell(self, new: Tensor, rows: Sequence[int]) -> None:
        """Note the newest tokens of draws that are watched."""
        watched = [
            (place, job)
            for place, row in enumerate(rows)
            if (job := self._jobs[row]) is not None and job.watched
        ]
        if watched:
            tokens = new[self._index([place for place, _ in watched])].tolist()
            self.news.extend((job, token) for (_, job), token in zip(watched, tokens, strict=True))

    def _close_gaps(self) -> None:
        """Move rows from the end into the places of rows that ended."""
        alive = [row for row, job in enumerate(self._jobs) if job is not None]
        count = len(alive)
        if count == len(self._jobs):
            return
        moves = to_the_front(alive)
        sources, holes = list(moves), list(moves.values())
        for hole, source in zip(holes, sources, strict=True):
            self._jobs[hole] = self._jobs[source]
        del self._jobs[count:]
        for state in (self._tokens, self._seeds, self._steps, self._most):
            state[holes] = state[sources]
        self._lanes.retire(sources, holes, count)

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._seeds.device)
