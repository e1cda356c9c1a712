"""Processes that share a model out (FSDP2) train what one process trains, and go on from each other's checkpoints.

On CPUs, over gloo. Runs where SELFIMPROVE_SHARDED is set, as `make test-sharded` does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.contract.sharded_trainings import TRAININGS

from selfimprove.errors import TrainingError
from selfimprove.training import sharded_checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_SHARDED" not in os.environ,
        reason="some trainings by up to four processes take minutes: `make test-sharded`",
    ),
]

_SCRIPT = Path(__file__).parent / "sharded_trainings.py"


def _train(root: Path, names: str, processes: int, kill: str = "") -> bool:
    """Train in so many processes; show what they wrote, for the case that a test fails."""
    root.mkdir(exist_ok=True, parents=True)
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [sys.executable, *(launched if processes > 1 else []), str(_SCRIPT), str(root), names]
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "SELFIMPROVE_KILL": kill, "PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    sys.stderr.write(done.stdout + done.stderr)
    return done.returncode == 0


def _weights(root: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(root / name / "model" / "model.safetensors")


def _furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("sharded")
    for count in (1, 2, 4):
        assert _train(root / str(count), ",".join(TRAININGS), count)
    return {count: root / str(count) for count in (1, 2, 4)}


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", sorted({*TRAININGS} - {"bf16"}))
def test_weights_and_figures_are_those_of_one_process(name, processes, runs):
    assert _furthest(_weights(runs[1], name), _weights(runs[processes], name)) < 1e-5
    alone, together = (
        json.loads((runs[n] / "told.json").read_text())[name] for n in (1, processes)
    )
    for figure, value in alone.items():
        if figure not in ("seconds", "stopped", "arithmetic"):
            assert together[figure] == pytest.approx(value, rel=1e-5, abs=1e-5), figure


@pytest.mark.parametrize("name", sorted(TRAININGS))
def test_the_folder_is_the_one_that_one_process_leaves(name, runs):
    alone, together = (runs[n] / name / "model" for n in (1, 4))
    files = sorted(p.name for p in alone.iterdir())
    assert files == sorted(p.name for p in together.iterdir())
    for file in files:
        if file != "model.safetensors":
            assert (alone / file).read_bytes() == (together / file).read_bytes(), file
    with safe_open(together / "model.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_every_process_keeps_its_part_of_the_weights_and_moments(runs):
    parts = runs[4] / "sft" / "checkpoints" / "checkpoint-4" / "sharded"
    sizes = [file.stat().st_size for file in sorted(parts.glob("*.distcp"))]
    whole = (runs[1] / "sft" / "model" / "model.safetensors").stat().st_size
    assert len(sizes) == 4
    # Weights and two moments; beside them what torch writes about each part of a tensor.
    assert max(sizes) < 3 * whole / 4 * 1.4


@pytest.mark.parametrize("processes", [2, 4])
def test_weights_stay_float32_where_bfloat16_computes(processes, runs):
    exact, rounded = _weights(runs[1], "sft"), _weights(runs[processes], "bf16")
    # Four steps of 1e-4, in the same direction but where the gradient is about zero.
    assert _furthest(exact, rounded) < 9e-4
    for name, weights in rounded.items():
        kept = weights != weights.to(torch.bfloat16).float()
        assert kept.float().mean() > 0.5, name


def test_milestones_are_whole_models(runs):
    one, two = (
        load_file(runs[n] / "dpo" / "milestones" / "step-2" / "model.safetensors") for n in (1, 2)
    )
    assert _furthest(one, two) < 1e-5


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """One process of two, and one of four, was killed after three of four steps."""
    root = tmp_path_factory.mktemp("cut")
    for count in (2, 4):
        assert not _train(root / str(count), "sft", count, kill="1:3")
        assert (root / str(count) / "sft" / "checkpoints" / "checkpoint-2").is_dir()
    return {count: root / str(count) for count in (2, 4)}


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 4), (4, 1)])
def test_a_training_that_lost_a_process_goes_on_in_any_number(before, after, cut, runs, tmp_path):
    root = tmp_path / "resumed"
    shutil.copytree(cut[before], root)
    assert _train(root, "sft", after)
    assert _furthest(_weights(runs[1], "sft"), _weights(root, "sft")) < 1e-5
    log = (root / "sft" / "train_log.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in log.splitlines()]
    assert steps == sorted(steps)


def test_a_part_that_is_cut_off_sends_back_to_the_checkpoint_before(cut, runs, tmp_path):
    root = tmp_path / "damaged"
    shutil.copytree(cut[2], root)
    newest = root / "sft" / "checkpoints" / "checkpoint-2"
    part = next((newest / "sharded").glob("__1_*.distcp"))
    assert sharded_checkpoints.damage(newest) is None
    part.write_bytes(part.read_bytes()[:-200])
    assert sharded_checkpoints.damage(newest) == f"{part.name} is cut off"
    assert _train(root, "sft", 2)
    assert _furthest(_weights(runs[1], "sft"), _weights(root, "sft")) < 1e-5


def test_two_machines_make_the_run_of_one(tmp_path):
    recipe = Path(__file__).parents[1] / "smoke" / "small.yaml"
    alone, shared = (["run", str(recipe), "controls=[]", "--out", str(tmp_path / name)]
                     for name in ("alone", "shared"))  # fmt: skip
    assert (
        subprocess.run([sys.executable, "-m", "selfimprove", *alone], check=False).returncode == 0
    )
    port = str(29_600 + os.getpid() % 1_000)
    machines = [
        subprocess.Popen([
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "2",
            "--node_rank", str(number), "--master_addr", "127.0.0.1", "--master_port", port,
            "-m", "selfimprove", *shared, "sft.parallel.fsdp=true", "--nodes", "2",
        ])
        for number in (0, 1)
    ]  # fmt: skip
    try:
        assert [machine.wait(3_600) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.terminate()
    one, two = (
        json.loads((tmp_path / name / "round-1-model" / "done.json").read_text())["training"]
        for name in ("alone", "shared")
    )
    assert two["processes"] == 4
    assert two["first_loss"] == pytest.approx(one["first_loss"], rel=1e-5)


def test_a_checkpoint_of_whole_weights_is_told_from_one_in_parts(tmp_path):
    with pytest.raises(TrainingError, match="kept its weights whole"):
        sharded_checkpoints.load_weights(tmp_path, _Nothing())


class _Nothing:
    """No model: it is never asked."""
