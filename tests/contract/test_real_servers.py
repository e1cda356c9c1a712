"""One contract, several servers: what a run may expect of the `server` engine, whoever serves.

Each server is started once, on the shipped model, as `make test-servers` and `make test-vllm` do.
"""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.judging import scores_by
from tests.contract.real_servers import SERVERS, RealServer, Running, running
from transformers import AutoModelForCausalLM

from selfimprove.errors import EngineError
from selfimprove.models import locate
from selfimprove.sampling.adapter_server import AdapterServer
from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.loading import load_tokenizer
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.responses import respond
from selfimprove.sampling.server_engine import ServerEngine
from selfimprove.store import Run
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.shipped import folder
from selfimprove.types import Message, Prompt, UserPrompt

pytestmark = pytest.mark.slow

_GREEDY = SamplingConfig(temperature=0, max_tokens=48)
_TEXT = "Q: Ann has 3 kites and finds 4 kites. How many kites?\nA:"


def _prompts(count: int) -> list[Prompt]:
    asked = [i.text for i in instructions("dev", count)]
    chat = [Prompt(f"chat-{n}", (Message("user", text),)) for n, text in enumerate(asked)]
    return [*chat, Prompt("text", _TEXT)]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda of: of.name)
def of(request: pytest.FixtureRequest) -> RealServer:
    found: RealServer = request.param
    if found.python is None:
        pytest.skip(found.how)
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def server(of: RealServer, scratch: Path) -> Iterator[Running]:
    with running(of, scratch) as found:
        yield found


@pytest.fixture
def served(server: Running) -> Iterator[Engine]:
    with closing(open_engine(folder(), server.engine())) as engine:
        yield engine


@pytest.fixture(scope="module")
def own() -> Iterator[Engine]:
    with closing(open_engine(folder(), EngineConfig(device="cpu", dtype="float32"))) as engine:
        yield engine


def _told(draws: list[Any]) -> list[tuple[Any, ...]]:
    return [(d.key, d.index, d.text, d.finish, d.prompt_tokens, d.new_tokens) for d in draws]


def test_the_server_is_known_by_its_name_and_version(of: RealServer, served: Engine) -> None:
    version = of.version
    print(f"\n{of.name} {version}")  # noqa: T201  which one was tested
    assert isinstance(served, ServerEngine)
    draw_in_order(served, _prompts(0), _GREEDY, seed=0)
    name, _, told = served.identity["software"].partition(" ")
    assert name == of.name
    assert bool(told) == of.says_version
    if of.name in ("vllm", "llama-cpp-python"):
        assert version.startswith(told)


@pytest.mark.parametrize(
    "sampling",
    [_GREEDY, _GREEDY.model_copy(update={"max_tokens": 5}), _GREEDY.model_copy(update={"stop": (". ", "\n")}),
     SamplingConfig(temperature=1.0, top_k=1, max_tokens=48)],
    ids=["greedy", "cut off", "stopped", "one token to choose from"],
)  # fmt: skip
def test_texts_ends_and_counts_are_the_built_in_engines(
    of: RealServer, served: Engine, own: Engine, sampling: SamplingConfig
) -> None:
    prompts = _prompts(12)
    theirs = draw_in_order(served, prompts, sampling, seed=0)
    greedy = sampling.model_copy(update={"temperature": 0.0})
    ours = draw_in_order(own, prompts, greedy, seed=0)
    if not of.counts_ends and not sampling.stop:
        ours = [replace(d, new_tokens=d.new_tokens - (d.finish == "stop")) for d in ours]
    assert _told(theirs) == _told(ours)
    assert {d.finish for d in theirs} >= {"length" if sampling.max_tokens == 5 else "stop"}


def test_draws_are_seeded_one_by_one(of: RealServer, served: Engine) -> None:
    sampling = SamplingConfig(n=4, temperature=1.0, max_tokens=16)
    prompts = _prompts(3)
    first, again, other = (
        draw_in_order(served, prompts, sampling, seed=seed) for seed in (0, 0, 1)
    )
    assert [(d.key, d.index) for d in first] == [(p.key, k) for p in prompts for k in range(4)]
    assert len({d.text for d in first if d.key == "chat-0"}) > 1
    assert _told(first) == _told(again)
    assert _told(first) != _told(other)


