"""The model card of a tiny model: how it was made, and what it scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from selfimprove.tiny.measure import measure

__all__ = ["HEAD", "Made", "write_card"]

_QUESTIONS: Final = 200
_PATHS: Final = 16
_TEMPERATURE: Final = 1.0

HEAD: Final = """\
---
license: apache-2.0
library_name: transformers
tags: [selfimprove, synthetic]
---
# {made.size}

"""
"""What the card of every tiny model begins with."""
_CARD: Final = (
    HEAD
    + """\
A language model of {parameters:,} parameters that knows one small synthetic world: word problems,
solved in five styles with the misconceptions of each, and instructions with responses that are good
or bad in five ways. It exists to show self-improvement on a laptop; it is of no other use.

Made by `selfimprove tiny pretrain --size {made.size} --seed {made.seed} --steps {made.steps}`:
{made.steps:,} steps, {made.tokens:,} token places, none of them from a held-out question. The
weights are stored in bfloat16.

| {questions} questions of the dev split, four exemplars | accuracy |
|---|---|
| greedy chain of thought | {accuracy.greedy:.3f} |
| sampled at temperature {temperature}, mean of {paths} | {accuracy.sampled:.3f} |
| majority of those {paths} | {accuracy.vote:.3f} |

A question is asked as `Q: ...`, a newline and `A:`; an instruction through the chat template.
"""
)


@dataclass(frozen=True, slots=True)
class Made:
    """How a tiny model was made."""

    size: str
    seed: int
    steps: int
    tokens: int
    """Places in the training rows, padding included."""


def write_card(folder: Path, made: Made) -> None:
    """Measure the model saved in a folder, as saved, and write its `README.md`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    accuracy = measure(
        model.eval(),
        AutoTokenizer.from_pretrained(folder),
        questions=_QUESTIONS,
        paths=_PATHS,
        temperature=_TEMPERATURE,
    )
    text = _CARD.format(
        made=made,
        accuracy=accuracy,
        parameters=model.num_parameters(),
        questions=_QUESTIONS,
        paths=_PATHS,
        temperature=_TEMPERATURE,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
