"""Every training by two processes gives what it gives by one, and goes on where it was cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.contract.trainings import train_all

from selfimprove.weights import weights_digest

pytestmark = pytest.mark.slow

_SCRIPT = Path(__file__).parent / "trainings.py"


def _by_two(root: Path, *stop: str) -> bool:
    """Run the trainings; show what the processes wrote, for the case that a test fails."""
    root.mkdir(exist_ok=True)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(_SCRIPT),
             str(root), *stop]  # fmt: skip
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout + done.stderr)
    return done.returncode == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("processes")
    assert _by_two(root / "two")
    assert not _by_two(root / "cut", "3")
    assert _by_two(root / "cut", "-1")
    return {"two": root / "two", "cut": root / "cut"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("one")
    return root, train_all(root)


@pytest.mark.parametrize("name", ["sft", "sharded", "dpo", "gap", "policy"])
def test_two_processes_train_the_weights_of_one(name, runs, one):
    alone, told = one
    ours = load_file(alone / name / "model" / "model.safetensors")
    theirs = load_file(runs["two"] / name / "model" / "model.safetensors")
    base_steps = {k: (ours[k].float() - theirs[k].float()).abs().max().item() for k in ours}
    # bfloat16 keeps 8 bits of what differs by rounding alone.
    assert max(base_steps.values()) < 4e-3
    together = json.loads((runs["two"] / "told.json").read_text())[name]
    for figure, value in told[name].items():
        if figure not in ("seconds", "stopped", "arithmetic"):
            assert together[figure] == pytest.approx(value, rel=2e-3, abs=2e-3), figure


def test_weights_that_were_asked_to_be_were_shared_out(runs):
    parts = runs["two"] / "sharded" / "checkpoints" / "checkpoint-4" / "sharded"
    assert len(list(parts.glob("*.distcp"))) == 2


def test_a_training_by_two_that_was_cut_off_ends_with_the_same_weights(runs):
    whole, cut = (weights_digest(runs[n] / "policy" / "model") for n in ("two", "cut"))
    assert whole == cut


def test_milestones_are_whole_models(runs):
    found = load_file(runs["two"] / "dpo" / "milestones" / "step-2" / "model.safetensors")
    assert all(torch.isfinite(weights.float()).all() for weights in found.values())
