"""The draw loop: rows join as room appears, step together, and leave as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from selfimprove.errors import EngineError
from selfimprove.reasoning import cut
from selfimprove.sampling.choose import choose
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.lanes import Lanes
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.texts import Texts
from selfimprove.seeds import seed_of
from selfimprove.types import Draw, FinishReason

__all__ = ["Job", "Rows", "Rules", "drawn"]


@dataclass(frozen=True, slots=True)
class Job:
    """One draw to be made."""

    prompt: Encoded
    index: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every row of one call."""

    sampling: SamplingConfig
    seed: int
    ends: Tensor
    """Tokens that end a text."""
    may_stop: Tensor | None
    """Which tokens can end a stop string; None when there are no stop strings."""
    texts: Texts


def drawn(job: Job, new: list[int], rules: Rules, *, ended: bool) -> Draw | None:
    """Return the draw that the tokens `new` are, or None: neither full nor at a stop string.

    `ended` says that the last of them ends a text.
    """
    sampling, texts, read = rules.sampling, rules.texts, job.prompt.ids
    # The token that ends a text is no part of it.
    text = texts.continuation(read, new[:-1] if ended else new)
    thinking = texts.is_thinking(read)
    before = cut(text, sampling.stop, thinking=thinking)
    if not ended and before is None and len(new) < sampling.max_tokens:
        return None
    finish: FinishReason = "stop" if ended or before is not None else "length"
    text = text if before is None else before
    return Draw(
        job.prompt.key, job.index, text, finish, len(read), len(new), tuple(new), thinking=thinking
    )


@final
class Rows:
    """Rows under way; row i is lane i. A row that ends is taken by a waiting draw or the last row."""

    def __init__(self, lanes: Lanes, rules: Rules, room: int, pool: int) -> None:
        self._lanes, self._rules = lanes, rules
        self._room, self._pool_size = room, pool
        self._pool: dict[str, int] = {}
        self._jobs: list[Job | None] = []
        self._ready: deque[Draw] = deque()
        device, most = rules.ends.device, rules.sampling.max_tokens
        self._tokens = torch.zeros(room, most, dtype=torch.long, device=device)
        self._seeds = torch.zeros(room, dtype=torch.long, device=device)
        self._steps = torch.zeros(room, dtype=torch.long, device=device)

    @property
    def under_way(self) -> list[Job]:
        """Draws begun and not finished."""
        return [job for job in self._jobs if job is not None]

    def run(self, queue: deque[Job]) -> Iterator[Draw]:
        """Make every draw of the queue; a job leaves the queue when its row begins.

        When this raises, `under_way` has the draws begun, and `ready` those not yet yielded.
        """
        while queue or self._jobs:
            self._advance(queue)
            yield from self.ready()

    def ready(self) -> Iterator[Draw]:
        """Yield finished draws, each once."""
        while self._ready:
            yield self._ready.popleft()

    @torch.inference_mode()
    def _advance(self, queue: deque[Job]) -> None:
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
        seeds = [seed_of(self._rules.seed, job.prompt.key, job.index) for job in begun]
        where = torch.tensor(rows, device=self._seeds.device)
        self._seeds[where] = torch.tensor(seeds, device=self._seeds.device)
        self._steps[where] = 0
        parents = [self._pool[job.prompt.key] for job in begun]
        if not self._lanes.refills:
            self._pool = {}
        logits = self._lanes.fork(parents, rows)
        if logits.isnan().any():
            raise EngineError(
                f"the model answers prompt {begun[0].prompt.key!r} or one beside it with NaN: "
                "its weights are broken, or its dtype overflows (try dtype=float32)"
            )
        self._choose(logits, rows, where)

    def _fill_pool(self, queue: deque[Job]) -> None:
        """Read the next prompts of the queue."""
        prompts: dict[str, Encoded] = {}
        for job in queue:
            if job.prompt.key not in prompts and len(prompts) == self._pool_size:
                break
            prompts[job.prompt.key] = job.prompt
        self._lanes.prefill(list(prompts.values()))
        self._pool = {key: place for place, key in enumerate(prompts)}

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
        for (place, end, made), ids in zip(state, tokens, strict=True):
            self._finish(rows[place], ids[:made], end)

    def _finish(self, row: int, new: list[int], ended: bool) -> None:
        """Make the row's draw ready, unless no stop string was there after all."""
        job = self._jobs[row]
        draw = None if job is None else drawn(job, new, self._rules, ended=ended)
        if draw is not None:
            self._ready.append(draw)
            self._jobs[row] = None

    def _close_gaps(self) -> None:
        """Move rows from the end into the places of rows that ended."""
        alive = [row for row, job in enumerate(self._jobs) if job is not None]
        count = len(alive)
        if count == len(self._jobs):
            return
        holes = [row for row in range(count) if self._jobs[row] is None]
        sources = alive[count - len(holes) :]
        for hole, source in zip(holes, sources, strict=True):
            self._jobs[hole] = self._jobs[source]
        del self._jobs[count:]
        for state in (self._tokens, self._seeds, self._steps):
            state[holes] = state[sources]
        self._lanes.retire(sources, holes, count)
