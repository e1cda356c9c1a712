"""The built-in engine for many callers at once: draws that join others under way are what they are alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.contract.slow_steps import steps_wait
from tests.families import byte_tokens, model_config, random_folder

from selfimprove.errors import EngineError
from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.live import LiveEngine
from selfimprove.sampling.live_table import Need, TableSize
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.sampling.turns import Turns
from selfimprove.tiny import shipped
from selfimprove.types import Begun, Draw, Prompt

pytestmark = pytest.mark.slow

_CONFIG = EngineConfig(device="cpu")
_WAYS = (
    SamplingConfig(n=2, max_tokens=24),
    SamplingConfig(n=1, max_tokens=60, temperature=1.0, stop=("kites",)),
    SamplingConfig(n=3, max_tokens=40, top_p=0.8),
    SamplingConfig(n=1, max_tokens=80, temperature=0),
)
_CALLERS = range(6)
_LONG = SamplingConfig(n=64, max_tokens=300, temperature=1.5)


def _engine() -> TorchEngine:
    return TorchEngine(shipped.folder("tiny"), _CONFIG)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveEngine]:
    engine = LiveEngine(_engine())
    yield engine
    engine.close()


def _prompts(caller: int) -> list[Prompt]:
    words = f"Ann has {caller} kites and finds 4 kites. " * (1 + caller % 3)
    return [Prompt(f"{caller}-{i}", f"Q: {words}How many kites are {i}?\nA:") for i in range(2)]


def _at_once(live: LiveEngine, pause: float = 0.02) -> dict[int, list[Draw]]:
    """Let several callers ask, one a moment behind the other."""
    found: dict[int, list[Draw]] = {}

    def ask(caller: int) -> None:
        found[caller] = draw_in_order(live, _prompts(caller), _WAYS[caller % 4], seed=7)

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in _CALLERS]
    for thread in callers:
        thread.start()
        time.sleep(pause)
    for thread in callers:
        thread.join(60)
    return found


def _one_by_one(engine: TorchEngine) -> dict[int, list[Draw]]:
    return {c: draw_in_order(engine, _prompts(c), _WAYS[c % 4], seed=7) for c in _CALLERS}


@pytest.fixture(scope="module")
def alone() -> dict[int, list[Draw]]:
    return _one_by_one(_engine())


def test_draws_that_join_others_are_what_they_are_alone(
    live: LiveEngine, alone: dict[int, list[Draw]]
) -> None:
    assert _at_once(live) == alone


def test_memory_that_ends_costs_nobody_a_draw(
    live: LiveEngine, alone: dict[int, list[Draw]], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = CascadeLanes.step, [0]

    def failing(self: CascadeLanes, tokens: torch.Tensor) -> torch.Tensor:
        steps[0] += 1
        if steps[0] in (5, 60):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return step(self, tokens)

    monkeypatch.setattr(CascadeLanes, "step", failing)
    assert _at_once(live) == alone


def test_a_short_call_ends_before_a_long_one_that_came_first(
    live: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_wait(monkeypatch)  # or the long one might have ended before the short one is asked for
    long = live.call(_prompts(1), _LONG.model_copy(update={"n": 4}), seed=1)
    while not live.under_way:
        time.sleep(0.001)
    short = draw_in_order(live, _prompts(2), SamplingConfig(max_tokens=4), seed=1)
    assert len(short) == 2
    assert live.under_way > 0
    assert len({(d.key, d.index) for d in long.draws()}) == 2 * 4


def test_who_leaves_frees_the_rows(live: LiveEngine) -> None:
    with closing(live.call(_prompts(1), _LONG, seed=1).draws()) as draws:
        next(draws)
    _wait_until_idle(live)
    told = live.call(_prompts(1), _LONG, seed=1)
    threading.Timer(0.1, told.cancel).start()
    with pytest.raises(EngineError, match="nobody waits"):
        list(told.draws())
    _wait_until_idle(live)


def _wait_until_idle(live: LiveEngine) -> None:
    deadline = time.monotonic() + 10
    while live.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_watched_draws_are_told_token_by_token_and_end_as_they_would(
    live: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, how = _prompts(3)[:1], SamplingConfig(n=2, max_tokens=40, temperature=0.3)
    steps_wait(monkeypatch)
    events = list(live.call(prompts, how, seed=5, watched=True).events())
    whole = {d.index: d.text for d in events if isinstance(d, Draw)}
    assert [whole[i] for i in (0, 1)] == [d.text for d in draw_in_order(live, prompts, how, seed=5)]
    for index in (0, 1):
        texts = [e.text for e in events if isinstance(e, Begun) and e.index == index]
        assert len(texts) > 4
        assert all(whole[index].startswith(text) for text in texts)
        assert all(longer.startswith(text) for text, longer in pairwise(texts))


def test_a_table_grows_with_what_is_asked_and_keeps_within_its_budget() -> None:
    need = Need(draws=9, longest=70, new=200)
    assert need.size(budget=65_536, most=512) == TableSize(16, 128, 256)
    assert need.size(budget=9 * 384, most=512) == TableSize(9, 128, 256)
    assert need.size(budget=9 * 384 - 1, most=512) is None
    assert need._replace(draws=1).size(budget=1, most=512) == TableSize(1, 128, 256)


def _no_memory(self: object, tokens: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("can't allocate memory")


def test_a_small_budget_keeps_draws_waiting_and_changes_none(
    alone: dict[int, list[Draw]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig(device="cpu", max_batch_tokens=600)
    live = LiveEngine(TorchEngine(shipped.folder("tiny"), config))
    assert _at_once(live, pause=0) == alone
    with monkeypatch.context() as broken:
        broken.setattr(CascadeLanes, "step", _no_memory)
        with pytest.raises(EngineError, match="out of memory with one row"):
            draw_in_order(live, _prompts(1), _WAYS[0], seed=1)
    waiting = live.call(_prompts(1), _LONG, seed=1).draws()
    next(waiting)
    live.close()
    with pytest.raises(EngineError, match="closed"):
        list(waiting)
    with pytest.raises(EngineError, match="closed"):
        live.call(_prompts(1), _LONG, seed=1)


def test_rows_longer_than_the_window_draw_in_waves_of_their_own(tmp_path: Path) -> None:
    """Short rows in lanes that others join, long ones in transformers' own cache; here a byte is a token."""
    config = model_config("mistral", sliding_window=110, max_position_embeddings=512)
    random_folder(tmp_path, config, byte_tokens())
    want = _one_by_one(engine := TorchEngine(tmp_path, _CONFIG))
    asked = [len(engine.encoded(_prompts(c), _WAYS[c % 4])[0].ids) + _WAYS[c % 4].max_tokens for c in _CALLERS]  # fmt: skip
    assert {engine.has_lanes_for(length) for length in asked} == {True, False}
    live = LiveEngine(engine)
    assert _at_once(live) == want
    live.close()


def test_turns_go_to_those_who_wait() -> None:
    turns, seen = Turns(), list[str]()

    def wait() -> None:
        with turns:
            seen.append("waited")

    with turns:
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
    with turns:  # would go first by a lock that favours whoever runs
        seen.append("came back")
    thread.join()
    assert seen == ["waited", "came back"]
