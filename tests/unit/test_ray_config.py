"""The block `ray` of an engine, and what is said where it cannot be had; Ray itself is not needed."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfimprove.config import IDENTITY, load, overridden
from selfimprove.errors import ConfigError, EngineError
from selfimprove.runtime.launch import _anywhere, _elsewhere, read_config
from selfimprove.runtime.nodes import Machines
from selfimprove.runtime.processes import Processes, check
from selfimprove.runtime.ray_processes import RayProcesses
from selfimprove.sampling import ray_cluster
from selfimprove.sampling.engine import EngineConfig, RayConfig

_SMALL = Path(__file__).parents[1] / "smoke" / "small.yaml"


def _of(**tree: Any) -> EngineConfig:
    return load(EngineConfig, tree, "engine")


def test_one_spelling_on_the_command_line_in_a_recipe_and_in_python():
    words = ["engine.kind=ray", "engine.ray.replicas=2", "engine.ray.address=auto"]
    tree = overridden({}, words)["engine"]
    assert tree == {"kind": "ray", "ray": {"replicas": 2, "address": "auto"}}
    said = EngineConfig(kind="ray", ray=RayConfig(replicas=2, address="auto"))
    assert _of(**tree) == said
    assert _of(kind="ray").replicas == RayConfig()


@pytest.mark.parametrize(
    ("tree", "what"),
    [
        ({"kind": "torch", "ray": {"replicas": 2}}, "set engine.kind=ray"),
        ({"kind": "ray", "ray": {"replicas": 0}}, "greater than or equal to 1"),
        ({"kind": "ray", "ray": {"replicas": "many"}}, "'auto'"),
        ({"kind": "ray", "ray": {"replica": 2}}, "replicas"),
        ({"kind": "ray", "ray": {"per_replica": "server"}}, "'torch' or 'vllm'"),
        ({"kind": "ray", "device": "cuda:1"}, "take device=cuda"),
        ({"kind": "ray", "server": {"url": "http://x/v1"}}, "belong together"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tree: dict[str, Any], what: str):
    with pytest.raises(ConfigError, match=what):
        _of(**tree)


def test_how_many_replicas_draw_is_no_part_of_what_is_drawn():
    def identity(**engine: Any) -> Any:
        return _of(**engine).model_dump(mode="json", context=IDENTITY)

    one = identity(kind="torch", chat=True)
    for replicas in ("auto", 1, 3):
        assert identity(kind="ray", chat=True, ray={"replicas": replicas, "address": "h:1"}) == one
    vllm = identity(kind="vllm", chat=True)
    assert identity(kind="ray", chat=True, ray={"per_replica": "vllm"}) == vllm != one


def test_a_whole_recipe_keeps_its_identity():
    def identity(*words: str) -> Any:
        return read_config(_SMALL, words).model_dump(mode="json", context=IDENTITY)

    assert identity("engine.kind=ray", "engine.ray.replicas=4") == identity()


def test_where_several_models_are_held_the_built_in_engine_draws():
    assert _of(kind="ray", ray={"replicas": 2}, chat=True).one_of_several == _of(
        kind="torch", chat=True
    )


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(EngineError, match=r"pip install 'selfimprove\[ray\]'"),
        ray_cluster.kept_up(EngineConfig(kind="ray")),
    ):
        pass


def test_where_nobody_listens_ray_is_not_left_to_try_for_minutes():
    tried: list[str] = []

    def init(address: str, **_: object) -> None:
        tried.append(address)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineError, match="ray start --head"):
            ray_cluster._connect(SimpleNamespace(init=init), address, 1)
        taken.listen()
        ray_cluster._connect(SimpleNamespace(init=init), address, 1)
    assert tried == [address]


@pytest.mark.parametrize("failures", [2, 3])
def test_a_ray_that_does_not_start_is_started_again_and_leaves_nothing_of_it(failures: int):
    begun: list[subprocess.Popen[bytes]] = []

    def init(address: str, **_: object) -> None:
        if len(begun) == failures:
            return
        words = [sys.executable, "-c", "import time; time.sleep(60)", "/ray/core"]
        begun.append(subprocess.Popen(words))
        raise RuntimeError("the current node timed out during startup")

    ray = SimpleNamespace(init=init, shutdown=lambda: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        if failures == 3:
            with pytest.raises(EngineError, match="timed out during startup"):
                ray_cluster._connect(ray, "local", 1)
        else:
            ray_cluster._connect(ray, "local", 1)
        assert len(begun) == failures
        assert all(child.poll() is not None for child in begun)
        assert other.poll() is None


@pytest.mark.parametrize(
    ("kind", "processes", "machines", "by"),
    [
        ("ray", 1, None, None),
        ("ray", 2, None, RayProcesses),
        ("torch", 2, None, Processes),
        # Where torchrun has started this process, it starts the others, too.
        ("ray", 2, Machines(2, 0, 2), Processes),
    ],
)
def test_a_run_on_ray_trains_in_workers_of_ray(
    kind: str, processes: int, machines: Machines | None, by: type | None
):
    config = read_config(_SMALL, [f"engine.kind={kind}"])
    trains = _elsewhere(config, processes, machines)
    assert type(getattr(trains, "__self__", None)) is (by or type(None))


def test_processes_on_a_cluster_are_not_held_against_the_gpus_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    config = read_config(_SMALL, ["engine.kind=ray", "engine.ray.address=auto"])
    check(config, 4, anywhere=_anywhere(config.engine))
    here = read_config(_SMALL, ["engine.kind=ray"])
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        check(here, 4, anywhere=_anywhere(here.engine))
    with pytest.raises(ConfigError, match=r"sft\.batch_size is 16, which 3 processes cannot"):
        check(config, 3, anywhere=True)
