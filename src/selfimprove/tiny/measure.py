"""How well a tiny model solves held-out questions: the figures of its model card.

A plain measurement through `generate`, so that it stands on nothing but transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from selfimprove.seeds import seed_of
from selfimprove.tiny.corpus import block
from selfimprove.tiny.problems import exemplars, labelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

__all__ = ["Accuracy", "few_shot", "measure"]

_ANSWER: Final = re.compile(r"The answer is (\d+)\.")
_BATCH: Final = 50
_NEW_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Fractions of held-out questions answered right, by chain of thought."""

    greedy: float
    sampled: float
    """Mean over the sampled paths."""
    vote: float
    """By the most frequent answer among the sampled paths."""


def few_shot(question: str, *, reasoned: bool = True) -> str:
    """Return the prompt of a question after four exemplars, with or without their reasoning."""
    shown = [
        block(
            row.question.text,
            row.rationale if reasoned and row.rationale else f"The answer is {row.gold[0]}.",
        )
        for row in exemplars()
    ]
    return "\n\n".join((*shown, block(question)))


def measure(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    *,
    questions: int = 200,
    paths: int = 16,
    temperature: float = 1.0,
) -> Accuracy:
    """Measure a model on the first `questions` of the dev split."""
    import torch

    torch.manual_seed(seed_of(0, "measure"))
    rows = labelled("dev", questions)
    prompts = [few_shot(row.question.text) for row in rows]
    gold = [row.gold[0] for row in rows]
    single = _answers(model, tokenizer, prompts, 1, 0.0)
    several = _answers(model, tokenizer, prompts, paths, temperature)
    hits = sum(drawn.count(answer) for drawn, answer in zip(several, gold, strict=True))
    return Accuracy(
        greedy=_right(single, gold) / questions,
        sampled=hits / (questions * paths),
        vote=_right(several, gold) / questions,
    )


def _right(answers: list[list[str]], gold: list[str]) -> int:
    """Count the questions whose most frequent answer, the first seen of equals, is right."""
    voted = (Counter(filter(None, drawn)).most_common(1) for drawn in answers)
    return sum(bool(top) and top[0][0] == one for top, one in zip(voted, gold, strict=True))


def _answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    paths: int,
    temperature: float,
) -> list[list[str]]:
    """Return the answers of the paths drawn for each prompt, '' where a path states none."""
    import torch

    found: list[list[str]] = []
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    generate: Callable[..., Tensor] = cast("Any", model).generate
    (newline,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for at in range(0, len(prompts), _BATCH):
        inputs = tokenizer(
            prompts[at : at + _BATCH],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_token_type_ids=False,
        ).to(model.device)
        with torch.inference_mode():
            drawn = generate(
                **inputs,
                max_new_tokens=_NEW_TOKENS,
                num_return_sequences=paths,
                **sampling,
                eos_token_id=[tokenizer.eos_token_id, newline],
            )
        texts = tokenizer.batch_decode(drawn[:, inputs["input_ids"].shape[1] :])
        stated = [_ANSWER.search(text.split("\n")[0]) for text in texts]
        answers = [match[1] if match else "" for match in stated]
        found += [answers[row : row + paths] for row in range(0, len(answers), paths)]
    return found
