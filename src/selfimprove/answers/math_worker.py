"""The process that compares expressions: a JSON pair a line in, 'true' or 'false' a line out.

Started by `maths.MathChecker`, which also ends it when it takes too long.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

_MEMORY_BYTES = 4 * 2**30
"""Of address space: 9^(9^9) must end this process, not the machine."""


def _same(first: str, second: str) -> bool:
    from math_verify import parse, verify

    # No limits of its own: they use signals, and the parent process keeps the time.
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
    for line in sys.stdin:
        first, second = json.loads(line)
        sys.stdout.write("true\n" if _same(first, second) else "false\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
