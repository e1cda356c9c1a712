"""The torch engine on random-weight models: what it promises, and that it agrees with `generate`."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.greedy import PROMPTS, by_name, generated, generated_text
from tests.families import byte_tokens, model_config, random_folder
from tests.smoke.random_model import random_qwen2
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaForCausalLM

from selfimprove.errors import EngineError
from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.lanes import PaddedLanes
from selfimprove.sampling.loading import load_tokenizer
from selfimprove.sampling.open import open_engine
from selfimprove.types import Draw, Message, Prompt
from selfimprove.weights import weights_digest

_CONFIGS = {
    "llama": lambda: model_config("llama"),
    "qwen2": lambda: model_config("qwen2"),
    "gpt2": lambda: GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3,
        bos_token_id=0, eos_token_id=1,
    ),
    "mistral": lambda: model_config("mistral", sliding_window=16),
}  # fmt: skip
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: random_folder(tmp_path_factory.mktemp(name), config(), byte_tokens(_TEMPLATE))
        for name, config in _CONFIGS.items()
    }


@pytest.fixture
def llama(folders: dict[str, Path]) -> Path:
    return folders["llama"]


def _draws(folder: Path, prompts: Sequence[Prompt] = PROMPTS, **sampling: Any) -> list[Draw]:
    engine = open_engine(folder, EngineConfig())
    return list(engine.draw(prompts, SamplingConfig(**sampling), seed=7))


@pytest.mark.parametrize("budget", [1, 400, 65_536])
@pytest.mark.parametrize("name", list(_CONFIGS))
def test_greedy_text_is_that_of_generate(folders: dict[str, Path], name: str, budget: int) -> None:
    """One row at a time, a few with rows joining as others end, and all at once."""
    engine = open_engine(folders[name], EngineConfig(max_batch_tokens=budget))
    sampling = SamplingConfig(temperature=0, max_tokens=20, n=2)
    draws = list(engine.draw(PROMPTS, sampling, seed=0))
    wanted = {p.key: generated_text(folders[name], p, 20) for p in PROMPTS}
    assert {k: d.text for k, d in by_name(draws).items()} == {
        (key, i): text for key, text in wanted.items() for i in range(2)
    }
    assert len(set(wanted.values())) > 1, "all texts equal: the test would not see mixed-up rows"


def test_models_with_plain_attention_share_the_prefix_and_others_do_not(
    folders: dict[str, Path],
) -> None:
    engines = {name: open_engine(folder, EngineConfig()) for name, folder in folders.items()}
    assert {name: engine.identity["attention"] for name, engine in engines.items()} == {
        "llama": "shared prefix",
        "qwen2": "shared prefix",
        "gpt2": "shared prefix",
        "mistral": "transformers",
    }


def test_the_same_call_gives_the_same_draws_and_another_seed_others(llama: Path) -> None:
    engine = open_engine(llama, EngineConfig())
    sampling = SamplingConfig(temperature=1, n=3, max_tokens=12, top_p=0.95)
    first = list(engine.draw(PROMPTS, sampling, seed=1))
    assert list(engine.draw(PROMPTS, sampling, seed=1)) == first
    assert by_name(list(engine.draw(PROMPTS, sampling, seed=2))) != by_name(first)


def test_a_draw_depends_neither_on_its_neighbours_nor_on_the_batch(llama: Path) -> None:
    together = by_name(_draws(llama, n=3, max_tokens=12, temperature=1))
    alone = by_name(_draws(llama, PROMPTS[4:5], n=2, max_tokens=12, temperature=1))
    small = open_engine(llama, EngineConfig(max_batch_tokens=200))
    sampling = SamplingConfig(temperature=1, n=3, max_tokens=12)
    backwards = by_name(list(small.draw(PROMPTS[::-1], sampling, seed=7)))
    assert alone == {name: together[name] for name in alone}
    assert backwards == together


def test_draws_of_one_prompt_differ_from_each_other(llama: Path) -> None:
    """12 tokens at temperature 1: two equal draws would be a one in many millions accident."""
    texts = [d.text for d in _draws(llama, PROMPTS[:1], n=8, max_tokens=12, temperature=1)]
    assert len(set(texts)) == 8


def test_every_end_of_sequence_token_ends_a_draw(llama: Path, tmp_path: Path) -> None:
    """Greedy text first; then its fifth token is declared a second end."""
    long = _draws(llama, PROMPTS[:1], temperature=0, max_tokens=12)[0]
    ids = generated(llama, PROMPTS[0], 12)
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    model.generation_config.eos_token_id = [1, ids[4]]
    model.save_pretrained(tmp_path)
    byte_tokens(_TEMPLATE).save_pretrained(tmp_path)
    short = _draws(tmp_path, PROMPTS[:1], temperature=0, max_tokens=12)[0]
    assert (long.finish, long.new_tokens) == ("length", 12)
    assert short.finish == "stop"
    assert short.new_tokens == ids.index(ids[4]) + 1


def test_text_ends_before_a_stop_string(llama: Path) -> None:
    whole = _draws(llama, PROMPTS[:1], temperature=0, max_tokens=20)[0]
    stop = whole.text[6:8]
    cut = _draws(llama, PROMPTS[:1], temperature=0, max_tokens=20, stop=("never seen", stop))[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop"
    assert cut.new_tokens < whole.new_tokens


def test_turns_are_rendered_by_the_chat_template_with_one_bos(llama: Path) -> None:
    turns = (Message("user", "hi"),)
    rendered = "user: hi\nassistant:"
    draws = _draws(
        llama,
        [Prompt("turns", turns), Prompt("text", rendered), Prompt("bos", "<s><s>" + rendered)],
        temperature=0,
        max_tokens=4,
    )
    assert {d.key: d.prompt_tokens for d in draws} == {
        "turns": len(rendered) + 1,
        "text": len(rendered),
        "bos": len(rendered) + 1,
    }


def test_a_prompt_that_does_not_fit_is_named_before_anything_is_drawn(llama: Path) -> None:
    engine = open_engine(llama, EngineConfig())
    prompts = [PROMPTS[0], Prompt("too-long", "x" * 250)]
    with pytest.raises(EngineError, match=r"'too-long' has 250 tokens.*260.*256.*shorten"):
        engine.draw(prompts, SamplingConfig(max_tokens=10), seed=0)


def test_two_prompts_with_one_key_are_refused(llama: Path) -> None:
    with pytest.raises(EngineError, match="2 prompts have the key 'p0'"):
        _draws(llama, [PROMPTS[0], PROMPTS[0]])


def test_what_is_no_model_is_said_plainly(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(EngineError, match=r"no config\.json"):
        open_engine(tmp_path, EngineConfig())
    (tmp_path / "config.json").write_text((llama / "config.json").read_text())
    with pytest.raises(EngineError, match="safetensors"):
        open_engine(tmp_path, EngineConfig())
    with pytest.raises(EngineError, match="device 'cuda:99'"):
        open_engine(llama, EngineConfig(device="cuda:99"))
    with pytest.raises(EngineError, match="'abacus' is not one of auto, cpu"):
        open_engine(llama, EngineConfig(device="abacus"))


def test_no_prompts_give_no_draws(llama: Path) -> None:
    assert _draws(llama, []) == []


def test_draws_come_as_they_finish_and_leave_no_inference_mode_behind(llama: Path) -> None:
    engine = open_engine(llama, EngineConfig(max_batch_tokens=64))
    draws = engine.draw(PROMPTS, SamplingConfig(n=4, max_tokens=8), seed=0)
    next(draws)
    assert not torch.is_inference_mode_enabled()
    assert engine.logprobs([(PROMPTS[0], " four")])[0]
    assert len(list(draws)) == 4 * len(PROMPTS) - 1


@pytest.mark.parametrize(("name", "lanes"), [("llama", CascadeLanes), ("mistral", PaddedLanes)])
def test_out_of_memory_halves_the_batch_and_loses_or_repeats_no_draw(
    folders: dict[str, Path],
    name: str,
    lanes: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some draws are out when memory ends, others are under way, others wait."""
    sampling = SamplingConfig(n=3, max_tokens=16, temperature=1)
    engine = open_engine(folders[name], EngineConfig(max_batch_tokens=600))
    calm = by_name(list(engine.draw(PROMPTS, sampling, seed=3)))
    step, steps = lanes.step, [0]

    def failing(self: object, tokens: torch.Tensor) -> torch.Tensor:
        steps[0] += 1
        if steps[0] in (5, 20):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        logits: torch.Tensor = step(self, tokens)
        return logits

    monkeypatch.setattr(lanes, "step", failing)
    with caplog.at_level(logging.WARNING):
        assert by_name(list(engine.draw(PROMPTS, sampling, seed=3))) == calm
    assert caplog.text.count("out of memory") == 2


