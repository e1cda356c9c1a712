"""The GPU benchmark: its script joins and installs what travelled, and all of it runs on a CPU."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.gguf_files import write_gguf
from transformers import LlamaConfig, TrainerState

Script = Callable[..., subprocess.CompletedProcess[str]]
_ROOT = Path(__file__).parents[1]
_PARTS = """
import os, time

def fine(setting, model):
    return {"model": model}

def fails(setting, model):
    raise ValueError("not this time")

def dies(setting, model):
    os._exit(3)

def dies_and_leaves_a_child(setting, model):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    (setting.scratch / "child").write_text(str(child))
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
        # The child holds the pipe open, and must not outlive the part.
        left = told("dies_and_leaves_a_child")
        assert left["failed"] == "its process ended with exit code 3"
        assert _ends(int((tmp_path / "child").read_text()))
        assert told("hangs", seconds=1)["failed"] == "given up after 1 s"
        assert told("fine")["model"] == "m"
    finally:
        worker.end()


def _ends(process: int) -> bool:
    """Whether a process that was killed is gone soon, or waits for its parent to look."""
    state = Path(f"/proc/{process}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.1)
    return False


@dataclass(frozen=True)
class _Unread:
    """What the process that reads it calls a function in place of."""

    function: Callable[[int], object]
    argument: int

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, (self.argument,)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("begins", "failed"),
    [(_Unread(os._exit, 4), "its process ended with exit code 4"),
     (_Unread(time.sleep, 600), "given up after 1 s")],
)  # fmt: skip
def test_a_process_that_dies_or_hangs_before_it_takes_a_part_is_noted(
    begins: _Unread, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = importlib.import_module("gpu_parts").Part("p", "os:getpid", "m", 1)
    monkeypatch.setattr(module := importlib.import_module("gpu_worker"), "_START_S", 0)
    worker = module.Worker(begins)
    assert worker.run(part, 30 if "exit" in failed else 1) == {"failed": failed}
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


def _tiny_llama(folder: Path) -> None:
    """A layer of width 8: 2 heads of 6, 1 of keys; 16 inner, 10 words, tied."""
    LlamaConfig(
        vocab_size=10, hidden_size=8, intermediate_size=16, num_hidden_layers=1, head_dim=6,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    ).save_pretrained(folder)  # fmt: skip


_LAYERS = 8 * 12 + 2 * 8 * 6 + 12 * 8 + 3 * 8 * 16 + 3 * 8  # attention, inner layers, norms


@pytest.mark.usefixtures("benchmarks")
def test_operations_are_two_a_weight_and_four_a_place_attended(tmp_path: Path) -> None:
    _tiny_llama(tmp_path)
    cost_of = importlib.import_module("gpu_models").cost_of
    cost = cost_of(tmp_path)
    assert cost.weights == _LAYERS + 10 * 8
    assert cost.attended == 12
    assert cost.cache_bytes == 2 * 2 * 6
    assert cost.forward(5, 3) == 5 * (2 * cost.weights + 4 * 12 * 3)
    assert cost_of(tmp_path, scores=True).weights == _LAYERS + 8  # one score, no words


@pytest.mark.usefixtures("benchmarks")
def test_a_sampled_token_costs_its_share_of_reading_and_sees_all_before_it(tmp_path: Path) -> None:
    """2 prompts of 5 tokens, 3 of them shared; 2 draws of 4 tokens: 16 tokens in all, 12 of steps."""
    _tiny_llama(tmp_path)
    size = importlib.import_module("sampling_workloads").Size(prompts=2, draws=2, max_tokens=4)
    told = importlib.import_module("gpu_sampling").cost_of_token(
        tmp_path, {"prompt_tokens": 5, "prefix_tokens": 3}, size
    )
    # 3 tokens see 1.5 in the mean, and 2 x 2 see 4; 12 tokens see 7.
    read = 2 * 7 * (_LAYERS + 8) + 4 * 12 * (3 * 1.5 + 4 * 4)
    steps = 12 * (2 * (_LAYERS + 80) + 4 * 12 * 7)
    assert told["flops_per_token"] == (read + steps) / 16
    # Keys and values of 24 bytes: each of 12 steps reads 2 of its draw, 2 that 2 draws share and 3
    # that 4 rows share, and writes one; 7 are written before. 4 readings of all weights.
    cache = 24 * (12 * (2 + 2 / 2 + 3 / 4 + 1) + 7)
    assert told["bytes_per_token"] == (cache + 4 * 2 * (_LAYERS + 80)) / 16


@pytest.mark.usefixtures("benchmarks")
def test_whole_steps_are_timed_and_what_they_logged_is_theirs(tmp_path: Path) -> None:
    gpu_clock = importlib.import_module("gpu_clock")
    clock = gpu_clock.Clock(setting := _setting(tmp_path))
    with pytest.raises(gpu_clock.Enough):
        for step in range(9):
            clock.on_step_begin(None, TrainerState(global_step=step), None)
            time.sleep(0 if step < 4 else setting.window_s)
            ended = TrainerState(global_step=step + 1)
            clock.on_log(None, ended, None, logs={"length": 10 * ended.global_step})
    assert clock.steps == 2
    assert clock.logged("length") == [40, 50]  # the three before warm up


@pytest.mark.usefixtures("benchmarks")
def test_rates_are_told_as_shares_of_the_lower_limit() -> None:
    told = importlib.import_module("gpu_summary").share_of_limits(
        {"tokens_per_s": 100.0, "flops_per_token": 1e9, "bytes_per_token": 1e6},
        {"tflops": 1.0, "gb_per_s": 0.5},
    )
    assert told["share_of_peak"] == 0.1  # 1e12 / 1e9 = 1,000 tokens/s
    assert told["limit_memory_tokens_per_s"] == 500
    assert told["share_of_limit"] == 0.2


@pytest.mark.usefixtures("benchmarks")
def test_sides_are_compared_by_rates_losses_of_as_many_tokens_and_time_an_operation() -> None:
    trl = {"losses": [[150, 4.0], [300, 3.0], [450, 2.0]]}
    told = importlib.import_module("gpu_summary").summary({
        "sft-135m": {"tokens_per_s": 300.0, "tflops": 6.0,
                     "losses": [[100, 5.0], [200, 3.5], [400, 2.5]]},
        "trl-sft-135m": {"tokens_per_s": 200.0, "best": "bfd", "ways": {"bfd": trl}},
        "dpo-135m": {"tokens_per_s": 90.0, "tflops": 2.0},
        "sampling-1b": {"tokens_per_s": 500.0},
        "vllm-1b": {"tokens_per_s": 400.0},
        "vllm-0.5b": {"failed": "no time was left"},
        "reward-135m": {"failed": "no time was left"},
    })  # fmt: skip
    assert told == {
        "sft-135m_to_trl": 1.5,
        "sft-135m_losses": {"tokens": 400, "first": [5.0, 4.0], "last": [2.5, 3.0]},
        "sampling-1b_to_vllm": 1.25,
        "dpo_time_to_sft_by_flops": 3.0,
    }


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Calls a copy of the script where a folder of its own is the project's, and tells what it measured by."""
    there = tmp_path / "benchmarks"
    there.mkdir()
    shutil.copy(_ROOT / "benchmarks" / "gpu.sh", there)
    (there / "gpu.py").write_text(
        "import sys; from importlib.metadata import version\n"
        "print(*(version(f'carried_{name}') for name in ('one', 'two')), *sys.argv[3:])"
    )
    here = tmp_path / "installed-before"
    for name in ("one", "two"):
        _wheel(here, f"carried_{name}", "0.9")
    for wheel in here.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(here)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        told = {"SELFIMPROVE_GPU_FILES": str(tmp_path / "files"), "PYTHON": sys.executable,
                "PYTHONPATH": str(here)}  # fmt: skip
        done = subprocess.run(
            ["bash", str(there / "gpu.sh"), *words], env={**os.environ, **told},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        shutil.rmtree(tmp_path / ".gpu", ignore_errors=True)
        return done

    return call


def _wheel(folder: Path, name: str, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


def test_wheels_of_every_call_stand_before_what_the_machine_has(
    tmp_path: Path, script: Script
) -> None:
    wheels = tmp_path / ".gpu" / "wheels"
    assert script("--quick").stdout == "0.9 0.9 --quick\n"
    _wheel(wheels, "carried_one", "1.0")
    script("--take-in")
    assert script("--quick").stdout == "1.0 0.9 --quick\n"
    _wheel(wheels, "carried_two", "1.0")
    _wheel(wheels, "carried_one", "1.1")
    assert script().stdout == "1.1 1.0\n"
    site = tmp_path / "files" / "site"
    assert len(list(site.glob("carried_one-*"))) == 1
    made = site.stat().st_ctime_ns
    script()
    assert site.stat().st_ctime_ns == made  # nothing new came


def test_a_model_that_travels_in_parts_is_joined_once_all_are_there(
    tmp_path: Path, script: Script
) -> None:
    carried, files = tmp_path / ".gpu", tmp_path / "files"
    carried.mkdir()
    (carried / "model.gguf.part-1-of-2").write_text("first ")
    assert "only 1 of 2 parts" in script("--quick").stderr
    assert not (files / "model.gguf").exists()
    carried.mkdir()
    (carried / "model.gguf.part-2-of-2").write_text("second")
    script("--quick")
    assert (files / "model.gguf").read_text() == "first second"
    assert not list(files.glob("*.part-*"))


@pytest.mark.slow
@pytest.mark.skipif(
    "SELFIMPROVE_GPU_SCRIPT" not in os.environ,
    reason="half a minute: `make test-gpu-script` runs it",
)
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
    rated = ("sampling-135m", "sampling-0.5b", "sampling-1b", "sft-135m", "sft-1b", "dpo-135m",
             "reward-135m", "gap-reward-135m", "policy-gradient-135m", "trl-sft-135m",
             "trl-sft-1b")  # fmt: skip
    assert all(parts[name]["share_of_peak"] > 0 for name in rated)
    assert parts["recipe-135m"]["share_of_bare"] > 0
    assert parts["greedy-135m"]["equal"] == parts["greedy-135m"]["of"] == 2
    assert parts["profile-sampling-135m"]["host"]
    assert parts["profile-sft-135m"]["host"]
    # To a random model each of its 512 words is as likely: both sides tell nats a token.
    first = result["compared"]["sft-135m_losses"]["first"]
    assert first == [pytest.approx(math.log(512), rel=0.01)] * 2
