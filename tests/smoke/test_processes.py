"""Runs whose training steps take two processes: the same losses, and one clear message if one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfimprove.errors import ConfigError, StoreError, TrainingError
from selfimprove.files import read_json
from selfimprove.runtime.launch import launch, read_config
from selfimprove.runtime.processes import Processes
from selfimprove.runtime.worker import Replay
from selfimprove.training.processes import mean_of_everyone, on_one_gpu, share_of

pytestmark = pytest.mark.slow

_RECIPE = Path(__file__).parent / "small.yaml"
_SMALLER = ["controls=[]", "data.train.limit=16", "data.test.limit=4", "data.ood=[]", "evaluation.votes=2",
            "formats.use=[standard]"]  # fmt: skip
"""What is trained on matters here, how much of it does not."""


def _run(root: Path, overrides: list[str], processes: int) -> Any:
    launch(_RECIPE, [*_SMALLER, *overrides], root, lambda _line: None, processes)
    return read_json(root / "round-1-model" / "done.json")


def test_a_whole_run_by_two_processes_is_that_of_one(tmp_path):
    alone, together = (_run(tmp_path / str(n), [], n)["training"] for n in (1, 2))
    assert together["processes"] == 2
    for figure in ("steps", "tokens", "examples", "first_loss"):
        assert together[figure] == pytest.approx(alone[figure], rel=1e-4), figure
    left = {p.name for p in (tmp_path / "2" / "round-1-model").iterdir()}
    assert left == {"done.json", "model", "step.json", "train_log.jsonl"}
    assert (tmp_path / "2" / "finished.json").exists()


def test_a_training_that_cannot_start_says_why_once(tmp_path):
    with pytest.raises(TrainingError, match="examples fits into 2 tokens: raise"):
        _run(tmp_path, ["sft.max_length=2"], 2)
    assert (tmp_path / "round-1-model" / "step.json").exists()
    assert not (tmp_path / "round-1-model" / "done.json").exists()


def test_a_lost_process_is_told_of_and_the_run_goes_on(tmp_path, monkeypatch):
    config = read_config(_RECIPE, [])
    step = tmp_path / "round-1-model"
    step.mkdir()
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(TrainingError, match="a training process was lost"):
        Processes(config, 2).train(step)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(ConfigError, match=r"sft\.batch_size is 15, which 2 processes cannot share"):
        _run(tmp_path, ["sft.batch_size=15"], 2)
    assert not any(tmp_path.iterdir())


def test_more_processes_than_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        _run(tmp_path, [], 4)
    assert not any(tmp_path.iterdir())


_COMMAND = """
import signal
from selfimprove.cli import app
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
app()
"""


def test_an_interrupted_run_leaves_no_process_behind(tmp_path):
    words = [sys.executable, "-c", _COMMAND, "run", str(_RECIPE), "--out", str(tmp_path / "run"),
             *_SMALLER, "sft.epochs=400", "--num-processes", "2"]  # fmt: skip
    log = tmp_path / "run" / "round-1-model" / "train_log.jsonl"
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            deadline = time.monotonic() + 120
            while not log.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            run.wait(60)
        finally:
            run.kill()
    assert log.exists()
    assert run.returncode != 0
    ours = str(tmp_path).encode()
    time.sleep(1)
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if ours in _read(p)]
    assert not left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_a_replay_reads_back_and_makes_nothing(tmp_path):
    with pytest.raises(StoreError, match="preferences-read is not done"):
        Replay(tmp_path, step="round-1-model").rows("preferences-read", list)
    assert not any(tmp_path.iterdir())


def test_a_process_alone_takes_one_gpu_of_many():
    many = SimpleNamespace(n_gpu=4, _n_gpu=4)
    assert on_one_gpu(many)._n_gpu == 1


def test_means_of_one_process_are_its_own():
    assert mean_of_everyone({"kl": [1.0, 2.0, 6.0], "reward": []}) == {"kl": 3.0}


def test_a_batch_is_shared_evenly_or_not_at_all(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert share_of(32) == 8
    with pytest.raises(TrainingError, match="choose a multiple"):
        share_of(30)


def test_the_command_takes_the_number_of_processes(tmp_path):
    words = [sys.executable, "-m", "selfimprove", "run", str(_RECIPE), "--num-processes", "0"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "num-processes" in done.stderr
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == "[]"
