"""`selfimprove sft`: from rows to a model folder, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfimprove.errors import StaleStepError, StoreError
from selfimprove.methods.one_model import config_of_words
from selfimprove.methods.warm_start import WarmStartConfig, warm_start
from selfimprove.models import locate
from selfimprove.weights import weights_digest

_QUICK = ["epochs=6", "batch_size=8", "learning_rate=1e-3", "save_every=5"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"Q: Tom has {i} apples.\nA:", "completion": f" The answer is {i}."}
             for i in range(40)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def sft(rows: Path, out: Path, *words: str) -> dict[str, Any]:
    config = config_of_words(WarmStartConfig, "tiny", [str(rows)], [*_QUICK, *words], None)
    return warm_start(config, out, lambda _line: None)


def command(rows: Path, out: Path, *words: str) -> list[str]:
    code = "from selfimprove.cli import main; main()"
    return [sys.executable, "-c", code, "sft", "tiny", "--data", str(rows), "--out", str(out),
            *_QUICK, *words]  # fmt: skip


@pytest.mark.slow
def test_the_result_is_a_model_folder_that_learned_the_rows(tmp_path: Path, rows: Path) -> None:
    told = sft(rows, tmp_path / "warm", "held_out=0.2")
    assert told["rows"] == 32
    assert told["held_out"]["rows"] == 8
    assert told["held_out"]["after"] < told["held_out"]["before"] - 1
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "warm")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "warm")
    asked = tokenizer("Q: Tom has 7 apples.\nA:", return_tensors="pt")
    said = model.generate(**asked, max_new_tokens=12, do_sample=False)[0]
    assert tokenizer.decode(said).endswith("A: The answer is 7.<|end|>")
    assert locate(str(tmp_path / "warm")).digest == weights_digest(tmp_path / "warm")
    log = (tmp_path / "warm" / "training" / "train_log.jsonl").read_text().splitlines()
    assert "loss" in json.loads(log[0])


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, rows: Path
) -> None:
    words = ["epochs=8", "save_every=10"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sft(rows, whole, *words)
    running = subprocess.Popen(command(rows, killed, *words))
    while not list(killed.glob("training/checkpoints/checkpoint-*/trainer_state.json")):
        assert running.poll() is None
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (killed / "config.json").exists()
    assert subprocess.run(command(rows, killed, *words), check=False).returncode == 0
    assert weights_digest(killed) == weights_digest(whole)


@pytest.mark.slow
def test_ctrl_c_says_that_the_command_goes_on(tmp_path: Path, rows: Path) -> None:
    out = tmp_path / "warm"
    running = subprocess.Popen(
        command(rows, out, "epochs=3000"), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not list(out.glob("training/checkpoints/checkpoint-*")):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "the same command goes on where this one ended" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, rows: Path
) -> None:
    out = tmp_path / "warm"
    # A limit on the size of a file stands for a disk that is full: at a checkpoint, at the weights.
    for limit in (700_000, 3_000_000):
        limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        words = command(rows, out)
        words[2] = limited + words[2]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"no room left to write {out}" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (out / "config.json").exists()
    sft(rows, out)
    assert (out / "config.json").exists()


def test_a_folder_with_another_model_is_left_alone(tmp_path: Path, rows: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="holds a model that this command did not make"):
        sft(rows, tmp_path)


@pytest.mark.slow
def test_other_rows_are_refused_and_the_same_are_read_back(tmp_path: Path, rows: Path) -> None:
    first = sft(rows, tmp_path / "warm", "max_steps=2")
    assert sft(rows, tmp_path / "warm", "max_steps=2") == first
    rows.write_text(rows.read_text() + '{"prompt": "new", "completion": "row"}\n')
    with pytest.raises(StaleStepError):
        sft(rows, tmp_path / "warm", "max_steps=3")
