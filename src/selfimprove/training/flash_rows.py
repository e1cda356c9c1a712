"""Attention of rows that lie end to end, on a GPU: flash attention, a row of any length beside any other.

The same table as `packed_rows` tells where a row and its prefix stand; without padding, and without a
mask to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, final

import torch
from torch import Tensor

__all__ = ["DTYPES", "attend"]

DTYPES: Final = (torch.bfloat16, torch.float16)
"""What the kernel computes in."""


@final
@dataclass(frozen=True)
class _Layout:
    """Where rows begin among queries and keys, (rows + 1,) each, and the longest of them."""

    queries: Tensor
    keys: Tensor
    longest: tuple[int, int]
    seen: Tensor | None
    """The token of every key, each prefix before every row that has it; None: keys are as they lie."""


@lru_cache(maxsize=1)  # by the table itself: the layers of a pass, and its gradient, have one
def _layout(table: Tensor, device: torch.device) -> _Layout:
    rows = table[0, 0].tolist()
    own = [last - first for first, last, _, _ in rows]
    all_seen = [last - first + end - prefix for first, last, prefix, end in rows]
    shares = own != all_seen
    order = [
        n for first, last, prefix, end in rows for n in (*range(prefix, end), *range(first, last))
    ]

    def there(numbers: list[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)

    with torch.inference_mode(mode=False):  # a pass that learns may come after one that does not
        queries = there([0, *accumulate(own)], torch.int32)
        keys = there([0, *accumulate(all_seen)], torch.int32) if shares else queries
        seen = there(order, torch.int64) if shares else None
    return _Layout(queries, keys, (max(own), max(all_seen)), seen)


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
