"""What a server is, what it must be told beyond OpenAI's interface, and how it is tried out."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_server_engine import Script, serving

from selfimprove.errors import ConfigError, EngineError
from selfimprove.runtime.launch import read_config
from selfimprove.sampling import server_engine
from selfimprove.sampling.engine import SamplingConfig, ServerConfig, draw_in_order
from selfimprove.sampling.server_client import ServerClient
from selfimprove.sampling.server_engine import ServerEngine
from selfimprove.sampling.server_habits import Habits, habits_of
from selfimprove.sampling.server_software import Software, software_at
from selfimprove.tiny.shipped import folder
from selfimprove.types import Message, Prompt

# What the real ones answered, cut to what is read of it; of vLLM as its source says.
_PAGES: dict[str, dict[str, Any]] = {
    "vllm": {
        "/v1/models": {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 256}]},
        "/version": {"version": "0.32.0"},
    },
    "llama.cpp": {
        "/v1/models": {"models": [], "data": [{"id": "m.gguf", "owned_by": "llamacpp"}]},
        "/props": {"build_info": "b11549-abc", "default_generation_settings": {"n_ctx": 1024}},
    },
    "llama-cpp-python": {
        "/v1/models": {"data": [{"id": "m.gguf", "owned_by": "me"}]},
        "/openapi.json": {"info": {"title": "🦙 llama.cpp Python API", "version": "0.3.36"}},
    },
    "transformers": {
        "/openapi.json": {"info": {"title": "FastAPI"}, "paths": {"/load_model": {}, "/v1/chat/completions": {}}},
    },
    "somebody else's": {"/v1/models": {"data": [{"id": "gpt", "owned_by": "system"}]}},
    "nothing that can be read": {"/v1/models": {"data": ["gpt"]}, "/openapi.json": []},
}  # fmt: skip


@pytest.mark.parametrize(
    ("server", "software"),
    [
        ("vllm", Software("vllm", "0.32.0", 256)),
        ("llama.cpp", Software("llama.cpp", "b11549-abc", 1024)),
        ("llama-cpp-python", Software("llama-cpp-python", "0.3.36")),
        ("transformers", Software("transformers")),
        ("somebody else's", Software()),
        ("nothing that can be read", Software()),
    ],
)
def test_a_server_is_known_by_what_it_says_of_itself(server: str, software: Software) -> None:
    pages = _PAGES[server]
    assert software_at("http://h:1/v1", lambda url: pages.get(url.removeprefix("http://h:1"))) == software  # fmt: skip


def test_a_server_that_is_away_is_waited_for_before_it_is_taken_for_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(Script()) as url:
        pass  # nobody listens there any more
    pauses: list[float] = []
    monkeypatch.setattr(ServerClient, "_pause", lambda _, s: pauses.append(s))
    client = ServerClient(Path("m"), ServerConfig(url=url, retries=3))
    with closing(client), pytest.raises(EngineError, match="is the server running"):
        client.body(SamplingConfig(), 0)
    assert pauses == [1.0, 2.0, 4.0]


def test_what_a_recipe_leaves_out_is_told_to_servers_that_would_fill_it_in() -> None:
    plain, five = SamplingConfig(), SamplingConfig(top_k=5)
    greedy = SamplingConfig(temperature=0)
    assert Software("vllm").fields(plain) == {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    for name in ("llama.cpp", "llama-cpp-python"):
        told = Software(name).fields(plain)
        assert told == {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
    assert {Software(n).fields(five)["top_k"] for n in ("vllm", "llama.cpp", "unknown")} == {5}
    assert Software().fields(plain) == {}
    asked = json.loads(Software("transformers").fields(five)["generation_config"])
    assert (asked["do_sample"], asked["top_k"], asked["min_p"]) == (True, 5, 0.0)
    assert not json.loads(Software("transformers").fields(greedy)["generation_config"])["do_sample"]


_COUNT = count()


@pytest.mark.parametrize(
    ("draw", "habits"),
    [
        (lambda seed: f"the text of {seed}", Habits()),
        (lambda seed: "one text for all", Habits(samples=False)),
        (lambda seed: "Yes.", Habits()),  # it may have but one thing to say
        (lambda seed: "four alike" if seed < 13 else "at last another", Habits()),
        (lambda seed: f"text {next(_COUNT)}", Habits(keeps_seeds=False)),
    ],
    ids=["samples", "greedy", "too short to tell", "rarely another", "no seeds"],
)
def test_a_few_draws_tell_whether_a_server_samples_and_keeps_seeds(
    draw: Any, habits: Habits
) -> None:
    assert habits_of(draw, 1) == habits


_CHAT = [Prompt(str(i), (Message("user", f"Say {i}."),)) for i in range(4)]


def _answering(text: str) -> Script:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return Script(raw=json.dumps({"choices": [choice]}).encode())


def test_a_server_that_does_not_sample_is_an_error_unless_that_was_asked_for() -> None:
    script = _answering("The same text whatever is asked.")
    with serving(script) as url:
        engine = ServerEngine(Path("m"), ServerConfig(url=url, model="m"))
        with closing(engine):
            with pytest.raises(EngineError, match=r"one text whatever the seed .*temperature=0\.7"):
                draw_in_order(engine, _CHAT, SamplingConfig(), seed=0)
            assert all(r["max_tokens"] == 16 for r in script.requests)  # no draw was asked for yet
            assert len(draw_in_order(engine, _CHAT, SamplingConfig(temperature=0), seed=0)) == 4


def test_a_server_is_tried_out_once_and_its_seeds_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: list[int] = []

    def habits(_draw: object, at_once: int) -> Habits:
        looked.append(at_once)
        return Habits(keeps_seeds=False)

    monkeypatch.setattr(server_engine, "habits_of", habits)
    with serving(Script()) as url, caplog.at_level(logging.WARNING):
        for _ in range(2):
            engine = ServerEngine(Path("m"), ServerConfig(url=url, model="m", concurrency=3))
            with closing(engine):
                for seed in (0, 1):
                    draw_in_order(engine, _CHAT, SamplingConfig(), seed=seed)
    assert looked == [3, 3]  # once an engine
    assert [url in r.message for r in caplog.records if "keeps no seeds" in r.message] == [True]


def test_a_prompt_that_the_model_in_the_folder_cannot_read_is_an_error_before_the_first_request() -> (
    None
):
    script = Script()
    long = Prompt("long", (Message("user", "owl " * 600),))
    with serving(script) as url:
        with (
            closing(ServerEngine(folder(), ServerConfig(url=url))) as engine,
            pytest.raises(EngineError, match=r"'long' has 60\d tokens, and the model reads 512"),
        ):
            draw_in_order(engine, [*_CHAT, long], SamplingConfig(), seed=0)
        assert script.requests == []
        # Of a model that has another name the folder says nothing.
        with closing(ServerEngine(folder(), ServerConfig(url=url, model="gpt"))) as engine:
            draw_in_order(engine, [long], SamplingConfig(temperature=0), seed=0)
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "server", ["url: 'http://127.0.0.1:9/v1', model: m", "command: [llama-server, '{port}']"]
)
def test_a_run_is_refused_a_server_that_cannot_hold_what_it_trains(server: str) -> None:
    recipe = Path(__file__).parents[1] / "smoke" / "small.yaml"
    with pytest.raises(ConfigError, match=r"small\.yaml: engine\.server\..*every model that it trains"):  # fmt: skip
        read_config(recipe, [f"engine={{kind: server, server: {{{server}}}}}"])
    follows = "{kind: server, server: {command: [vllm, serve, '{model}', --port, '{port}']}}"
    assert read_config(recipe, [f"engine={follows}"]).engine.server is not None
