"""A lock that goes to those who wait for it in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from typing import final

__all__ = ["Turns"]


@final
class Turns:
    """One at a time. Threading's own lock may go to the thread that has just let go of it, for ever."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Lock] = deque()
        self._about = threading.Lock()
        self._taken = False

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._about:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        with self._about:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