def test_a_server_that_mixes_seeds_up_is_told_of_once(
    of: RealServer, server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    by = server.engine(concurrency=4)
    for _ in range(2):
        with closing(open_engine(folder(), by)) as engine:
            draw_in_order(
                engine, _prompts(1), SamplingConfig(temperature=1.0, max_tokens=4), seed=0
            )
    said = [r.message for r in caplog.records if "it keeps no seeds" in r.message]
    assert len(said) == (0 if of.keeps_seeds_at_once else 1)


def test_nothing_but_the_recipe_shapes_the_draws(served: Engine, own: Engine) -> None:
    sampling = SamplingConfig(n=100, temperature=2.0, max_tokens=6)
    (prompt, _) = _prompts(1)
    mean = []
    for engine in (served, own):
        draws = draw_in_order(engine, [prompt], sampling, seed=0)
        told = own.logprobs([(prompt, d.text) for d in draws if d.text])
        mean.append(statistics.mean(nats for row in told for nats in row))
    # Drawn from the likeliest alone, as llama.cpp does by itself, they are likelier by more than a nat.
    assert mean[0] == pytest.approx(mean[1], abs=0.5)


def test_a_temperature_that_is_ignored_is_an_error_before_the_first_token(
    of: RealServer, server: Running
) -> None:
    if of.name != "transformers":
        pytest.skip(f"{of.name} heeds the temperature")
    by = server.engine(extra_body={"generation_config": '{"do_sample": false}'})
    with (
        closing(open_engine(folder(), by)) as engine,
        pytest.raises(EngineError, match=r"one text whatever the seed.*temperature=0\.7"),
    ):
        draw_in_order(engine, _prompts(1), SamplingConfig(temperature=0.7), seed=0)
    with closing(open_engine(folder(), by)) as engine:
        assert draw_in_order(engine, _prompts(1), _GREEDY, seed=0)


@pytest.mark.parametrize("words", [270, 2000])
@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_that_is_too_long_is_an_error(
    of: RealServer, served: Engine, words: int, chat: bool
) -> None:
    if of.name == "transformers" and words < 512:
        pytest.skip("it has no limit but the model's")
    text = "owl " * words
    prompt = Prompt("long", (Message("user", text),) if chat else text)
    with pytest.raises(EngineError, match=r"tokens.*(256|512)|(256|512).*tokens"):
        draw_in_order(served, [prompt], _GREEDY, seed=0)


def test_many_at_once_are_each_what_it_is_alone(server: Running, of: RealServer) -> None:
    prompts = _prompts(16)
    together, alone = (
        _told(draw_in_order(engine, prompts, _GREEDY.model_copy(update={"n": 2}), seed=0))
        for at_once in (8, 1)
        for engine in [open_engine(folder(), server.engine(concurrency=at_once))]
    )
    assert together == alone
    assert len(together) == 34


def test_log_probabilities_of_given_texts_are_refused(served: Engine) -> None:
    with pytest.raises(EngineError, match="use the torch engine"):
        served.logprobs([(_prompts(0)[0], "7")])


def test_adapters_are_refused_by_a_server_that_takes_none(server: Running, tmp_path: Path) -> None:
    tokenizer, config = load_tokenizer(folder()), server.engine().server
    assert config is not None
    with (
        closing(AdapterServer(folder(), tokenizer, [2], config)) as adapting,
        pytest.raises(
            EngineError, match=r"engine\.server\.adapters needs a server that takes adapters"
        ),
    ):
        adapting.load(tmp_path)


def test_a_judges_verdict_is_read_from_it(server: Running) -> None:
    first, second = scores_by(server.engine())
    assert first is not None and second is not None
    assert first > second


_LETTERS = "🙂é北語ж한"


def _of_few_words(out: Path) -> Path:
    """Write a model that says some letters of several tokens each, and ends: behind each token comes the next."""
    tokenizer = load_tokenizer(folder())
    model: Any = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32)
    (start,) = tokenizer(":", add_special_tokens=False).input_ids
    said = tokenizer(_LETTERS, add_special_tokens=False).input_ids
    assert len(set(said)) == len(said) > len(_LETTERS)
    known = torch.nn.functional.normalize(
        torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
    )
    for name, weights in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights.data.zero_()
        elif name.endswith("norm.weight"):
            weights.data.fill_(1.0)
    model.config.tie_word_embeddings = False
    model.model.embed_tokens.weight = torch.nn.Parameter(known.clone())
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(known))
    ends = model.generation_config.eos_token_id
    for now, following in pairwise([start, *said, ends[0] if isinstance(ends, list) else ends]):
        model.lm_head.weight.data[following] = 5 * known[now]
    model.save_pretrained(out)
    model.generation_config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def test_letters_of_several_tokens_are_whole_or_not_there(of: RealServer, tmp_path: Path) -> None:
    model = _of_few_words(tmp_path / "few-words")
    asked = [Prompt("p", "Say:")]
    by = EngineConfig(device="cpu", dtype="float32")
    with running(of, tmp_path, model) as server:
        told = dict[int, tuple[str, str]]()
        with (
            closing(open_engine(model, server.engine())) as served,
            closing(open_engine(model, by)) as ours,
        ):
            for tokens in range(1, 21):
                sampling = SamplingConfig(temperature=0, max_tokens=tokens)
                pair = [draw_in_order(e, asked, sampling, seed=0)[0].text for e in (served, ours)]
                told[tokens] = (pair[0].rstrip("\ufffd"), pair[1].rstrip("\ufffd"))
    assert told[20] == (_LETTERS, _LETTERS)
    for theirs, own in told.values():
        more = len(theirs) - len(own) if of.finishes_letters else 0
        assert theirs == _LETTERS[: len(own) + more]
        assert more in (0, 1)


