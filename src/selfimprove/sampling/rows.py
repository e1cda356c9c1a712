"""Rows in lanes: they join as room appears, step together, and leave as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from selfimprove.sampling.choose import choose
from selfimprove.sampling.jobs import End, Job, Rules, drawn, next_prompts, refuse_nan
from selfimprove.sampling.lanes import Lanes
from selfimprove.sampling.seating import to_the_front
from selfimprove.types import Draw

__all__ = ["Rows"]


@final
class Rows:
    """Rows under way; row i is lane i. A row that ends is taken by a waiting draw or the last row."""

    def __init__(self, lanes: Lanes, rules: Rules, room: int, pool: int) -> None:
        self._lanes, self._rules = lanes, rules
        self._room, self._pool_size = room, pool
        self._pool: dict[str, int] = {}
        self._jobs: list[Job | None] = []
        self.ready: deque[Draw] = deque()
        device, most = rules.ends.device, rules.sampling.max_tokens
        self._tokens = torch.zeros(room, most, dtype=torch.long, device=device)
        self._seeds = torch.zeros(room, dtype=torch.long, device=device)
        self._steps = torch.zeros(room, dtype=torch.long, device=device)

    @property
    def under_way(self) -> list[Job]:
        """Draws begun and not finished."""
        return [job for job in self._jobs if job is not None]

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
        if queue[0].prompt.key not in self._pool:
            self._fill_pool(queue)
        begun: list[Job] = []
        while queue and len(begun) < len(free) and queue[0].prompt.key in self._pool:
            begun.append(queue.popleft())
        rows = free[: len(begun)]
        self._jobs += [None] * (rows[-1] + 1 - len(self._jobs))
        for row, job in zip(rows, begun, strict=True):
            self._jobs[row] = job
        where = torch.tensor(rows, device=self._seeds.device)
        self._seeds[where] = self._rules.seeds(begun)
        self._steps[where] = 0
        parents = [self._pool[job.prompt.key] for job in begun]
        if not self._lanes.refills:
            self._pool = {}
        logits = self._lanes.fork(parents, rows)
        refuse_nan(logits, begun[0])
        self._choose(logits, rows, where)

    def _fill_pool(self, queue: deque[Job]) -> None:
        """Read the next prompts of the queue."""
        prompts = next_prompts(queue, self._pool_size)
        self._lanes.prefill(prompts)
        self._pool = {prompt.key: place for place, prompt in enumerate(prompts)}

    def _choose(self, logits: Tensor, rows: Sequence[int], where: Tensor | slice) -> None:
        """Append a token to rows; `where` indexes the same rows on the device."""
        rules, steps = self._rules, self._steps[where]
        new = choose(logits, self._seeds[where], steps, rules.sampling)
        places = torch.arange(self._room, device=new.device)[where]
        self._tokens[places, steps] = new
        self._steps[where] = steps = steps + 1
        ended = torch.isin(new, rules.ends)
        look = ended | (steps == rules.sampling.max_tokens)
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

    def _finish(self, seen: Sequence[tuple[int, bool, list[int]]]) -> None:
        """Make rows' draws ready, unless no stop string was there after all.

        Of each row: whether its last token ends a text, and its tokens.
        """
        ends = [
            (row, End(job, new, ended))
            for row, ended, new in seen
            if (job := self._jobs[row]) is not None
        ]
        draws = drawn([end for _, end in ends], self._rules)
        for (row, _), draw in zip(ends, draws, strict=True):
            if draw is not None:
                self.ready.append(draw)
                self._jobs[row] = None

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
        for state in (self._tokens, self._seeds, self._steps):
            state[holes] = state[sources]
        self._lanes.retire(sources, holes, count)
