"""Trainings in workers of a real Ray Train: the weights of one process, also where a worker is killed.

Runs where SELFIMPROVE_RAY is set, as `make test-ray` does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.contract.test_ray import _EXACT, _TWO, _descendants, _lives, _stats, _until
from tests.smoke.killing import command, run_whole

from selfimprove.errors import TrainingError
from selfimprove.runtime.launch import launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_RAY" not in os.environ, reason="Ray takes minutes: `make test-ray`"
    ),
    pytest.mark.filterwarnings("ignore"),
]

_SMALL = Path(__file__).parents[1] / "smoke" / "small.yaml"
_STEP = "round-1-model"
_FEW = [*_EXACT, "controls=[]", "data.train.limit=24", "data.test.limit=4", "data.ood=[]",
        "evaluation.votes=2", "sft.max_steps=24", "sft.learning_rate=1e-4", "sft.batch_size=4",
        "sft.save_every=2"]  # fmt: skip
_BY_RAY = [*_TWO, "sft.parallel.fsdp=true", "--num-processes", "2"]


def _weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / _STEP / "model" / "model.safetensors")


def _furthest(one: Path, other: Path) -> float:
    ours, theirs = _weights(one), _weights(other)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone") / "run"
    run_whole(_SMALL, root, [*_FEW, "engine.kind=torch"])
    return root


def _reported(root: Path) -> dict[str, float]:
    told: dict[str, float] = json.loads((root / _STEP / "done.json").read_text())["training"]
    return told


def test_two_workers_that_share_the_weights_out_train_those_of_one_process(
    alone: Path, tmp_path: Path
) -> None:
    run_whole(_SMALL, tmp_path / "two", [*_FEW, *_BY_RAY])
    one, two = _reported(alone), _reported(tmp_path / "two")
    assert (two["processes"], two["steps"]) == (2, one["steps"])
    assert two["first_loss"] == pytest.approx(one["first_loss"], rel=1e-5)
    assert _furthest(alone, tmp_path / "two") < 1e-5
    left = {p.name for p in (tmp_path / "two" / _STEP).iterdir()}
    assert left == {"done.json", "model", "step.json", "train_log.jsonl"}


def test_a_worker_that_is_killed_costs_the_steps_behind_the_newest_checkpoint(
    alone: Path, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    with subprocess.Popen(command(_SMALL, root, [*_FEW, *_BY_RAY])) as run:
        try:
            victim = _a_worker_behind_a_checkpoint(run, root)
            os.kill(victim, signal.SIGKILL)
            assert run.wait(1_200) == 0
        finally:
            run.kill()
    steps = [json.loads(line)["step"] for line in _log(root).read_text().splitlines()]
    assert steps == sorted(steps)  # what is made again is in it once
    assert _furthest(alone, root) < 1e-5


def test_a_run_that_is_killed_in_a_training_goes_on_from_its_checkpoint(
    alone: Path, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    with subprocess.Popen(command(_SMALL, root, [*_FEW, *_BY_RAY])) as run:
        _a_worker_behind_a_checkpoint(run, root)
        started = _descendants(run.pid)
        run.kill()
    _until(lambda: not any(map(_lives, started)), 120)
    run_whole(_SMALL, root, [*_FEW, *_BY_RAY])
    assert _furthest(alone, root) < 1e-5


def test_an_interrupted_run_ends_as_any_other(tmp_path: Path) -> None:
    root = tmp_path / "interrupted"
    with subprocess.Popen(command(_SMALL, root, [*_FEW, *_BY_RAY])) as run:
        _a_worker_behind_a_checkpoint(run, root)
        started = _descendants(run.pid)
        run.send_signal(signal.SIGINT)
        assert run.wait(120) == 130
    _until(lambda: not any(map(_lives, started)), 120)


def test_what_goes_wrong_in_a_worker_is_said_once(tmp_path: Path) -> None:
    words = [*_FEW, "sft.max_length=2", "engine.kind=ray", "engine.ray.replicas=2"]
    with pytest.raises(TrainingError, match="examples fits into 2 tokens: raise"):
        launch(_SMALL, words, tmp_path / "run", lambda _line: None, 2)


def _log(root: Path) -> Path:
    return root / _STEP / "train_log.jsonl"


def _a_worker_behind_a_checkpoint(run: subprocess.Popen[bytes], root: Path) -> int:
    """Return a process that trains, once there is something to go on from and something behind it."""

    def behind(step: int) -> Callable[[], bool]:
        return lambda: (
            any((root / _STEP / "checkpoints").glob("checkpoint-*"))
            and len(_log(root).read_text().splitlines()) > step
        )

    deadline = time.monotonic() + 1_200
    while not behind(4)():
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    own = _descendants(run.pid)
    return max(pid for pid, _, _, name in _stats() if "RayTrainWorker" in name and pid in own)