# A server that is lost in the middle of a shard.

_ASKED = [UserPrompt(str(n), "test", i.text) for n, i in enumerate(instructions("train", 24))]
_SHARD, _DRAWS = 4, 4


def _sampled(root: Path, by: EngineConfig, said: list[str]) -> list[tuple[str, int]]:
    """Draw responses as a run does, in a folder that keeps them, and return which are there."""
    sampling = SamplingConfig(n=_DRAWS, temperature=1.0, max_tokens=48)
    with closing(Run(root, said.append, engine=by)) as run:
        rows = run.sharded("responses", respond, _ASKED, run.asks(locate("tiny")), sampling, 0,
                           shard_items=_SHARD)  # fmt: skip
        return [(row.prompt_id, row.index) for row in rows]


def _shards(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(root.rglob("*.parquet"))}


class _Killer(threading.Thread):
    """Ends the server once a run has stored a shard and asks for the next."""

    def __init__(self, root: Path, kill: Any) -> None:
        super().__init__(daemon=True)
        self._root, self._kill = root, kill

    def run(self) -> None:
        while len(_shards(self._root)) < 2:
            time.sleep(0.002)
        self._kill()


_ALL = [(p.id, index) for p in _ASKED for index in range(_DRAWS)]


def _goes_on(root: Path, by: EngineConfig) -> None:
    """Run the same again, and find every row once, those from before as they were."""
    before, said = _shards(root), list[str]()
    assert 2 <= len(before) < len(_ASKED) // _SHARD
    assert _sampled(root, by, said) == _ALL
    assert f"responses: resuming, {len(before)} shards are there" in said
    assert before.items() <= _shards(root).items()


def test_a_run_goes_on_when_the_server_it_found_running_is_back(
    server: Running, tmp_path: Path
) -> None:
    by, killer = server.engine(), _Killer(tmp_path, server.kill)
    killer.start()
    with pytest.raises(EngineError, match=r"requests to http://127\.0\.0\.1.* failed for good"):
        _sampled(tmp_path, by, [])
    killer.join()
    server.start()
    _goes_on(tmp_path, by)


def test_a_run_waits_for_a_server_that_is_soon_back(server: Running, tmp_path: Path) -> None:
    def restart() -> None:
        server.kill()
        server.start()

    killer = _Killer(tmp_path, restart)
    killer.start()
    assert _sampled(tmp_path, server.engine(retries=12), []) == _ALL
    killer.join()


def test_a_run_starts_the_server_anew_that_was_killed(
    of: RealServer, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in of.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    by = of.engine(scratch)

    def kill() -> None:
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text()
            if str(of.python) in command:
                os.killpg(int(child), signal.SIGKILL)

    killer = _Killer(tmp_path, kill)
    killer.start()
    with pytest.raises(EngineError, match="ended by itself, with status -9"):
        _sampled(tmp_path, by, [])
    killer.join()
    _goes_on(tmp_path, by)
