"""A real OpenAI-compatible server, `transformers serve`, as sampler and as judge."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.judging import scores_by

from selfimprove.sampling.engine import EngineConfig, SamplingConfig, ServerConfig, draw_in_order
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.server_engine import ServerEngine
from selfimprove.tiny.shipped import folder
from selfimprove.types import Message, Prompt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("uvicorn") is None,
        reason="transformers[serving] is not installed",
    ),
]

_PROGRAM = str(Path(sys.executable).parent / "transformers")
_SERVED = EngineConfig(
    kind="server",
    chat=True,
    server=ServerConfig(
        command=(_PROGRAM, "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
        concurrency=2,
        startup_timeout=120,
    ),
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_started_server_says_what_our_own_engine_says_and_is_gone_afterwards():
    prompts = [Prompt("a", (Message("user", "Write about a owl in the park with kites."),))]
    sampling = SamplingConfig(temperature=0, max_tokens=32)
    served = open_engine(folder(), _SERVED)
    assert isinstance(served, ServerEngine)
    process = served._client._process
    assert process is not None
    with closing(served):
        (theirs,) = draw_in_order(served, prompts, sampling, seed=0)
    with closing(open_engine(folder(), EngineConfig(device="cpu"))) as own:
        (ours,) = draw_in_order(own, prompts, sampling, seed=0)
    assert (theirs.text, theirs.finish, theirs.new_tokens) == (ours.text, "stop", ours.new_tokens)
    with pytest.raises(ProcessLookupError):
        os.killpg(process._process.pid, 0)


def test_a_started_server_judges():
    first, second = scores_by(_SERVED)
    assert first is not None and second is not None
    assert first > second
