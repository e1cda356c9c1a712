"""The draw loop: rows join as room appears, step together, and leave as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from selfimprove.sampling.choose import choose
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.lanes import Lanes
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.texts import Texts, cut
from selfimprove.seeds import seed_of
from selfimprove.types import Draw, FinishReason

__all__ = ["Job", "Rows", "Rules"]

# Rows join only when this share of the batch is free: joining costs a pass over the prompts.
_REFILL_SHARE = 8


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


@final
class Rows:
    """Rows under way, packed: row i is lane i, and a row that leaves is replaced by the last."""

    def __init__(self, lanes: Lanes, rules: Rules, room: int, pool: int) -> None:
        device = rules.ends.device
        self._lanes, self._rules = lanes, rules
        self._room, self._pool_size = room, pool
        self._pool: dict[str, int] = {}
        self.jobs: list[Job] = []
        self._made: list[int] = []
        self._tokens = torch.zeros(room, rules.sampling.max_tokens, dtype=torch.long, device=device)
        self._seeds = torch.zeros(room, dtype=torch.long, device=device)
        self._steps = torch.zeros(room, dtype=torch.long, device=device)

    def run(self, queue: deque[Job]) -> Iterator[Draw]:
        """Make every draw of the queue; a job leaves the queue when its row begins.

        When this raises, `jobs` are the draws begun and not yet yielded.
        """
        while queue or self.jobs:
            done = self._advance(queue)
            for row in done:
                yield done[row]
            if done:
                self._retire(sorted(done))

    @torch.inference_mode()
    def _advance(self, queue: deque[Job]) -> dict[int, Draw]:
        """Give every row its next token, new rows included; return the draws this finishes."""
        logits = [self._step()] if self.jobs else []
        while self._may_join(queue):
            logits.append(self._join(queue))
        return self._choose(logits[0] if len(logits) == 1 else torch.cat(logits))

    def _may_join(self, queue: deque[Job]) -> bool:
        free = self._room - len(self.jobs)
        if not queue or not free:
            return False
        if not self.jobs:
            return True
        return self._lanes.refills and free * _REFILL_SHARE >= self._room

    def _join(self, queue: deque[Job]) -> Tensor:
        """Begin as many waiting draws as there is room for, of prompts in one pool."""
        if queue[0].prompt.key not in self._pool:
            self._fill_pool(queue)
        begun: list[Job] = []
        while queue and len(self.jobs) + len(begun) < self._room:
            if queue[0].prompt.key not in self._pool:
                break
            begun.append(queue.popleft())
        self.jobs += begun
        self._made += [0] * len(begun)
        rows = slice(len(self.jobs) - len(begun), len(self.jobs))
        seeds = [seed_of(self._rules.seed, job.prompt.key, job.index) for job in begun]
        self._seeds[rows] = torch.tensor(seeds, device=self._seeds.device)
        self._steps[rows] = 0
        logits = self._lanes.fork([self._pool[job.prompt.key] for job in begun])
        if not self._lanes.refills:
            self._pool = {}
        return logits

    def _fill_pool(self, queue: deque[Job]) -> None:
        """Read the next prompts of the queue."""
        prompts: dict[str, Encoded] = {}
        for job in queue:
            if job.prompt.key not in prompts and len(prompts) == self._pool_size:
                break
            prompts[job.prompt.key] = job.prompt
        self._lanes.prefill(list(prompts.values()))
        self._pool = {key: place for place, key in enumerate(prompts)}

    def _step(self) -> Tensor:
        count = len(self.jobs)
        last = self._tokens[:count].gather(1, self._steps[:count, None] - 1).squeeze(1)
        return self._lanes.step(last)

    def _choose(self, logits: Tensor) -> dict[int, Draw]:
        """Append a token to every row; return the draws that this finishes, by row."""
        count, rules = len(self.jobs), self._rules
        steps = self._steps[:count]
        new = choose(logits, self._seeds[:count], steps, rules.sampling)
        self._tokens[:count].scatter_(1, steps[:, None], new[:, None])
        steps += 1
        self._made = [made + 1 for made in self._made]
        ended = torch.isin(new, rules.ends)
        look = ended | (steps == rules.sampling.max_tokens)
        if rules.may_stop is not None:
            look |= rules.may_stop[new]
        # The one place where the host waits for the device.
        rows = look.nonzero().squeeze(1)
        return self._finished(rows.tolist(), ended[rows].tolist(), self._tokens[rows].tolist())

    def _finished(
        self, rows: Sequence[int], ended: Sequence[bool], tokens: Sequence[list[int]]
    ) -> dict[int, Draw]:
        done = {}
        for row, end, ids in zip(rows, ended, tokens, strict=True):
            draw = self._draw(self.jobs[row], ids[: self._made[row]], end)
            if draw is not None:
                done[row] = draw
        return done

    def _draw(self, job: Job, new: list[int], ended: bool) -> Draw | None:
        """Return the finished draw, or None when no stop string was there after all."""
        text = self._rules.texts.continuation(job.prompt.ids, new)
        before = cut(text, self._rules.sampling.stop)
        if not ended and before is None and len(new) < self._rules.sampling.max_tokens:
            return None
        finish: FinishReason = "stop" if ended or before is not None else "length"
        text = text if before is None else before
        return Draw(job.prompt.key, job.index, text, finish, len(job.prompt.ids), len(new))

    @torch.inference_mode()
    def _retire(self, done: Sequence[int]) -> None:
        """Drop finished rows: rows from the end move into their places."""
        count = len(self.jobs) - len(done)
        gone = set(done)
        holes = [row for row in done if row < count]
        sources = [row for row in range(count, len(self.jobs)) if row not in gone]
        for hole, source in zip(holes, sources, strict=True):
            self.jobs[hole], self._made[hole] = self.jobs[source], self._made[source]
        del self.jobs[count:], self._made[count:]
        for state in (self._tokens, self._seeds, self._steps):
            state[holes] = state[sources]
        self._lanes.retire(sources, holes, count)
