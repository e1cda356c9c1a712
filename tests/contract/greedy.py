"""Prompts with one beginning, and what transformers itself makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tests.families import byte_tokens
from transformers import AutoModelForCausalLM

from selfimprove.types import Draw, Prompt

FEW_SHOT: Final = "Q: two and two? A: four. Q: three less one? A: two. "
PROMPTS: Final = tuple(
    Prompt(f"p{i}", f"{FEW_SHOT}Q: {'a lot of ' * (i % 4)}{i} and one? A:") for i in range(7)
)


def generated(folder: Path, prompt: Prompt, max_tokens: int) -> list[int]:
    """The tokens of transformers' own greedy generation, one prompt at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = byte_tokens()(prompt.content, return_tensors="pt").input_ids
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens,
        pad_token_id=0,
    )  # fmt: skip
    new: list[int] = out[0, ids.shape[1] :].tolist()
    return new


def generated_text(folder: Path, prompt: Prompt, max_tokens: int) -> str:
    """Their text."""
    return str(
        byte_tokens().decode(generated(folder, prompt, max_tokens), skip_special_tokens=True)
    )


def by_name(draws: Sequence[Draw]) -> dict[tuple[str, int], Draw]:
    """Draws by prompt and index, of which none may come twice."""
    named = {(d.key, d.index): d for d in draws}
    assert len(named) == len(draws), "a draw came twice"
    return named
