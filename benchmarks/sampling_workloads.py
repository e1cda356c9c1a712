"""What `sampling.py` draws, from which model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import selfimprove.models.find as models
from selfimprove.seeds import rng

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

__all__ = [
    "QUICK",
    "WORKLOADS",
    "Size",
    "Workload",
    "endless",
    "model_folder",
    "random_words",
    "sentence",
]


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


def _random(shape: str) -> Callable[[Path, str], Path]:
    """Take a model of random weights; it has no end, so all sides sample `max_tokens` for every draw."""

    def make(scratch: Path, named: str) -> Path:
        from random_models import random_model

        return model_folder(named) if named else random_model(scratch, shape, ends=False)

    return make


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


def random_words(shared: int, least: int, most: int) -> Callable[[Any, int], list[str]]:
    """Words of a random model: shared ones, then `least` to `most` of each prompt's own."""

    def make(tokenizer: Any, count: int) -> list[str]:  # noqa: ANN401
        stream = rng(0, "benchmark", "prompts")
        words = sorted(word for word in tokenizer.get_vocab() if word[1:].isdigit())
        text: Callable[[int], str] = lambda n: " ".join(stream.choice(words) for _ in range(n))  # noqa: E731
        prefix = text(shared)
        return [f"{prefix} {text(stream.randint(least, most))}" for _ in range(count)]

    return make


def sentence(stream: Random) -> str:
    """Return a step of a word problem."""
    had, more = stream.randint(2, 9), stream.randint(2, 9)
    name = stream.choice(("Tom", "Anna", "Ben", "Mia"))
    return f"{name} has {had} {stream.choice(('apples', 'books', 'coins', 'pens'))} and gets {more} more."


def _few_shot(shared: int, own: int, said: str = "") -> Callable[[Any, int], list[str]]:
    """Word problems of at least `own` tokens behind what is said and worked ones, `shared` tokens or more."""

    def make(tokenizer: Any, count: int) -> list[str]:  # noqa: ANN401
        stream = rng(0, "benchmark", "tiny")

        def tokens(text: str) -> int:
            return len(tokenizer(text)["input_ids"])

        def question(least: int) -> str:
            told = "Q:"
            while True:
                told += f" {sentence(stream)}"
                if tokens(told) + 8 >= least:
                    return f"{told} How many in all?\nA:"

        shots = [said]
        while tokens("".join(shots)) < shared:
            shots.append(question(0) + " So we add the two. The answer is 9.\n\n")
        return [f"{''.join(shots)}{question(own)}" for _ in range(count)]

    return make


WORKLOADS = {
    "tiny": Workload(Size(prompts=96, draws=16, max_tokens=40), _few_shot(300, 0), _tiny),
    "25m": Workload(Size(prompts=32, draws=16, max_tokens=32), random_words(300, 20, 40), _random("25m")),
    "qwen-0.5b": Workload(Size(prompts=256, draws=16, max_tokens=64), random_words(300, 20, 40), _random("0.5b")),
    "smollm2-135m": Workload(
        Size(prompts=16, draws=16, max_tokens=64), _few_shot(361, 75, "Answer step by step.\n\n\n"), _endless,
        greedy_prompts=2, generate_batches=(4,), vllm_rows=(256,),
    ),
}  # fmt: skip
