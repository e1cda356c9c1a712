"""What every training is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.training.arguments import common
from selfimprove.training.sft_config import SftConfig


@pytest.mark.parametrize(("steps", "warm"), [(1, 0), (2, 1), (100, 3), (101, 4)])
def test_a_warm_up_is_never_the_only_step(tmp_path: Path, steps: int, warm: int) -> None:
    """Its first step has a rate of 0: nothing would be learned."""
    told = common(SftConfig(), Arithmetic("float32", "asked for"), steps, tmp_path, 0)
    assert told["warmup_steps"] == warm
