"""What `sampling.py` draws, from which model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import selfimprove.models.find as models
from selfimprove.seeds import rng

__all__ = ["QUICK", "WORKLOADS", "Size", "Workload", "endless", "model_folder"]


@dataclass(frozen=True)
class Size:
    """How much is drawn."""

    prompts: int
    draws: int
    max_tokens: int


@dataclass(frozen=True)
class Workload:
    """Prompts that share a prefix, and who continues them."""

    size: Size
    prompts: Callable[[Any, int], list[str]]
    """From a tokenizer and a number."""
    model: Callable[[Path, str], Path]
    """From an empty folder, and what the user named, to the model's folder."""
    greedy_prompts: int = 8
    """Whose greedy texts must be those of `generate`."""
    generate_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Prompts in one call of `generate`, tried in this order while they are faster."""
    vllm_rows: tuple[int, ...] = (64, 256, 1024)
    """Draws that vLLM computes at once, all tried."""


QUICK = Size(prompts=6, draws=4, max_tokens=8)


def model_folder(name: str) -> Path:
    """Return the folder of a model by name or folder, as the commands take it."""
    return Path(models.locate(name).path)


# Models.


def _tiny(scratch: Path, named: str) -> Path:
    return model_folder(named or "tiny")


def _random(config: Callable[[], Any]) -> Callable[[Path, str], Path]:
    """Save a model of random weights, with one word a token and no end of sequence.

    So all sides sample exactly `max_tokens` for every draw.
    """

    def make(scratch: Path, named: str) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, pre_tokenizers
        from tokenizers.models import WordLevel
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

        if named:
            return model_folder(named)
        torch.manual_seed(0)
        made = config()
        AutoModelForCausalLM.from_config(made, dtype=torch.float32).save_pretrained(scratch)
        raw = Tokenizer(WordLevel({f"w{i}": i for i in range(made.vocab_size)}, unk_token="w0"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        raw.decoder = decoders.Fuse()
        PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(scratch)
        return scratch

    return make


_COMMON: dict[str, Any] = {
    "bos_token_id": None,
    "eos_token_id": None,
    "max_position_embeddings": 2048,
}


def _25m() -> Any:  # noqa: ANN401
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=8192, hidden_size=384, intermediate_size=1280, num_hidden_layers=8,
        num_attention_heads=6, initializer_range=0.1, **_COMMON,
    )  # fmt: skip


def _qwen() -> Any:  # noqa: ANN401
    """The shape of Qwen2.5-0.5B, as a Llama: for a Qwen, transformers would make another tokenizer."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True, **_COMMON,
    )  # fmt: skip


def _endless(scratch: Path, named: str) -> Path:
    return endless(model_folder(named or "smollm2-135m"), scratch)


def endless(found: Path, scratch: Path) -> Path:
    """A pretrained model without its end tokens: every side samples `max_tokens` for every draw."""
    for file in found.iterdir():
        if file.suffix == ".safetensors":
            (scratch / file.name).symlink_to(file.resolve())
        elif file.is_file():
            shutil.copyfile(file, scratch / file.name)
    for name, lost in (("config.json", "eos_token_id"), ("generation_config.json", "eos_token_id"),
                       ("tokenizer_config.json", "eos_token")):  # fmt: skip
        file = scratch / name
        told = json.loads(file.read_text(encoding="utf-8")) | {lost: None}
        file.write_text(json.dumps(told), encoding="utf-8")
    return scratch


# Prompts.


def _words(tokenizer: Any, count: int) -> list[str]:  # noqa: ANN401
    """300 shared words, then 20 to 40 of each prompt's own."""
    stream, words = rng(0, "benchmark", "prompts"), len(tokenizer)
    text: Callable[[int], str] = lambda n: " ".join(f"w{stream.randrange(words)}" for _ in range(n))  # noqa: E731
    prefix = text(300)
    return [f"{prefix} {text(stream.randint(20, 40))}" for _ in range(count)]


def _few_shot(shared: int, own: int, said: str = "") -> Callable[[Any, int], list[str]]:
    """Word problems of at least `own` tokens behind what is said and worked ones, `shared` tokens or more."""

    def make(tokenizer: Any, count: int) -> list[str]:  # noqa: ANN401
        stream = rng(0, "benchmark", "tiny")
        names, things = ("Tom", "Anna", "Ben", "Mia"), ("apples", "books", "coins", "pens")

        def tokens(text: str) -> int:
            return len(tokenizer(text)["input_ids"])

        def question(least: int) -> str:
            told = "Q:"
            while True:
                a, b = stream.randint(2, 9), stream.randint(2, 9)
                name = stream.choice(names)
                told += f" {name} has {a} {stream.choice(things)} and gets {b} more."
                if tokens(told) + 8 >= least:
                    return f"{told} How many in all?\nA:"

        shots = [said]
        while tokens("".join(shots)) < shared:
            shots.append(question(0) + " So we add the two. The answer is 9.\n\n")
        return [f"{''.join(shots)}{question(own)}" for _ in range(count)]

    return make


WORKLOADS = {
    "tiny": Workload(Size(prompts=96, draws=16, max_tokens=40), _few_shot(300, 0), _tiny),
    "25m": Workload(Size(prompts=32, draws=16, max_tokens=32), _words, _random(_25m)),
    "qwen-0.5b": Workload(Size(prompts=256, draws=16, max_tokens=64), _words, _random(_qwen)),
    "smollm2-135m": Workload(
        Size(prompts=16, draws=16, max_tokens=64), _few_shot(361, 75, "Answer step by step.\n\n\n"), _endless,
        greedy_prompts=2, generate_batches=(4,), vllm_rows=(256,),
    ),
}  # fmt: skip
