"""The server between real programs: LangChain's ChatOpenAI in front of it, llama.cpp's server behind it.

Runs where SELFIMPROVE_CLIENTS is set and both are installed, as `make test-serve-clients` does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from tests.contract.served_here import free_port, running

from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.publish.gguf_file import About, write_gguf
from selfimprove.serve.app import app_of
from selfimprove.serve.served_models import Models
from selfimprove.tiny import shipped

pytestmark = pytest.mark.skipif(
    not os.environ.get("SELFIMPROVE_CLIENTS"),
    reason="`make test-serve-clients` fetches LangChain and llama.cpp and runs this",
)
_ASKED = "How can Ben make tea with jars?"
_JUDGE = JudgeConfig(prompt="tiny", votes=1, max_tokens=48)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(app_of(Models.of("tiny", {"device": "cpu"}))) as url:
        yield url


def _langchain(**asked: Any) -> Any:
    return pytest.importorskip("langchain_openai").ChatOpenAI(**asked)


@pytest.fixture
def chat(url: str) -> Any:
    return _langchain(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=32, seed=1)


def test_langchain_invokes_streams_and_batches(chat: Any) -> None:
    told = chat.invoke(_ASKED)
    assert told.content.startswith("To make tea")
    assert told.usage_metadata["output_tokens"] > 4
    pieces = [piece.content for piece in chat.stream(_ASKED)]
    assert "".join(pieces) == told.content
    assert len([p for p in pieces if p]) > 4
    assert [m.content for m in chat.batch([_ASKED, _ASKED])] == [told.content] * 2


def test_langchain_asks_asynchronously_and_for_improvement(url: str, chat: Any) -> None:
    async def ask() -> tuple[Any, list[str]]:
        pieces = [piece.content async for piece in chat.astream(_ASKED)]
        return await chat.ainvoke(_ASKED), pieces

    told, pieces = asyncio.run(ask())
    assert "".join(pieces) == told.content
    voting = _langchain(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=32,
                        extra_body={"improve": {"method": "vote", "n": 3}})  # fmt: skip
    assert voting.invoke(_ASKED).usage_metadata["output_tokens"] > 3


def test_langchain_is_told_that_tools_are_not_followed(chat: Any) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    with pytest.raises(openai.BadRequestError, match="tools is not followed here"):
        chat.bind_tools([weather]).invoke(_ASKED)


class _LlamaCpp:
    """llama.cpp's server, which may be killed and come back."""

    def __init__(self, file: Path) -> None:
        self._file, self._port = file, free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.start()

    def start(self) -> None:
        script = Path(__file__).with_name("llama_cpp_serves.py")
        words = [sys.executable, str(script), str(self._file), str(self._port)]
        self._process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                requests.get(f"{self.url}/models", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_LlamaCpp]:
    out = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    served = _LlamaCpp(write_gguf(shipped.folder("tiny"), out, "f32", About(name="tiny")))
    yield served
    served.kill()


@pytest.fixture(scope="module")
def front(upstream: _LlamaCpp) -> Iterator[openai.OpenAI]:
    models = replace(Models.of("tiny", {}, upstream.url), judge=_JUDGE)
    with (
        running(app_of(models)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def _ask(client: Any, **more: Any) -> Any:
    turns = [{"role": "user", "content": _ASKED}]
    return client.chat.completions.create(model="tiny", messages=turns, max_tokens=32, seed=1, **more)  # fmt: skip


@pytest.mark.parametrize("improve", [
    {"method": "none"}, {"method": "vote", "n": 3}, {"method": "best_of_n", "n": 3}, {"method": "self_refine", "steps": 1},
])  # fmt: skip
def test_llama_cpp_draws_for_every_way(front: openai.OpenAI, improve: dict[str, Any]) -> None:
    told = _ask(front, extra_body={"improve": improve})
    assert told.choices[0].message.content.strip()
    assert told.usage.completion_tokens > (0 if improve["method"] == "none" else 8)


def test_llama_cpp_streams_through(front: openai.OpenAI) -> None:
    chunks = list(_ask(front, stream=True, stream_options={"include_usage": True}))
    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(said) > 4
    assert "".join(said) == _ask(front).choices[0].message.content
    assert chunks[-1].usage.completion_tokens >= len(said)


def test_a_server_that_is_killed_is_a_502_and_answers_again_when_it_is_back(
    front: openai.OpenAI, upstream: _LlamaCpp
) -> None:
    long = iter(_ask(front, stream=True, temperature=1.5, n=16))
    next(long)
    upstream.kill()
    with pytest.raises(openai.APIError, match="the server gave no answer"):
        list(long)
    with pytest.raises(openai.InternalServerError, match="failed for good") as told:
        _ask(front)
    assert told.value.status_code == 502
    upstream.start()
    assert _ask(front).choices[0].message.content
