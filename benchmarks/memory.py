"""What a training holds at its peak, beside what `--dry-run` says of it from the config alone.

Each size trains in a process of its own, in float32 on this CPU, all rows of a step in one pass. Measured is
the peak of its resident memory less the libraries' share: that of the same training of a model of 60,000
parameters, less what is told of that one.

glibc keeps blocks that were given back between others. MALLOC_MMAP_THRESHOLD_=1048576 in the environment lets
it return all of them, for almost twice the processor's time at 5M: what is measured then is what tensors take.

    python benchmarks/memory.py [--sizes 5m,30m,135m] [--json FILE]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
from random_models import random_model

from selfimprove.runtime.memory import shape_of, training
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example

_WORDS = 255
_ROWS = 8  # of 256 tokens: one piece of 2,048
_STEPS = 3
_CONFIG = {"dtype": "float32", "batch_size": _ROWS, "max_steps": _STEPS, "max_length": _WORDS + 1,
           "piece_tokens": _ROWS * (_WORDS + 1), "warmup_frac": 0.0}  # fmt: skip


def _trained(shape: str) -> None:
    """Train in this process, and print the peak of its memory in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = random_model(root / "base", shape)
        # Nothing is shared between rows.
        rows = [
            Example(f"w{3 + n}", " ".join(f"w{3 + (n * 7 + k) % 500}" for k in range(_WORDS - 1)))
            for n in range(_ROWS)
        ]
        config = SftConfig.model_validate(_CONFIG)
        # What is held while it learns; writing needs less.
        train_sft(model, rows, config, out=root / "out", checkpoints=root / "kept", seed=0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _peak(shape: str) -> int:
    done = subprocess.run([sys.executable, __file__, "--train", shape], capture_output=True,
                          text=True, check=True)  # fmt: skip
    return int(done.stdout.split()[-1])


def _told(shape: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as scratch:
        config = SftConfig.model_validate(_CONFIG)
        shape_found = shape_of(random_model(Path(scratch), shape))
        need = training("sft", shape_found, config, _WORDS + 1)
    return {"parameters": shape_found.parameters, "weights": need.weights,
            "gradients": need.gradients, "optimiser": need.optimiser,
            "activations": need.activations, "all": need.total}  # fmt: skip


def main() -> None:
    """Measure each size, and compare."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", default="5m,30m,135m")
    options.add_argument("--json", type=Path)
    options.add_argument("--train", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.train:
        _trained(given.train)
        return
    baseline = _peak("tiny") - _told("tiny")["all"]
    result: dict[str, Any] = {"benchmark": "memory", "libraries": baseline, "sizes": {}}
    for size in given.sizes.split(","):
        told, measured = _told(size), _peak(size) - baseline
        result["sizes"][size] = {**told, "measured": measured, "ratio": told["all"] / measured}
        say(f"{size}: told {told['all'] / 2**20:,.0f} MiB, measured {measured / 2**20:,.0f}, "
            f"ratio {told['all'] / measured:.2f}")  # fmt: skip
    keep(result, given.json)


if __name__ == "__main__":
    main()
