"""A step that is done holds no memory, whatever the C library would keep of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from selfimprove.rows import Batch
from selfimprove.store import Run

_HELD: list[bytes] = []


@dataclass(frozen=True)
class _Row:
    size: int


def _resident() -> int:
    """MiB."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in told.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def _greedy(chunks: Sequence[Sequence[int]]) -> Iterator[Batch[_Row]]:
    for chunk in chunks:
        blocks = [b"x" * 100_000 for _ in range(3_000)]
        _HELD.append(blocks.pop())  # the last block keeps the others' place in the heap
        yield Batch([_Row(len(blocks)) for _ in chunk])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_step_held_is_the_system_s_again(tmp_path: Path) -> None:
    with closing(Run(tmp_path / "run")) as run:
        before = _resident()
        run.sharded("greedy", _greedy, [1, 2], shard_items=1)
        assert _resident() - before < 100
