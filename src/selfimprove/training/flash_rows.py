"""Attention of rows that lie end to end, on a GPU: flash attention, a row of any length beside any other.

The same table as `packed_rows` tells where a row and its prefix stand; without padding, and without a
mask to be read.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from selfimprove.training.packed_rows import Row

__all__ = ["DTYPES", "Layout", "attend", "counts_of", "keys_of", "lay_out"]

DTYPES: Final = (torch.bfloat16, torch.float16)
"""What the kernel computes in."""


class Layout(NamedTuple):
    """Where rows begin among queries and keys, (rows + 1,) each, and the longest of them."""

    queries: Tensor
    keys: Tensor
    longest: tuple[int, int]
    seen: Tensor | None
    """The token of every key, each prefix before every row that has it; None: keys are as they lie."""


_Layouts: TypeAlias = MutableMapping[Tensor, Layout]
# The layers of a pass, and its gradient, have one table.
_known: _Layouts = WeakTensorKeyDictionary()


def lay_out(table: Tensor, layout: Layout) -> None:
    """Let a table of rows mean this layout on the device, as long as there is the table."""
    _known[table] = layout


def counts_of(rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """Return the tokens of each row, and the keys that it sees: those and what is before them."""
    sizes = [[last - first for first, last in row] for row in rows]
    return [size[0] for size in sizes], [sum(size) for size in sizes]


def keys_of(rows: Sequence[Row]) -> list[int]:
    """Return the token of every key: each row's own, what is before them first."""
    return [n for own, *before in rows for span in (*before, own) for n in range(*span)]


def _layout(table: Tensor, device: torch.device) -> Layout:
    if table in _known:
        return _known[table]
    rows = [tuple(zip(told[::2], told[1::2], strict=True)) for told in table[0, 0].tolist()]
    own, seen = counts_of(rows)

    def there(numbers: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)

    with torch.inference_mode(mode=False):  # a pass that learns may come after one that does not
        queries = there([0, *accumulate(own)], torch.int32)
        keys = queries if own == seen else there([0, *accumulate(seen)], torch.int32)
        order = None if own == seen else there(keys_of(rows), torch.int64)
    lay_out(table, Layout(queries, keys, (max(own), max(seen)), order))
    return _known[table]


def attend(query: Tensor, key: Tensor, value: Tensor, table: Tensor, scale: float) -> Tensor:
    """Return what every token reads, (1, tokens, heads, size of a value).

    Args:
        query: (1, heads, tokens, size), of one of `DTYPES`.
        key: (1, key heads, tokens, size).
        value: like `key`.
        table: the rows, which lie one behind the other and leave no token out: see `packed_rows`.
        scale: of a product of query and key.
    """
    layout = _layout(table, query.device)
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    if layout.seen is not None:
        k, v = k.index_select(0, layout.seen), v.index_select(0, layout.seen)
    # The last query of a row stands at its last key, whatever comes before.
    kernel: Any = torch.ops.aten._flash_attention_forward
    told = kernel(
        q, k, v, layout.queries, layout.keys, *layout.longest, 0.0, True, False, scale=scale
    )
    out: Tensor = told[0]
    return out[None]
