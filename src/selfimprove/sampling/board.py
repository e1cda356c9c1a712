"""All that decoding steps read and write: buffers that stay where they are while rows come and go.

A step that is recorded once and replayed reads the same memory each time. So everything that changes
from step to step is a number in one of these buffers, and rows are told apart by masks, not by sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from selfimprove.sampling import fused
from selfimprove.sampling.attention import KeysValues, Partial, attend_together, hiding
from selfimprove.sampling.fused_trials import (
    can_attend,
    can_attend_by_slot,
    can_attend_to_prefix,
    can_turn,
)
from selfimprove.sampling.loading import head_size
from selfimprove.sampling.own_keys import own_part
from selfimprove.sampling.prompt_cache import Seats, attend_by_slot

__all__ = ["Board", "Keys", "Rung", "Size"]


class Size(NamedTuple):
    """How much a board holds."""

    rows: int
    slots: int
    """Prompts at once."""
    width: int
    """Rows that read one slot at most."""
    prefix: int
    """Tokens that all prompts begin with; 0: none."""
    prompt: int
    """Tokens of a prompt behind them."""
    new: int
    """Tokens drawn for a row."""

    def holds(self, other: Size) -> bool:
        """Tell whether what needs `other` has room here, without much of it left empty."""
        if self.width != other.width or bool(self.prefix) != bool(other.prefix):
            return False
        pairs = list(zip(self, other, strict=True))
        return all(mine >= its for mine, its in pairs) and all(
            mine <= 2 * its for mine, its in pairs[3:]
        )


class Rung(NamedTuple):
    """The part of a board that a step computes: its first rows, slots, and columns of own keys."""

    rows: int
    slots: int
    columns: int


@final
class Board:
    """Keys and values, and what is known of every row, for a model with `config`.

    The last column of tokens and of own keys is read by nobody: rows that ended write there, or where
    a kernel keeps keys, over their own last ones.
    """

    def __init__(self, size: Size, config: Any, dtype: torch.dtype, device: torch.device) -> None:  # noqa: ANN401
        self.size, self.device = size, device
        heads, head = config.num_key_value_heads, head_size(config)
        self.queries = config.num_attention_heads // heads  # of a key head

        def kept(rows: int, length: int) -> list[KeysValues]:
            shape = (rows, heads, length, head)
            # Zeros, since what is hidden must still be a number.
            return [
                KeysValues(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))
                for _ in range(config.num_hidden_layers)
            ]

        def numbers(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        self.own = kept(size.rows, size.new + 1)
        self.prompts = kept(size.slots, size.prompt)
        self.prefix = kept(1, size.prefix) if size.prefix else []
        self.tokens = numbers(size.rows, size.new + 1)
        self.seeds, self.made, self.before = (numbers(size.rows) for _ in range(3))
        self.alive, self.asks, self.unsure, self.broken = (
            torch.zeros(size.rows, dtype=torch.bool, device=device) for _ in range(4)
        )
        self.ends, self.may_stop = (
            torch.zeros(config.vocab_size, dtype=torch.bool, device=device) for _ in range(2)
        )
        self.most = numbers(1)
        self.seats = Seats(numbers(size.slots * size.width), numbers(size.rows))
        self.prompt_lengths = torch.ones(size.slots, dtype=torch.long, device=device)
        self.prefix_length = numbers(1)
        self.logits = torch.empty(0)

    def begin(self, ends: Tensor, may_stop: Tensor | None, most: int) -> None:
        """Let no row be alive, and say what will end rows.

        Args:
            ends: tokens that end a text; a model can draw no others than those of its vocabulary.
            may_stop: which tokens make a row ask to be looked at, [vocabulary]; None: none.
            most: tokens of a row.
        """
        rows = (self.alive, self.asks, self.unsure, self.broken)
        for marks in (*rows, self.ends, self.may_stop):
            marks.zero_()
        self.ends[ends[ends < len(self.ends)]] = True
        if may_stop is not None:
            self.may_stop.copy_(may_stop)
        self.most.fill_(most)

    def keep_logits(self) -> None:
        """Make the buffer in which a step leaves logits that it could not choose from."""
        if not len(self.logits):
            shape = (self.size.rows, len(self.ends))
            self.logits = torch.zeros(shape, dtype=self.own[0].keys.dtype, device=self.device)

    def put_prefix(self, layers: Sequence[KeysValues], length: int) -> None:
        """Copy in what all prompts begin with: `length` tokens of each layer."""
        for kept, read in zip(self.prefix, layers, strict=True):
            for there, entries in zip(kept, read, strict=True):
                there[:, :, :length] = entries[:, :, :length]
        self.prefix_length.fill_(length)

    def put_prompts(
        self, slots: Tensor, layers: Sequence[KeysValues], places: Tensor, lengths: Tensor
    ) -> None:
        """Copy into slots the prompts at `places` of what was read."""
        longest = layers[0].keys.shape[2]
        for kept, read in zip(self.prompts, layers, strict=True):
            for there, entries in zip(kept, read, strict=True):
                there[slots, :, :longest] = entries[places]
        self.prompt_lengths[slots] = lengths

    def move_rows(self, sources: Tensor, targets: Tensor) -> None:
        """Copy rows over others; who sits where is told by `seat`."""
        for state in (self.tokens, self.seeds, self.made, self.before, self.alive, self.asks):
            state[targets] = state[sources]
        self._move(self.own, sources, targets)

    def move_slots(self, sources: Tensor, targets: Tensor) -> None:
        """Copy slots over others."""
        self.prompt_lengths[targets] = self.prompt_lengths[sources]
        self._move(self.prompts, sources, targets)

    def seat(self, members: Tensor, places: Tensor) -> None:
        """Say which row sits where, from the first slot and the first row on."""
        for seats, taken in zip(self.seats, (members, places), strict=True):
            # What is behind them must point into the smallest part that holds them.
            seats.zero_()
            seats[: len(taken)] = taken

    @staticmethod
    def _move(layers: Sequence[KeysValues], sources: Tensor, targets: Tensor) -> None:
        for kept in layers:
            for there in kept:
                there[targets] = there[sources]


@final
class Keys:
    """What the attention of one step reads of a board, and where it writes its own keys and values."""

    def __init__(self, board: Board, rung: Rung, columns: Tensor, visible: Tensor) -> None:
        """Make it for one step.

        Args:
            board: whose buffers are read and written.
            rung: the part of it that the step computes.
            columns: of own keys, where each row writes, [rows]; a kernel writes at `visible`.
            visible: the last column that each row sees, [rows].
        """
        self._board, self._rung = board, rung
        size, dtype = board.size, board.own[0].keys.dtype
        self._part = own_part(board.own[0].keys, columns, rung.columns)
        _, heads, _, head = board.own[0].keys.shape
        told = (board.device, dtype, head, board.queries)
        self._last = visible if can_attend(*told) else None
        self._turns = self._last is not None and can_turn(*told[:3], board.queries * heads, heads)
        self._slots_by_kernel = can_attend_by_slot(*told)
        # Of one row flash attention makes another shape.
        self._prefix_by_kernel = bool(size.prefix) and rung.rows > 1 and can_attend_to_prefix(*told)
        all_rows = torch.full_like(board.prefix_length, rung.rows)
        ends = pad(torch.stack([all_rows, board.prefix_length]), (1, 0)).int()
        self._ends = ends[0], ends[1]

        def behind(length: int, last: Tensor) -> Tensor:
            numbers = torch.arange(length, device=board.device)
            return hiding(numbers > last[:, None, None, None], dtype)

        # What kernels that go by lengths have no need of.
        self._own_bias = self._prompt_bias = self._prefix_bias = None
        if self._last is None:
            self._own_bias = behind(rung.columns, visible)
        if not self._slots_by_kernel:
            self._prompt_bias = behind(size.prompt, board.prompt_lengths[: rung.slots] - 1)
        if size.prefix and not self._prefix_by_kernel:
            self._prefix_bias = behind(size.prefix, board.prefix_length - 1)

    def update(
        self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object
    ) -> KeysValues:
        """Store new keys and values of a layer; return all own ones that queries attend to."""
        return self._part.update(self._board.own[layer], key, value)

    @property
    def prompts(self) -> Keys:
        """Return itself: it knows the prompts, too."""
        return self

    def attend(self, packed: Tensor, layer: int, scale: float) -> Partial:
        """Attend to each row's own prompt with its queries, [rows, key heads, queries, size]."""
        rows, slots = self._rung.rows, self._rung.slots
        seats = self._board.seats
        taken = Seats(seats.members[: slots * self._board.size.width], seats.places[:rows])
        kept = KeysValues(*(t[:slots] for t in self._board.prompts[layer]))
        if self._slots_by_kernel:
            lengths = self._board.prompt_lengths
            return fused.attend_by_slot(packed, kept, *taken, lengths, scale)
        return attend_by_slot(packed, kept, taken, self._prompt_bias, scale)

    def over_prefix(self, packed: Tensor, layer: int, scale: float) -> Partial | None:
        """Attend to what all prompts begin with, or return None when there is nothing."""
        if not self._board.prefix:
            return None
        if self._prefix_by_kernel:
            return fused.attend_to_prefix(packed, self._board.prefix[layer], self._ends, scale)
        return attend_together(packed, self._board.prefix[layer], self._prefix_bias, scale)

    @property
    def last(self) -> Tensor | None:
        """Return the last own key that each row sees, [rows], where the kernel that goes by it works."""
        return self._last

    def in_place(self, layer: int) -> KeysValues | None:
        """Return all own keys and values of a layer, where a kernel puts new ones at `last`.

        A row that ended then writes over its last token's, which nobody reads.
        """
        return self._part.of(self._board.own[layer]) if self._turns else None

    def bias(self, queries: int) -> Tensor | None:
        """Return what hides what a row has not written from `queries` queries a key head."""
        bias = self._own_bias
        return None if bias is None else bias.expand(-1, -1, queries, -1)
