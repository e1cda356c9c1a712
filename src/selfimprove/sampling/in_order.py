"""Several things made at once, given in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

__all__ = ["in_order"]

A = TypeVar("A")
B = TypeVar("B")

_MOST: Final = 512
"""Threads: each only waits for somebody else."""


def in_order(make: Callable[[A], B], items: Iterable[A], at_once: Callable[[], int]) -> Iterator[B]:
    """Yield `make` of every item in the order of the items, made in threads.

    Args:
        make: called in a thread of its own.
        items: taken one by one, as there is room.
        at_once: how many may be begun and not yet taken, asked before each.
    """
    under_way: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(_MOST, thread_name_prefix="chunk")
    try:
        for item in items:
            under_way.append(pool.submit(make, item))
            while len(under_way) >= min(at_once(), _MOST):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