def test_out_of_memory_with_one_row_is_an_error(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("can't allocate memory")

    engine = open_engine(llama, EngineConfig())
    monkeypatch.setattr(CascadeLanes, "step", failing)
    with pytest.raises(EngineError, match="one row"):
        list(engine.draw(PROMPTS, SamplingConfig(n=3, max_tokens=16), seed=0))


def test_logprobs_go_on_in_smaller_batches_when_memory_ends(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(llama, EngineConfig())
    pairs = [(p, " four") for p in PROMPTS]
    calm = engine.logprobs(pairs)
    forward = LlamaForCausalLM.forward

    def failing(self: Any, input_ids: torch.Tensor, **rest: Any) -> Any:
        if len(input_ids) > 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return forward(self, input_ids, **rest)

    monkeypatch.setattr(LlamaForCausalLM, "forward", failing)
    for calm_row, row in zip(calm, engine.logprobs(pairs), strict=True):
        assert row == pytest.approx(calm_row, abs=1e-5)


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    engine = open_engine(llama, EngineConfig())
    monkeypatch.setattr(CascadeLanes, "step", failing)
    with pytest.raises(RuntimeError, match="mat1"):
        list(engine.draw(PROMPTS, SamplingConfig(max_tokens=4), seed=0))


@pytest.mark.parametrize("budget", [1, 65_536])
def test_logprobs_are_those_of_a_plain_pass(folders: dict[str, Path], budget: int) -> None:
    pairs = [(p, text) for p, text in zip(PROMPTS, [" four", " 2", "", " nine."], strict=False)]
    engine = open_engine(folders["qwen2"], EngineConfig(max_batch_tokens=budget))
    scores = engine.logprobs(pairs)
    model = AutoModelForCausalLM.from_pretrained(folders["qwen2"])
    for (prompt, text), score in zip(pairs, scores, strict=True):
        head, tail = (byte_tokens()(t)["input_ids"] for t in (prompt.content, text))
        with torch.no_grad():
            logs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
        wanted = [logs[len(head) + i - 1, token].item() for i, token in enumerate(tail)]
        assert score == pytest.approx(wanted, abs=1e-4)


def test_identity_names_engine_versions_and_weights(llama: Path) -> None:
    identity = open_engine(llama, EngineConfig(dtype="bfloat16", device="cpu")).identity
    assert identity["engine"] == "torch"
    assert identity["torch"] == torch.__version__
    assert identity["device"] == f"cpu {torch.backends.cpu.get_cpu_capability()}"
    assert identity["threads"] == str(torch.get_num_threads())
    assert identity["dtype_because"] == "asked for"
    assert identity["dtype"] == "bfloat16"
    assert identity["weights"] == weights_digest(llama)


def test_a_small_model_stored_in_bfloat16_computes_in_float32_and_in_bfloat16_if_asked(
    llama: Path, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    assert open_engine(tmp_path, EngineConfig(device="cpu")).identity["dtype"] == "float32"
    engine = open_engine(tmp_path, EngineConfig(device="cpu", dtype="bfloat16"))
    assert engine.identity["dtype"] == "bfloat16"
    assert engine.identity["attention"] == "shared prefix"
    assert len(list(engine.draw(PROMPTS, SamplingConfig(n=2, max_tokens=8), seed=0))) == 14


def test_naming_the_engines_does_not_import_torch() -> None:
    code = "import sys, selfimprove.sampling.engine, selfimprove.sampling.open; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_template_that_opens_a_reasoning_block_is_seen(tmp_path: Path) -> None:
    folder = random_qwen2(tmp_path)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    tokenizer.save_pretrained(folder)
    prompt = [Prompt("a", (Message("user", "How can Ben make tea?"),))]
    open_block = SamplingConfig(n=3, max_tokens=8, stop=("\n", " "))
    draws = draw_in_order(open_engine(folder, EngineConfig()), prompt, open_block, seed=0)
    assert [(d.text, d.finish) for d in draws] == [("", "length")] * 3
    assert all(d.reasoning for d in draws)
