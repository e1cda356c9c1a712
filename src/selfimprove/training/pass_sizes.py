"""Sizes of recorded passes: few of them, each with room for pieces that are a little smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from selfimprove.training import flash_rows
from selfimprove.training.packed_rows import Row

__all__ = ["Size"]

_PARTS: Final = 4
"""Of a power of two: a pass is at most such a part larger than its piece. Finer, more sizes are to be recorded."""

_LEAST_PADDING: Final = 64

# Room that costs next to nothing: rows without a token, and blocks behind the end of a row.
_LEAST_ROWS: Final = 64
_LEAST_LONGEST: Final = 512


class Size(NamedTuple):
    """What a pass has room for; pieces of one size are computed by the same kernels."""

    tokens: int
    scored: int
    rows: int
    keys: int
    """Read by all rows together, prefixes once for every row; 0: as many as tokens, as they lie."""
    longest: tuple[int, int]
    """Queries and keys of a row."""

    @classmethod
    def of(cls, spans: Sequence[Row], scored: int) -> Size:
        """Return the size for rows of which so many places are scored."""
        own, seen = flash_rows.counts_of(spans)
        shares = own != seen
        # A place of padding at least, see `Passes`; with prefixes enough of them to take the keys left.
        tokens = _rung(sum(own) + (_LEAST_PADDING if shares else 1), parts=_PARTS)
        step = max(tokens // _PARTS, 1)  # for places and keys, too: few pairs of them come up
        keys = -(-(sum(seen) + tokens - sum(own)) // step) * step if shares else 0
        longest = _power(max(own), _LEAST_LONGEST), _power(max(seen), _LEAST_LONGEST)
        size = cls(tokens, -(-scored // step) * step, 0, keys, longest)
        rows = len(spans) + len(size.padding(sum(own), sum(seen)))
        return size._replace(rows=_power(rows, _LEAST_ROWS))

    def padding(self, tokens: int, keys: int) -> list[tuple[int, int]]:
        """Return queries and keys of the rows that fill a pass up, none longer than the longest.

        Args:
            tokens: that are there.
            keys: that are read by them.
        """
        queries = self.tokens - tokens
        left = self.keys - keys if self.keys else queries
        most, most_keys = self.longest
        rows = min(max(-(-queries // most), -(-left // most_keys)), queries)
        shares = zip(_parted(queries, rows), _parted(left - queries, rows), strict=True)
        return [(own, own + more) for own, more in shares]


def _rung(wanted: int, *, parts: int) -> int:
    """Return a number at or over `wanted` that is at most a share of 1 / parts larger.

    >>> [_rung(n, parts=4) for n in (3, 1000, 1025, 6118)]
    [3, 1024, 1280, 6144]
    """
    step: int = 1 << max((wanted - 1).bit_length() - parts.bit_length(), 0)
    return -(-wanted // step) * step


def _parted(whole: int, parts: int) -> list[int]:
    """Part a number evenly.

    >>> _parted(7, 3)
    [3, 2, 2]
    """
    return [whole // parts + (n < whole % parts) for n in range(parts)]


def _power(wanted: int, least: int) -> int:
    return max(1 << (wanted - 1).bit_length(), least)
