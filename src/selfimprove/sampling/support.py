"""Tells which models the fast lanes and boards are exact for, and what runs them: by config, then by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from selfimprove.sampling.attention import KeptKeys
from selfimprove.sampling.board import Board, Rung, Size
from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.forward import Forward, TransformersForward, lean_forward
from selfimprove.sampling.graphs import Graphs
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.reading import Reader
from selfimprove.sampling.static_step import settle, step
from selfimprove.sampling.trial import UNABLE, are_near

__all__ = ["FastLanes", "exact_on_a_board", "fast_lanes"]

_log = logging.getLogger(__name__)

_PREFIX, _SHORT, _LONG, _STEPS = 20, 5, 9, 2


class FastLanes(NamedTuple):
    """How a model runs in the fast lanes."""

    forward: Forward
    reach: int
    """Up to how many tokens a row may have there: 0 is never."""


def fast_lanes(model: Any, limit: int | None, *, frozen: bool) -> FastLanes:  # noqa: ANN401
    """Return what runs a model in the fast lanes, and up to how many tokens.

    Within its window, sliding attention is full attention; other kinds of layers, and models
    whose logits come out different, are left to transformers' own cache.

    Args:
        model: whose weights are plain ones.
        limit: tokens of its context; None: not known.
        frozen: whether it is trained no more, so that the lean pass may rearrange its weights.
    """
    none = FastLanes(TransformersForward(model), 0)
    reach = _reach(model.config.get_text_config(), limit)
    if reach < _PREFIX + _LONG + _STEPS or not model._supports_attention_backend:
        return none
    rows = _rows(model.config.get_text_config().vocab_size)
    try:
        wanted = _plain(model, rows)  # before weights are rearranged
    except UNABLE as problem:
        _log.info("%s: no plain pass: %s", type(model).__name__, problem)
        return none
    ways: list[Callable[[Any], Forward | None]] = [TransformersForward]
    if frozen:
        ways.insert(0, lean_forward)
    elif model.device.type == "cuda":
        # Where steps are graphs, a model in training gains by the lean pass, too.
        ways.insert(0, partial(lean_forward, frozen=False))
    for way in ways:
        forward = way(model)
        if forward is not None and _exact(model, forward, rows, wanted):
            return FastLanes(forward, reach)
    return none


def _reach(config: Any, limit: int | None) -> int:  # noqa: ANN401
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "attention_chunk_size", None) or not kinds <= {
        "full_attention",
        "sliding_attention",
    }:
        return 0
    bounds = [limit, getattr(config, "sliding_window", None)]
    return min([bound for bound in bounds if bound] or [1 << 30])


class _Rows(NamedTuple):
    """Two rows with a common beginning, as they are sampled: the same tokens follow both prompts."""

    prefix: list[int]
    tails: tuple[list[int], list[int]]
    following: list[int]


def _rows(words: int) -> _Rows:
    numbers = torch.Generator().manual_seed(0)
    sizes = [_PREFIX, _SHORT, _LONG, _STEPS]
    tokens = torch.randint(words, (sum(sizes),), generator=numbers).split(sizes)
    prefix, short, long, following = (part.tolist() for part in tokens)
    return _Rows(prefix, (short, long), following)


@torch.inference_mode()
def _plain(model: Any, rows: _Rows) -> Tensor:  # noqa: ANN401
    """Return the logits behind prompts and what follows, [rows, steps + 1, vocabulary]."""
    found = []
    for tail in rows.tails:
        ids = torch.tensor([rows.prefix + tail + rows.following], device=model.device)
        found.append(model(input_ids=ids, use_cache=False).logits[0, -_STEPS - 1 :])
    return torch.stack(found)


@torch.inference_mode()
def _in_lanes(model: Any, forward: Forward, rows: _Rows) -> Tensor:  # noqa: ANN401
    """Return the same from the fast lanes."""
    lanes = CascadeLanes(model, forward, rows.prefix, room=2, longest=_LONG, new=_STEPS)
    lanes.prefill([Encoded(str(i), (*rows.prefix, *tail)) for i, tail in enumerate(rows.tails)])
    found = [lanes.fork([0, 1], [0, 1])]
    found += [lanes.step(torch.tensor([t, t], device=model.device)) for t in rows.following]
    return torch.stack(found, 1)


def _exact(model: Any, forward: Forward, rows: _Rows, wanted: Tensor) -> bool:  # noqa: ANN401
    """Whether the fast lanes give the wanted logits, up to rounding."""
    name = f"{type(model).__name__} by {type(forward).__name__}"
    try:
        found = _in_lanes(model, forward, rows)
    except UNABLE as problem:
        _log.info("%s: no shared-prefix attention: %s", name, problem)
        return False
    return are_near(f"{name}: shared-prefix attention", found, wanted)


def exact_on_a_board(model: Any, forward: Forward) -> bool:  # noqa: ANN401
    """Tell whether steps over a board, as graphs on a CUDA device, give the logits of a plain pass."""
    name = f"{type(model).__name__}: steps over a board"
    try:
        found, wanted = _on_a_board(model, forward, _rows(model.config.vocab_size))
    except UNABLE as problem:
        _log.warning("%s are not possible: %s", name, problem)
        return False
    return are_near(name, found, wanted)


@torch.inference_mode()
def _on_a_board(model: Any, forward: Forward, rows: _Rows) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return logits of three greedy steps of two rows, and those of a plain pass."""
    device = model.device
    board = Board(Size(2, 2, 1, 32, 32, 32), model.config, model.dtype, device)
    reader = Reader(model, forward, rows.prefix)
    read = reader.read([Encoded(str(i), (*rows.prefix, *t)) for i, t in enumerate(rows.tails)])
    both, lengths = torch.arange(2, device=device), torch.tensor(read.lengths, device=device)
    board.begin(both[:0], None, board.size.new)
    board.put_prefix(reader.layers, _PREFIX)
    board.put_prompts(both, read.layers, both, lengths)
    board.before.copy_(lengths + _PREFIX)
    board.alive.fill_(True)
    board.seat(both, both)
    settle(board, both, read.logits.argmax(-1), board.alive)
    seen = torch.zeros_like(read.logits)

    def watched(ids: Tensor, positions: Tensor, lanes: KeptKeys) -> Tensor:
        logits = forward(ids, positions, lanes)
        seen.copy_(logits)
        return logits

    graphs, greedy, found = Graphs(device), SamplingConfig(temperature=0), []
    for _ in range(3):
        graphs.run("trial", lambda: step(board, Rung(2, 2, 32), watched, greedy), 1)
        found.append(seen.clone())
    drawn = board.tokens[:, :3].tolist()
    plain = [
        model(input_ids=torch.tensor([[*rows.prefix, *tail, *new]], device=device), use_cache=False)
        for tail, new in zip(rows.tails, drawn, strict=True)
    ]
    return torch.stack(found, 1), torch.stack([out.logits[0, -3:] for out in plain])
