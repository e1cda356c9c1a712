"""A real Ray on this machine: the rows of one process, whoever dies, and nothing left behind.

Runs where SELFIMPROVE_RAY is set, as `make test-ray` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.smoke.killing import command, contents, run_whole

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import (
    Engine,
    EngineConfig,
    RayConfig,
    SamplingConfig,
    draw_in_order,
)
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.ray_engine import RayEngine
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.shipped import folder
from selfimprove.types import Draw, Message, Prompt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "SELFIMPROVE_RAY" not in os.environ, reason="Ray takes minutes: `make test-ray`"
    ),
    # Ray's own.
    pytest.mark.filterwarnings("ignore"),
]

_SMALL = Path(__file__).parents[1] / "smoke"
_ONE = EngineConfig(kind="torch", device="cpu", dtype="float32", threads=1)
_WAYS = (
    SamplingConfig(n=4, temperature=1.0, max_tokens=16),
    SamplingConfig(n=2, temperature=0.7, top_p=0.9, max_tokens=48),
    SamplingConfig(temperature=0, max_tokens=48),
)


def _ray(replicas: int | str = 2, **config: Any) -> EngineConfig:
    ray = RayConfig.model_validate({"replicas": replicas, **config})
    return _ONE.model_copy(update={"kind": "ray", "ray": ray})


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{n}", (Message("user", i.text),))
            for n, i in enumerate(instructions("train", count))]  # fmt: skip


def _said(engine: Engine, prompts: Sequence[Prompt]) -> list[Any]:
    drawn = [draw_in_order(engine, prompts, how, seed=0) for how in _WAYS]
    pairs = [(prompt, "The owl hunts at night.") for prompt in prompts]
    return [*drawn, engine.logprobs(pairs)]


def test_any_number_of_replicas_says_to_the_bit_what_one_process_says():
    prompts = _prompts(160)
    parts = [prompts[i : i + 40] for i in range(0, 160, 40)]
    with closing(open_engine(folder(), _ONE)) as one:
        alone = [_said(one, part) for part in parts]
        assert {d.finish for d in alone[0][0]} == {"stop", "length"}
    together = [list(chain.from_iterable(said[way] for said in alone)) for way in range(4)]
    for replicas in (1, 2, 3):
        with closing(open_engine(folder(), _ray(replicas, shard_prompts=40))) as many:
            # What one call is cut into are calls of their own.
            assert _said(many, prompts) == together
            assert many.identity["engine"] == "torch"
            assert many.identity["weights"] == one.identity["weights"]


def test_a_replica_that_is_killed_costs_its_shard_alone_and_is_replaced():
    prompts = _prompts(120)
    with closing(open_engine(folder(), _ONE)) as one:
        parts = [prompts[i : i + 8] for i in range(0, 120, 8)]
        alone = [d for part in parts for d in draw_in_order(one, part, _WAYS[0], seed=0)]
    with closing(open_engine(folder(), _ray(2, shard_prompts=8))) as engine:
        assert isinstance(engine, RayEngine)
        _until(lambda: engine.calls_at_once() == 4, 120)
        draws = engine.draw(prompts, _WAYS[0], seed=0)
        said = [next(draws)]
        (victim,) = _working()[:1]
        os.kill(victim, signal.SIGKILL)
        said += draws
        assert _in_order(prompts, said) == alone
        _until(lambda: engine.calls_at_once() == 4, 120)
        assert victim not in _replicas()
    _until(lambda: not _descendants(os.getpid()), 60)


def test_prompts_that_do_not_fit_are_an_error_here_and_leave_the_replicas_alone():
    with closing(open_engine(folder(), _ray(1))) as engine:
        long = Prompt("long", "owl " * 600)
        with pytest.raises(EngineError, match="model reads"):
            list(engine.draw([long], _WAYS[0], seed=0))
        assert len(draw_in_order(engine, _prompts(4), _WAYS[2], seed=0)) == 4


def test_a_node_that_does_not_see_the_model_says_which_and_what_to_do(tmp_path: Path):
    with pytest.raises(EngineError, match=r"node \d+\.\d+.* does not see .*nowhere"):
        RayEngine(tmp_path / "nowhere", _ray(2))
    _until(lambda: not _descendants(os.getpid()), 60)


def test_without_a_cluster_at_the_address_it_is_said():
    with pytest.raises(EngineError, match="ray start --head"):
        open_engine(folder(), _ray(1, address="127.0.0.1:1"))


def test_a_node_that_joins_is_used():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        prompts = _prompts(64)
        with closing(open_engine(folder(), _ray("auto", address=cluster.address))) as engine:
            assert isinstance(engine, RayEngine)
            assert engine.calls_at_once() == 2
            first = draw_in_order(engine, prompts, _WAYS[0], seed=0)
            node = cluster.add_node(num_cpus=1)
            _until(lambda: engine.calls_at_once() == 4, 180)
            assert draw_in_order(engine, prompts, _WAYS[0], seed=0) == first
            cluster.remove_node(node)
            assert draw_in_order(engine, prompts, _WAYS[0], seed=0) == first
    finally:
        cluster.shutdown()


_TWO = ["engine.kind=ray", "engine.ray.replicas=2"]
_EXACT = ["engine.dtype=float32", "engine.threads=1"]


_POLICIES = ("policy_rl", "first_round", "second_round")
_APART = [f"{stage}.rollouts.by=engine" for stage in _POLICIES]


@pytest.mark.parametrize(
    ("recipe", "more"), [("small-self-rewarding.yaml", []), ("small-pit.yaml", _APART)]
)
def test_a_recipe_run_by_two_replicas_is_that_of_one_process(
    recipe: str, more: list[str], tmp_path: Path
):
    run_whole(_SMALL / recipe, tmp_path / "one", [*_EXACT, "engine.kind=torch"])
    run_whole(_SMALL / recipe, tmp_path / "two", [*_EXACT, *_TWO, *more])
    _same(tmp_path / "one", tmp_path / "two")


def test_a_run_that_is_killed_goes_on_to_the_rows_of_one_process(tmp_path: Path):
    out, recipe, words = tmp_path / "killed", _SMALL / "small.yaml", [*_EXACT, *_MANY_SHARDS]
    _end(out, signal.SIGKILL)
    assert 0 < len(set(out.glob("*-paths/shard-*.json"))) < 24
    run_whole(recipe, out, [*words, *_TWO])
    run_whole(recipe, tmp_path / "whole", [*words, "engine.kind=torch"])
    _same(tmp_path / "whole", out)


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_leaves_nothing_behind(order: signal.Signals, tmp_path: Path):
    _end(tmp_path / "ended", order)


_MANY_SHARDS = ["paths.shard_questions=2", "paths.m=32"]


def _end(out: Path, order: signal.Signals) -> None:
    """Send an order to a run whose replicas draw; whatever it had started ends with it."""
    words = command(_SMALL / "small.yaml", out, [*_EXACT, *_MANY_SHARDS, *_TWO])
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as run:
        _until(lambda: any(out.glob("*-paths/shard-*.json")), 600)
        started = _descendants(run.pid)
        assert len(started) > 2
        run.send_signal(order)
        assert run.wait(120) != 0
    _until(lambda: not any(map(_lives, started)), 120)


def _same(one: Path, other: Path) -> None:
    ours, theirs = contents(one), contents(other)
    differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differ == {"recipe.json"}
    assert len(ours) > 20


def _in_order(prompts: Sequence[Prompt], draws: Sequence[Draw]) -> list[Draw]:
    place = {prompt.key: number for number, prompt in enumerate(prompts)}
    return sorted(draws, key=lambda draw: (place[draw.key], draw.index))


def _stats() -> Iterator[tuple[int, int, str, str]]:
    """Number, parent, state and name of each process."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = file.read_text()
            name = (file.parent / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
        state, parent = told.rpartition(")")[2].split()[:2]
        yield int(file.parent.name), int(parent), state, name


def _descendants(of: int) -> set[int]:
    found, seen = {of}, list(_stats())
    while True:
        more = {pid for pid, parent, state, _ in seen if parent in found and state != "Z"}
        if more <= found:
            return found - {of}
        found |= more


def _replicas() -> list[int]:
    return [pid for pid, _, _, name in _stats() if name.startswith("ray::_Actor")]


def _working() -> list[int]:
    return [pid for pid, _, _, name in _stats() if name.startswith("ray::_Actor.draw")]


def _lives(pid: int) -> bool:
    return any(pid == one and state != "Z" for one, _, state, _ in _stats())


def _until(seen: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
