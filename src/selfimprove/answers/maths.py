"""Equality of mathematical expressions, by math-verify in a process of its own.

math-verify raises outside the main thread and can hang beyond its own time limit, so it runs in a
worker process that is killed and replaced when it takes too long, and never in this one.
"""

from __future__ import annotations

import atexit
import json
import re
import selectors
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import IO, final

from selfimprove.errors import SelfImproveError

__all__ = ["MathChecker", "looks_like_maths", "same_maths"]

_WORKER = Path(__file__).with_name("math_worker.py")
_LONGEST = 200
_START_S = 60.0
"""The worker imports sympy, which takes seconds on a busy machine."""
_WAITED = 60
"""Seconds to wait for one of processor time: a machine that is busy elsewhere makes no pair unequal."""
_CACHED = 65_536
_MATHS = re.compile(r"\\[a-z]+|[\^√π*/+]|\bsqrt\b|\bpi\b|\d\s*\(|\b[xyzn]\b|\d[xyzn]\b")


def looks_like_maths(text: str) -> bool:
    r"""Tell whether a text is an expression rather than prose.

    >>> looks_like_maths("2\\sqrt{3}"), looks_like_maths("x + 1"), looks_like_maths("18 eggs")
    (True, True, False)
    """
    return len(text) <= _LONGEST and _MATHS.search(text) is not None


@final
class MathChecker:
    """A worker process that compares expressions, started when first needed.

    Safe to use from several threads. What cannot be decided within the limit counts as unequal;
    the limit is of the processor's time, so that the answer does not hang on what else it does.
    """

    def __init__(self, limit_s: float = 1.0) -> None:
        """Prepare a checker that gives each comparison `limit_s` seconds of a processor."""
        self.limit_s = limit_s
        self.timeouts = 0
        """Comparisons that took too long."""
        self._known: dict[tuple[str, str], bool] = {}
        self._worker: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def same(self, first: str, second: str) -> bool:
        """Tell whether two expressions are equal, compared both ways round."""
        pair = (first, second) if first <= second else (second, first)
        with self._lock:
            if pair not in self._known:
                if len(self._known) >= _CACHED:
                    self._known.clear()
                self._known[pair] = self._compare(pair)
            return self._known[pair]

    def close(self) -> None:
        """End the worker; a later comparison starts a new one."""
        with self._lock:
            self._end()

    def _compare(self, pair: tuple[str, str]) -> bool:
        worker = self._running()
        reply = None
        if worker.stdin is not None:
            try:
                worker.stdin.write(json.dumps(pair) + "\n")
                worker.stdin.flush()
                reply = self._reply(worker, _WAITED * self.limit_s)
            except BrokenPipeError:
                reply = None
        if reply is None:
            self.timeouts += 1
            self._end()
        return reply == "true"

    def _running(self) -> subprocess.Popen[str]:
        if self._worker is not None and self._worker.poll() is None:
            return self._worker
        self._end()
        # -P: the worker's folder must not come before the standard library.
        command = [sys.executable, "-P", str(_WORKER), str(self.limit_s)]
        self._worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        if self._reply(self._worker, _START_S) != "ready":
            self._end()
            raise SelfImproveError(
                "the process that compares mathematical answers did not start: "
                f"run `{' '.join(command)}` to see why (is math-verify installed?)"
            )
        return self._worker

    @staticmethod
    def _reply(worker: subprocess.Popen[str], limit_s: float) -> str | None:
        """Return one line of the worker, or None where it takes too long or has died."""
        stream: IO[str] | None = worker.stdout
        if stream is None:
            return None
        with selectors.DefaultSelector() as ready:
            ready.register(stream, selectors.EVENT_READ)
            if not ready.select(timeout=limit_s):
                return None
        return stream.readline().strip() or None

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                stream.close()


@cache
def _shared() -> MathChecker:
    checker = MathChecker()
    atexit.register(checker.close)
    return checker


def same_maths(first: str, second: str) -> bool:
    """Tell whether two expressions are equal, by the checker that all callers share."""
    return _shared().same(first, second)
