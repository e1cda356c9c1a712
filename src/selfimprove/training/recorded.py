"""Passes of a model in training as CUDA graphs: recorded once for a size, launched by one call each.

A pass over a small model is thousands of kernels of microseconds, which Python launches several times
slower than a GPU finishes them. Rows end to end come in any number of tokens: a pass that is recorded has
the next size of a ladder, and rows of padding behind those of the piece fill it up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor

from selfimprove.sampling.graphs import Recorder, cause_of
from selfimprove.training import flash_rows
from selfimprove.training.packed_rows import Row, table_of
from selfimprove.training.pass_sizes import Size

__all__ = ["Passes", "Read"]

_log = logging.getLogger(__name__)

_NONE: Final = (0, 0)

_RECORDED_FROM: Final = 2
"""Times that a size must come up: recording takes as long as a few passes, and some sizes never come again."""


class Read(NamedTuple):
    """What a pass reads."""

    ids: Tensor
    """(1, tokens)."""
    positions: Tensor
    """(1, tokens)."""
    table: Tensor
    """Of the rows: see `packed_rows`."""
    scored: Tensor
    """Places of which something is told, (scored,)."""
    targets: Tensor
    """The token that follows each in a language model, (scored,)."""

    @classmethod
    def of(cls, piece: dict[str, Any]) -> Read:
        """Return what a pass reads of a piece as it lies."""
        table = table_of(piece["spans"])
        return cls(
            piece["input_ids"], piece["position_ids"], table, piece["scored"], piece["targets"]
        )


@final
class _Buffers:
    """What passes of one size read, where it stays."""

    def __init__(self, size: Size, device: torch.device) -> None:
        def numbers(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._size = size
        self.uses = 0
        with torch.inference_mode(mode=False):  # passes that learn, and others, may share a size
            self._ids, self._positions = numbers(1, size.tokens), numbers(1, size.tokens)
            self._scored, self._targets = numbers(size.scored), numbers(size.scored)
            self._queries = numbers(size.rows + 1, dtype=torch.int32)
            self._keys = torch.zeros_like(self._queries) if size.keys else self._queries
            self._seen = numbers(size.keys) if size.keys else None

    def fill(self, piece: dict[str, Any]) -> Read:
        """Lay a piece out, padding behind it, and return what is read."""
        size, spans = self._size, piece["spans"]
        self.uses += 1
        self._put(self._ids[0], piece["input_ids"][0], 0)
        self._put(self._positions[0], piece["position_ids"][0], 0)
        self._put(self._scored, piece["scored"], size.tokens - 1)
        self._put(self._targets, piece["targets"], 0)
        own, seen = flash_rows.counts_of(spans)
        padding = size.padding(sum(own), sum(seen))
        own += [queries for queries, _ in padding]
        ends = list(accumulate(own))
        behind = [((end - n, end), _NONE) for n, end in zip(own, ends, strict=True)][len(spans) :]
        table = table_of([*spans, *behind])
        if self._ids.device.type != "cpu":
            self._lay_out(spans, ends, [*seen, *(keys for _, keys in padding)], table)
        return Read(self._ids, self._positions, table, self._scored, self._targets)

    def _lay_out(
        self, spans: Sequence[Row], ends: Sequence[int], seen: Sequence[int], table: Tensor
    ) -> None:
        """Tell the kernel where rows end among the queries, and how many keys each sees."""
        self._put(self._queries, _on_host([0, *ends], torch.int32), ends[-1])
        if self._seen is not None:
            # What rows of padding read is of no matter.
            self._put(self._seen, _on_host(flash_rows.keys_of(spans), torch.int64), ends[-1] - 1)
            self._put(self._keys, _on_host([0, *accumulate(seen)], torch.int32), self._size.keys)
        layout = flash_rows.Layout(self._queries, self._keys, self._size.longest, self._seen)
        flash_rows.lay_out(table, layout)

    @staticmethod
    def _put(there: Tensor, numbers: Tensor, rest: int) -> None:
        there[: len(numbers)].copy_(numbers, non_blocking=True)
        there[len(numbers) :].fill_(rest)


def _on_host(numbers: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=dtype).pin_memory()


@final
class Passes:
    """The passes of one model, those of a size recorded once it has come up often enough.

    What a pass gives depends on its piece and its size, not on whether it is recorded: places that are
    not scored are scored all the same, at the last token of the padding, and get no gradient.
    """

    def __init__(
        self,
        read: Callable[[Read], Tensor],
        device: torch.device,
        learning: Sequence[tuple[torch.nn.Parameter, torch.nn.Parameter]] = (),
    ) -> None:
        """Record nothing yet.

        Args:
            read: returns a number for each scored place, (scored,): the log-probability of what
                follows, or a score.
            device: of the model.
            learning: weights that learn, each with that of the model which computes for it.
        """
        self._read, self._device, self._learning = read, device, learning
        self._recorder = Recorder(device)
        self._sums = _Sums([own for own, _ in learning])
        self._seen: dict[tuple[Size, bool], _Buffers] = {}
        self._recorded: dict[tuple[Size, bool], _Recorded] = {}

    def told(self, piece: dict[str, Any]) -> Tensor:
        """Return the number of every scored place of packed rows, (scored,)."""
        count = len(piece["targets"])
        key = Size.of(piece["spans"], count), torch.is_grad_enabled()
        if key not in self._seen:
            self._seen[key] = _Buffers(key[0], self._device)
        buffers = self._seen[key]
        filled = buffers.fill(piece)
        often = buffers.uses >= _RECORDED_FROM
        if often and key not in self._recorded and self._recorder.records:
            self._record(key, filled)
        if key in self._recorded:
            return self._recorded[key].told()[:count]
        return self._read(filled)[:count]

    def _record(self, key: tuple[Size, bool], filled: Read) -> None:
        try:
            learning = self._learning if key[1] else ()
            recorded = _Recorded(self._recorder, lambda: self._read(filled), learning, self._sums)
        # Out of memory, too: what is recorded keeps its activations to itself.
        except RuntimeError as problem:
            _log.warning("passes are not recorded as CUDA graphs: %s", cause_of(problem))
            self._recorder.records = False
            self._recorded.clear()
            return
        self._recorded[key] = recorded


@final
class _Sums:
    """Gradients of weights, added up where they stay."""

    def __init__(self, weights: Sequence[torch.nn.Parameter]) -> None:
        self._weights = weights
        self.kept: list[Tensor] = []

    def take_over(self) -> None:
        """Let the gradients of the weights be these, with what they are by now."""
        if not self.kept:
            self.kept = [torch.zeros_like(w, dtype=torch.float32) for w in self._weights]
        fresh = []
        for weights, kept in zip(self._weights, self.kept, strict=True):
            if weights.grad is None:
                fresh.append(kept)
            elif weights.grad is not kept:
                kept.copy_(weights.grad)
            weights.grad = kept
        if fresh:
            torch._foreach_zero_(fresh)


@final
class _Recorded:
    """A pass of one size, and what it teaches."""

    def __init__(
        self,
        recorder: Recorder,
        read: Callable[[], Tensor],
        learning: Sequence[tuple[torch.nn.Parameter, torch.nn.Parameter]],
        sums: _Sums,
    ) -> None:
        """Record it; what is learned is added to the sums, which are there by then."""
        self._sums = sums
        self._teaches = bool(learning)
        weights = [there for _, there in learning]
        if learning:
            sums.take_over()
        told: list[Tensor] = []

        def forward() -> None:
            told[:] = [read()]

        def backward() -> None:
            grads = torch.autograd.grad(told[0], weights, self._given, allow_unused=True)
            for kept, grad in zip(sums.kept, grads, strict=True):
                if grad is not None:
                    kept.add_(grad)

        # What a first run loads and allocates on a stream cannot be recorded.
        recorder.run_aside(forward)
        self._given = torch.zeros_like(told[0])
        if learning:
            recorder.run_aside(backward)  # of zeros
        self._forward = recorder.record(forward)
        self._backward = recorder.record(backward) if learning else None
        self._told = told[0].detach()
        self.replays = 0
        """How often it was launched: what it keeps for its gradient is of the last time."""
        self._anchor = torch.zeros((), device=self._told.device, requires_grad=True)

    def told(self) -> Tensor:
        """Return what the pass gives for what lies in its buffers."""
        if not self._teaches:
            return self.replay()
        out: Tensor = _Replayed.apply(self._anchor, self)  # type: ignore[no-untyped-call]
        return out

    def replay(self) -> Tensor:
        """Launch the pass; return what it gives, (scored,)."""
        self.replays += 1
        self._forward.replay()
        return self._told.clone()

    def learn(self, given: Tensor) -> None:
        """Add up what it teaches, by the gradient of what it gave, (scored,)."""
        assert self._backward is not None
        self._sums.take_over()
        self._given.copy_(given)
        self._backward.replay()


class _Replayed(torch.autograd.Function):
    """A recorded pass as a function: its gradient goes to the weights at once."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, recorded: _Recorded) -> Tensor:  # noqa: ANN401
        told = recorded.replay()
        ctx.recorded, ctx.replays = recorded, recorded.replays
        return told

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if ctx.replays != ctx.recorded.replays:
            raise RuntimeError("a recorded pass was launched again before its gradient was taken")
        ctx.recorded.learn(grads[0])
        return None, None
