"""The process that compares expressions: a JSON pair a line in, 'true' or 'false' a line out.

    python math_worker.py SECONDS

A comparison that takes more of the processor's time ends the process. Started by `maths.MathChecker`.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys

_MEMORY_BYTES = 4 * 2**30
"""Of address space: 9^(9^9) must end this process, not the machine."""


def _same(first: str, second: str) -> bool:
    from math_verify import parse, verify

    # No limits of its own: they raise where sympy may catch it, a signal that nobody handles ends us.
    one = parse(f"${first}$", parsing_timeout=None)
    other = parse(f"${second}$", parsing_timeout=None)
    if not one or not other:
        return False
    return bool(
        verify(one, other, timeout_seconds=None) and verify(other, one, timeout_seconds=None)
    )


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    _same("1", "2")  # imports everything before the clock runs
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    seconds = float(sys.argv[1])
    for line in sys.stdin:
        first, second = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        equal = _same(first, second)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.write("true\n" if equal else "false\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
