"""Attention of rows that lie end to end in one: each row sees its own tokens, and a prefix it shares.

Where a row stands is told by its first token and the one behind its last, and the same of the prefix
before it (equal: none). A model takes the table of these numbers, (1, 1, rows, 4), for its mask. On a GPU
a row may see several such runs of tokens before itself, as the branch of a tree does: two numbers more each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, TypeAlias, TypeGuard, final

import torch
from torch import Tensor

from selfimprove.sampling.attention import hiding
from selfimprove.training.products import attended, gradients

__all__ = ["MOST_TOKENS", "Row", "Span", "attend", "is_table", "table_of"]

Span: TypeAlias = tuple[int, int]
"""The first token, and the one behind the last."""

Row: TypeAlias = tuple[Span, ...]
"""Where it stands, and what it sees before itself."""

MOST_TOKENS: Final = 1_024
"""Of a row and its prefix: the probabilities of longer ones would fill the memory."""

# Rows attend together where padding them to the longest adds at most this share of pairs of a query
# and a key, or so few that a batch of their own would cost more.
_MOST_PADDING: Final = 1.25
_FREE_PAIRS: Final = 1 << 13


def table_of(rows: Sequence[Row]) -> Tensor:
    """Return the mask of rows, each with what it sees before, in the order in which they lie."""
    most = max(map(len, rows))
    told = [[place for span in row for place in span] + [0, 0] * (most - len(row)) for row in rows]
    return torch.tensor(told)[None, None]


def is_table(mask: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a mask is the table of packed rows; every other one is of booleans, or is added."""
    return mask is not None and mask.dtype == torch.int64


@final
@dataclass(frozen=True)
class _Batch:
    """Neighbours that attend together; what depends on the table alone is the same in every layer."""

    prefix: Span
    """What all of them see before themselves."""
    rows: tuple[Span, ...] = ()
    width: int = 0
    """Tokens of the longest."""
    pairs: int = 0
    """Of a query and a key, without padding."""

    def with_row(self, row: Span) -> _Batch:
        size = row[1] - row[0]
        pairs = self.pairs + size * (self.shared + size)
        return _Batch(self.prefix, (*self.rows, row), max(self.width, size), pairs)

    @property
    def pays(self) -> bool:
        """Whether padding to the longest costs little."""
        padded = len(self.rows) * self.width * (self.shared + self.width)
        return padded <= _MOST_PADDING * self.pairs + _FREE_PAIRS

    @property
    def span(self) -> Span:
        return self.rows[0][0], self.rows[-1][1]

    @property
    def shared(self) -> int:
        """Tokens of the prefix."""
        return self.prefix[1] - self.prefix[0]

    @property
    def padded(self) -> bool:
        first, last = self.span
        return last - first < len(self.rows) * self.width

    @cached_property
    def places(self) -> Tensor:
        """Where each token of the padded rows stands within the span."""
        first, last = self.span
        starts = torch.tensor([start - first for start, _ in self.rows])
        places = starts[:, None] + torch.arange(self.width)
        return places.clamp_(max=last - first - 1).flatten()

    @cached_property
    def filled(self) -> Tensor:
        """Whether there is a token at each place of the padded rows."""
        sizes = torch.tensor([last - start for start, last in self.rows])
        return (torch.arange(self.width) < sizes[:, None]).flatten()

    def bias(self, dtype: torch.dtype) -> Tensor:
        """What hides the later tokens of a row, its padding with them: (1, 1, width, keys)."""
        if dtype not in self._biases:
            every = torch.ones(self.width, self.shared + self.width, dtype=torch.bool)
            self._biases[dtype] = hiding(every.triu_(self.shared + 1), dtype)[None, None]
        return self._biases[dtype]

    @cached_property
    def _biases(self) -> dict[torch.dtype, Tensor]:
        return {}


@lru_cache(maxsize=1)  # the layers of a pass, its gradient, a reference: one piece at a time
def _batches(table: tuple[tuple[int, int, int, int], ...]) -> tuple[_Batch, ...]:
    found: list[_Batch] = []
    for first, last, prefix, end in table:
        row, before = (first, last), (prefix, end)
        if found and found[-1].prefix == before and (joint := found[-1].with_row(row)).pays:
            found[-1] = joint
        else:
            found.append(_Batch(before).with_row(row))
    return tuple(found)


