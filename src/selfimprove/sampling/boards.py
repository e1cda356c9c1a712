"""How large a board is made, and which is kept from one call to the next with its graphs."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple, final

import torch

from selfimprove.sampling.board import Board, Size
from selfimprove.sampling.engine import MAX_ROWS
from selfimprove.sampling.forward import Forward, LlamaForward
from selfimprove.sampling.graphs import Graphs
from selfimprove.sampling.loading import head_size

__all__ = ["Asked", "Boards", "Held", "by_boards", "has_static_pass", "rows_that_fit",
           "tokens_of_a_pass"]  # fmt: skip

_WIDTH: Final = 32
"""Rows that read one slot at most: a prompt with more draws has more slots."""

_UNIT: Final = 32
"""Lengths are multiples of it, so that calls with nearly the same lengths share a board."""

_SHARE: Final = 0.8
"""Of the free memory that a board and the largest step take; of all memory, with a training."""

_SPARED: Final = 0.15
"""Of a GPU's memory: a board that takes no more may be kept while the model is trained."""

_READ_SHARE: Final = 0.01
"""Of a GPU's memory, for the keys and values of a pass over prompts."""

_CHANGING = ("dynamic", "longrope")
"""Rotary frequencies that depend on how long the texts of a pass are."""


def by_boards(model: Any, forward: Forward) -> bool:  # noqa: ANN401
    """Tell whether a model is drawn from by steps over a board: on a CUDA device, by the lean pass.

    On a CPU, where nothing waits to be launched, lanes of the very size of what is under way are
    faster.
    """
    return model.device.type == "cuda" and has_static_pass(model, forward)


def has_static_pass(model: Any, forward: Forward) -> bool:  # noqa: ANN401
    """Tell whether a pass computes alike whatever numbers its buffers hold."""
    if not isinstance(forward, LlamaForward):
        return False
    kind: str = model.model.rotary_emb.rope_type
    return not any(name in kind for name in _CHANGING)


class Asked(NamedTuple):
    """What a call wants room for."""

    rows: int
    """At once; a board may have fewer."""
    draws: int
    """Of each prompt."""
    shared: int
    """Tokens that all prompts begin with."""
    own: int
    """Tokens of the longest prompt behind them."""
    new: int
    """Tokens drawn at most."""

    @property
    def row_tokens(self) -> int:
        """Entries of the cache a row, its share of its prompt included."""
        share = min(1.0, 2 / min(self.draws, _WIDTH))
        return _whole(self.new) + 1 + math.ceil(_whole(self.own) * share)

    def size(self, rows: int) -> Size:
        """Return the size of a board for so many rows."""
        width = min(self.draws, rows, _WIDTH)
        # Prompts whose last rows are under way hold a slot, too.
        slots = rows if width == 1 else min(rows, 2 * math.ceil(rows / width))
        return Size(
            rows, slots, width, _whole(self.shared), _whole(self.own), _whole(self.new)
        )  # fmt: skip


def rows_that_fit(model: Any, tokens: int) -> int:  # noqa: ANN401
    """Return how many rows of `tokens` entries of the cache the model's device has memory for."""
    device = model.device
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    rows = int(free * _SHARE) // (tokens * _entry(model) + _step(model))
    rows = min(rows, MAX_ROWS[device.type])
    return max(1, rows - rows % 64 if rows > 64 else rows)


def tokens_of_a_pass(model: Any, least: int) -> int:  # noqa: ANN401
    """Return how many tokens of prompts are read at once: on a GPU `least`, or more of a small model.

    A pass over few of its tokens takes as long as its kernels are launched, one by one.
    """
    if model.device.type != "cuda":
        return least
    return min(max(least, int(_READ_SHARE * _memory(model) / _entry(model))), 4 * least)


def _entry(model: Any) -> int:  # noqa: ANN401
    """Return the bytes of one token's keys and values."""
    config = model.config
    heads: int = config.num_key_value_heads * head_size(config)
    return int(2 * config.num_hidden_layers * heads * model.dtype.itemsize)


def _step(model: Any) -> int:  # noqa: ANN401
    """Return the bytes that a row of a step takes at most while the step is taken."""
    config, number = model.config, int(model.dtype.itemsize)
    # Logits, their float32 copy, and what is sorted of them; the widest layers of a pass.
    wide: int = config.hidden_size + config.intermediate_size
    return int(config.vocab_size * (2 * number + 16) + 8 * number * wide)


def _memory(model: Any) -> int:  # noqa: ANN401
    """Return the bytes of memory of a model's GPU."""
    return int(torch.cuda.get_device_properties(model.device).total_memory)


def _peak(model: Any) -> int:  # noqa: ANN401
    """Return the most bytes of a model's GPU that this process had in use."""
    return torch.cuda.max_memory_allocated(model.device)


def _whole(length: int) -> int:
    return -(-length // _UNIT) * _UNIT


class Held(NamedTuple):
    """A board with the graphs of the steps over it."""

    board: Board
    graphs: Graphs
    weights: list[int]
    """Addresses: graphs read weights where they lay when they were recorded."""
    full: bool
    """Whether there was no room for more rows."""

    def has_room(self, asked: Asked, budget: int | None) -> bool:
        """Tell whether it can be used for what is asked."""
        size = self.board.size
        rows = min(asked.rows, size.rows) if self.full else asked.rows
        within = budget is None or size.rows * asked.row_tokens <= max(budget, asked.row_tokens)
        return within and size.holds(asked.size(rows))


@final
class Boards:
    """Keeps the last board of a model, since its graphs take longer to record than to replay."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model
        self._kept: Held | None = None

    def rows_for(self, asked: Asked, budget: int | None) -> int:
        """Return how many rows the board has that `take` will give; one without that room is dropped.

        `budget` is how many entries its cache may have at most; None: as many as memory has room for.
        """
        held, tokens = self._kept, asked.row_tokens
        if held is not None:
            if held.weights == _addresses(self._model) and held.has_room(asked, budget):
                return held.board.size.rows
            held = None
            self.drop()
        most = rows_that_fit(self._model, tokens) if budget is None else max(1, budget // tokens)
        return min(asked.rows, most)

    def take(self, asked: Asked, rows: int) -> Held:
        """Return the board that `rows_for` found kept, else a new one; nobody else has it."""
        if self._kept is not None:
            held, self._kept = self._kept, None
            return held
        model = self._model
        with torch.inference_mode():
            board = Board(asked.size(rows), model.config, model.dtype, model.device)
        return Held(board, Graphs(model.device), _addresses(model), rows < asked.rows)

    def give(self, held: Held) -> None:
        """Keep a board for the next call."""
        self._kept = held

    def give_way(self) -> None:
        """Drop the board before a training, unless there is room for both, as far as can be told."""
        if self._kept is None:
            return
        size = self._kept.board.size
        entries = size.rows * (size.new + 1) + size.slots * size.prompt + size.prefix
        taken = entries * _entry(self._model) + size.rows * _step(self._model)
        most = _memory(self._model)
        # The peak is that of the trainings before, too.
        if taken > _SPARED * most or _peak(self._model) + taken > _SHARE * most:
            self.drop()

    def drop(self) -> bool:
        """Give the memory of the board kept back, for others to use; tell whether there was one."""
        if self._kept is None:
            return False
        self._kept = None
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        return True


def _addresses(model: Any) -> list[int]:  # noqa: ANN401
    return [weight.data_ptr() for weight in model.parameters()]
