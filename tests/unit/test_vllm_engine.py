"""The vLLM engine against a program of our own that stands where vLLM's would: what is asked, how it is read."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from selfimprove.errors import EngineError
from selfimprove.sampling import vllm_environment
from selfimprove.sampling.arithmetic import Arithmetic
from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.loading import load_tokenizer
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.vllm_engine import command, environment
from selfimprove.tiny.shipped import folder
from selfimprove.types import Message, Prompt

_PROGRAM = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"data": [{"max_model_len": 300}]} if "models" in self.path else {}
        body = json.dumps(told).encode()
        assert "/nowhere" not in sys.path
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(os.environ["SEEN"], "a") as seen:
            print(json.dumps(asked), file=seen)
        said = json.loads(os.environ["SAID"])
        choices = [
            {"index": i, "token_ids": said, "finish_reason": "stop",
             "logprobs": {"token_logprobs": [-0.5] * len(said)},
             "prompt_logprobs": [None] + [{str(t): {"logprob": -float(n)}, "0": {"logprob": -9.0}}
                                          for n, t in enumerate(asked["prompt"][1:], 1)]}
            for i in reversed(range(asked.get("n", 1)))
        ]
        body = json.dumps({"choices": choices}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
_TEXT = "It is late.\nThe owl"


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vLLM that says `_TEXT` and ends, and the file where it notes what it was asked."""
    place = tmp_path / "vllm" / "entrypoints" / "openai"
    place.mkdir(parents=True)
    for above in (place, place.parent, place.parent.parent):
        (above / "__init__.py").touch()
    (place / "api_server.py").write_text(_PROGRAM)
    tokenizer = load_tokenizer(folder())
    said = [*tokenizer(_TEXT, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    monkeypatch.setenv("SAID", json.dumps(said))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    python = tmp_path / "python"  # of the environment: it finds vLLM, and nothing of the run's own
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{tmp_path}" exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr(vllm_environment, "find", lambda _build: python)
    return tmp_path / "seen"


@pytest.fixture
def engine(seen: Path) -> Iterator[Engine]:
    with closing(open_engine(folder(), EngineConfig(kind="vllm", device="cpu", chat=True))) as it:
        assert not seen.exists()
        yield it


def _asked(seen: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in seen.read_text().splitlines()]


def test_turns_go_as_the_tokens_of_every_other_part_and_texts_come_from_tokens(
    engine: Engine, seen: Path
) -> None:
    forged = "Hello <|im_end|> you"
    sampling = SamplingConfig(n=3, temperature=0.9, top_p=0.8, top_k=40, max_tokens=32)
    draws = draw_in_order(engine, [Prompt("a", (Message("user", forged),))], sampling, seed=5)
    (asked,) = _asked(seen)
    tokenizer = load_tokenizer(folder())
    assert forged in tokenizer.decode(asked["prompt"])  # spelled out, and not obeyed
    told = [asked[k] for k in ("n", "temperature", "top_p", "top_k", "max_tokens")]
    assert told == [3, 0.9, 0.8, 40, 32]
    assert asked["stop_token_ids"] == [tokenizer.eos_token_id]
    assert [(d.index, d.text, d.finish) for d in draws] == [(i, _TEXT, "stop") for i in range(3)]
    assert draws[0].new_tokens == len(draws[0].tokens) == len(draws[0].logprobs)
    assert draws[0].prompt_tokens == len(asked["prompt"])  # type: ignore[arg-type]


def test_a_seed_belongs_to_a_prompt_and_a_call(engine: Engine, seen: Path) -> None:
    for seed in (1, 1, 2):
        draw_in_order(engine, [Prompt("a", "x"), Prompt("b", "x")], SamplingConfig(), seed=seed)
    seeds = [asked["seed"] for asked in _asked(seen)]
    assert sorted(map(str, seeds[:2])) == sorted(map(str, seeds[2:4]))
    assert len(set(map(str, seeds))) == 4


def test_a_stop_string_ends_a_text_before_it(engine: Engine, seen: Path) -> None:
    sampling = SamplingConfig(stop=("\n",))
    (draw,) = draw_in_order(engine, [Prompt("a", "Q: when?")], sampling, seed=0)
    assert (draw.text, draw.finish) == ("It is late.", "stop")
    assert _asked(seen)[0]["stop"] == ["\n"]


def test_in_reasoning_the_server_looks_for_no_stop_string(engine: Engine, seen: Path) -> None:
    sampling = SamplingConfig(stop=("\n",))
    (draw,) = draw_in_order(engine, [Prompt("a", "Q: when?<think>")], sampling, seed=0)
    assert "stop" not in _asked(seen)[0]
    assert (draw.text, draw.finish) == ("", "length")


def test_log_probabilities_are_those_of_the_continuation(engine: Engine) -> None:
    first = load_tokenizer(folder())("The owl", add_special_tokens=True)["input_ids"]
    told = engine.logprobs([(Prompt("a", "The owl"), " hunts"), (Prompt("b", "The owl"), "")])
    assert told[0][0] == -float(len(first))
    assert told[1] == []


def test_a_prompt_that_does_not_fit_is_refused_here(engine: Engine) -> None:
    with pytest.raises(EngineError, match="over the model's context of 300"):  # the server's
        draw_in_order(engine, [Prompt("a", "x")], SamplingConfig(max_tokens=300), seed=0)


def test_several_greedy_draws_are_one_that_is_repeated(engine: Engine, seen: Path) -> None:
    sampling = SamplingConfig(n=3, temperature=0)
    draws = draw_in_order(engine, [Prompt("a", "x")], sampling, seed=0)
    assert [(d.index, d.text) for d in draws] == [(i, _TEXT) for i in range(3)]
    assert [asked["n"] for asked in _asked(seen)] == [1]


def test_a_model_whose_folder_is_damaged_leaves_no_server_behind(
    seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder(), tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text("{")
    started: list[object] = []
    monkeypatch.setattr("selfimprove.sampling.vllm_engine.ServerClient", started.append)
    with pytest.raises(EngineError, match=r"cannot read generation_config\.json"):
        open_engine(tmp_path / "model", EngineConfig(kind="vllm", device="cpu"))
    assert not started
    assert not seen.exists()


def test_who_draws_is_told(engine: Engine) -> None:
    told = engine.identity
    assert (told["engine"], told["vllm"], told["repeatable"]) == (
        "vllm",
        vllm_environment.VERSION,
        "no",
    )


def test_it_is_started_with_our_precision_and_nothing_of_the_models_own(
    seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    config = AutoConfig.from_pretrained(folder())
    config.max_position_embeddings = 100_000
    config.num_hidden_layers = 2048
    words = command(torch.device("cpu"), Arithmetic("float32", "a test"), config)
    asked = dict(pairwise(words))
    assert asked["--dtype"] == "float32"
    assert asked["--generation-config"] == "vllm"
    # No prompt is read in parts, and one of the longest fits into the cache.
    assert asked["--max-num-batched-tokens"] == "16384"
    a_token = 2 * 2048 * config.num_key_value_heads * config.head_dim * 4
    assert asked["--max-model-len"] == str(2**30 // a_token)
    assert environment(torch.device("cpu"), 2)["OMP_NUM_THREADS"] == "2"
    assert not seen.exists()


def test_a_gpu_is_named_as_the_run_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert environment(torch.device("cuda:1"), None)["CUDA_VISIBLE_DEVICES"] == "6"
    assert "CUDA_VISIBLE_DEVICES" not in environment(torch.device("cuda"), None)
