"""The GPU benchmark: its script joins and installs what travelled, and all of it runs on a CPU."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gguf_files import write_gguf

_ROOT = Path(__file__).parents[1]
_PARTS = """
import os, time

def fine(setting, model):
    return {"model": model}

def fails(setting, model):
    raise ValueError("not this time")

def dies(setting, model):
    os._exit(3)

def hangs(setting, model):
    time.sleep(600)
"""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))


def _setting(scratch: Path) -> Any:
    parts = importlib.import_module("gpu_parts")
    return parts.Setting("cpu", True, False, scratch, gguf=None, rows=None, vllm_python=None)


@pytest.mark.usefixtures("benchmarks")
def test_a_part_that_fails_dies_or_hangs_loses_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_of_this_test.py").write_text(_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    part = importlib.import_module("gpu_parts").Part
    monkeypatch.setattr(module := importlib.import_module("gpu_worker"), "_START_S", 0)
    worker = module.Worker(_setting(tmp_path))

    def told(name: str, seconds: float = 60) -> dict[str, Any]:
        result: dict[str, Any] = worker.run(
            part(name, f"parts_of_this_test:{name}", "m", 1), seconds
        )
        return result

    try:
        assert told("fine")["model"] == "m"
        failed = told("fails")
        assert failed["failed"] == "ValueError: not this time"
        assert "parts_of_this_test.py" in failed["where"]
        assert told("dies")["failed"] == "its process ended with exit code 3"
        assert told("hangs", seconds=1)["failed"] == "given up after 1 s"
        assert told("fine")["model"] == "m"
    finally:
        worker.end()


@pytest.mark.usefixtures("benchmarks")
def test_the_model_of_a_gguf_file_is_measured_and_loses_its_end_for_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFIMPROVE_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "tiny.gguf")
    models = importlib.import_module("gpu_models")
    setting = replace(_setting(tmp_path), gguf=file)
    assert models.made(setting, "135m")["weights"] == "tiny.gguf"
    ends = [
        json.loads((folder / "config.json").read_text())["eos_token_id"]
        for folder in (models.folder_of(setting, "135m"), models.endless_of(setting, "135m"))
    ]
    assert ends[0] is not None
    assert ends[1] is None


@pytest.mark.usefixtures("benchmarks")
def test_operations_are_two_a_weight_and_four_a_place_attended(tmp_path: Path) -> None:
    """Worked by hand for a layer of width 8: 2 heads of 4, 1 of keys; 16 inner, 10 words, tied."""
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=10, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    ).save_pretrained(tmp_path)  # fmt: skip
    cost = importlib.import_module("gpu_models").cost_of(tmp_path)
    attention = 8 * 8 + 2 * 8 * 4 + 8 * 8
    assert cost.weights == 10 * 8 + attention + 3 * 8 * 16 + 3 * 8
    assert cost.attended == 8
    assert cost.cache_bytes == 2 * 2 * 4
    assert cost.forward(5, 3) == 5 * (2 * cost.weights + 4 * 8 * 3)


@pytest.mark.usefixtures("benchmarks")
def test_rates_are_told_as_shares_of_the_lower_limit() -> None:
    told = importlib.import_module("gpu_summary").share_of_limits(
        {"tokens_per_s": 100.0, "flops_per_token": 1e9, "bytes_per_token": 1e6},
        {"tflops": 1.0, "gb_per_s": 0.5},
    )
    assert told["share_of_peak"] == 0.1  # 1e12 / 1e9 = 1,000 tokens/s
    assert told["limit_memory_tokens_per_s"] == 500
    assert told["share_of_limit"] == 0.2


def _script(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Call a copy of the script in a folder of its own, which is taken for the project's."""
    (folder / "benchmarks").mkdir(exist_ok=True)
    shutil.copy(_ROOT / "benchmarks" / "gpu.sh", folder / "benchmarks")
    told = {"SELFIMPROVE_GPU_FILES": str(folder / "files"), "PYTHON": "echo", **settings}
    return subprocess.run(
        ["bash", str(folder / "benchmarks" / "gpu.sh"), *words],
        capture_output=True, text=True, check=True, env={**os.environ, **told},
    )  # fmt: skip


def test_what_travels_in_several_calls_is_joined_and_installed_once(tmp_path: Path) -> None:
    carried, files = tmp_path / ".gpu", tmp_path / "files"
    (carried / "wheels").mkdir(parents=True)
    (carried / "wheels" / "one-1.0-py3-none-any.whl").write_text("wheel")
    _script(tmp_path, "--take-in")
    shutil.rmtree(carried)
    carried.mkdir()
    (carried / "model.gguf.part-1-of-2").write_text("first ")
    assert "only 1 of 2 parts" in _script(tmp_path, "--quick").stderr
    (carried / "model.gguf.part-2-of-2").write_text("second")
    done = _script(tmp_path, "--quick")
    assert (files / "model.gguf").read_text() == "first second"
    assert not list(files.glob("*.part-*"))
    # The first measuring call installed: `echo` stands for Python here.
    assert done.stdout.strip() == f"benchmarks/gpu.py --files {files} --quick"
    assert (files / "installed").exists()


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    subprocess.run(
        [_ROOT / "benchmarks" / "gpu.sh", "--device", "cpu", "--tiny", "--minutes", "60", "--json", out],
        check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHON": sys.executable, "SELFIMPROVE_GPU_FILES": str(tmp_path / "files")},
    )  # fmt: skip
    told = json.loads(out.read_text())
    result = told["result"]
    assert result["failed"] == []
    parts = result["parts"]
    named = ("limits", "sampling-135m", "sampling-0.5b", "sampling-1b", "recipe-135m", "sft-135m",
             "sft-1b", "dpo-135m", "reward-135m", "gap-reward-135m", "policy-gradient-135m",
             "trl-sft-135m", "trl-sft-1b", "profile-sampling-135m", "profile-sft-135m")  # fmt: skip
    assert set(named) <= set(parts)
    assert all(told["tokens_per_s"] > 0 for told in parts.values() if "flops_per_token" in told)
    assert parts["greedy-135m"]["equal"] == parts["greedy-135m"]["of"]
    assert parts["profile-sft-135m"]["host"]
    # Both sides begin with the same weights, in batches of other rows.
    first = result["compared"]["sft-135m_losses"]["first"]
    assert first[0] == pytest.approx(first[1], rel=0.02)