def attend(query: Tensor, key: Tensor, value: Tensor, table: Tensor, scale: float) -> Tensor:
    """Return what every token reads, (1, tokens, heads, size of a value).

    Args:
        query: (1, heads, tokens, size).
        key: (1, key heads, tokens, size).
        value: like `key`, but for the size.
        table: the rows, which lie one behind the other and leave no token out.
        scale: of a product of query and key.
    """
    out: Tensor = _Rows.apply(query, key, value, table, scale)  # type: ignore[no-untyped-call]
    return out


class _Rows(torch.autograd.Function):
    """What `attend` returns, with a gradient that keeps no more than the probabilities."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor,
        scale: float,
    ) -> Tensor:
        q, k, v = (_by_token(x) for x in (query, key, value))
        out, kept = q.new_empty(*q.shape[:2], v.shape[2]), []
        ctx.batches = _batches(tuple(map(tuple, table[0, 0].tolist())))
        for batch in ctx.batches:
            keys, values = _keys(k, batch), _keys(v, batch)
            queries = _queries(q, batch, k.shape[1])
            said, chances = attended(queries, keys, values, batch.bias(q.dtype), scale)
            _lay(said, batch, out)
            kept.append(chances)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.scale = scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (*inputs,) = ctx.saved_tensors
        q, k, v = (_by_token(x) for x in inputs[:3])
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
        for batch, chances in zip(ctx.batches, inputs[3:], strict=True):
            grad = _queries(grads[0][0], batch, k.shape[1], silent=True)
            keys, values = _keys(k, batch), _keys(v, batch)
            queries = _queries(q, batch, k.shape[1])
            of_q, of_k, of_v = gradients(grad, queries, keys, values, chances, ctx.scale)
            _lay(of_q, batch, found[0])
            _lay_keys(of_k, batch, found[1])
            _lay_keys(of_v, batch, found[2])
        of_q, of_k, of_v = (x.transpose(0, 1)[None] for x in found)
        return of_q, of_k, of_v, None, None


def _by_token(states: Tensor) -> Tensor:
    """From (1, heads, tokens, size) to (tokens, heads, size)."""
    return states[0].transpose(0, 1)


def _rows(states: Tensor, batch: _Batch) -> Tensor:
    """Return the batch's own of (tokens, heads, size) as (rows, width, heads, size)."""
    own = states[slice(*batch.span)]
    padded: Tensor = own.index_select(0, batch.places) if batch.padded else own
    rows: Tensor = padded.unflatten(0, (len(batch.rows), batch.width))
    return rows


def _queries(states: Tensor, batch: _Batch, key_heads: int, *, silent: bool = False) -> Tensor:
    """Return queries, or gradients, as (rows, key heads, heads x width, size); `silent` padding is 0."""
    rows = _rows(states, batch)
    if silent and batch.padded:
        rows = rows * batch.filled.view(len(batch.rows), -1, 1, 1)
    by_key: Tensor = rows.unflatten(2, (key_heads, -1))
    return by_key.permute(0, 2, 3, 1, 4).flatten(2, 3)


def _keys(states: Tensor, batch: _Batch) -> Tensor:
    """Return keys or values as (rows, key heads, keys, size), those of the prefix first."""
    rows = _rows(states, batch).transpose(1, 2)
    if not batch.shared:
        return rows
    prefix = states[slice(*batch.prefix)].transpose(0, 1)
    return torch.cat([prefix.expand(len(rows), -1, -1, -1), rows], dim=2)


def _lay(states: Tensor, batch: _Batch, out: Tensor) -> None:
    """Write (rows, key heads, heads x width, size) where the rows lie in (tokens, heads, size)."""
    rows = states.unflatten(2, (-1, batch.width)).permute(0, 3, 1, 2, 4).flatten(2, 3)
    _write(rows, batch, out)


def _lay_keys(states: Tensor, batch: _Batch, out: Tensor) -> None:
    """Write (rows, key heads, keys, size) likewise, and add what is the prefix's to it."""
    _write(states[:, :, batch.shared :].transpose(1, 2), batch, out)
    if batch.shared:
        out[slice(*batch.prefix)] += states[:, :, : batch.shared].sum(0).transpose(0, 1)


def _write(rows: Tensor, batch: _Batch, out: Tensor) -> None:
    """Write (rows, width, heads, size), but for the padding."""
    flat = rows.flatten(0, 1)
    out[slice(*batch.span)] = flat[batch.filled] if batch.padded else flat
