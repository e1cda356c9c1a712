"""What one writes without a trainer: transformers' forward and backward, and torch's AdamW.

Weights are float32; the forward runs under autocast where bfloat16 is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from real_size import Timed
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

__all__ = ["Loop", "padded"]

_PAD = 0  # masked


class Loop:
    """A model, its optimiser and the precision of its arithmetic."""

    def __init__(self, folder: Path, rate: float, half: bool) -> None:
        self.model = _loaded(folder).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, fused=True)
        self.half = half

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Return the context in which the model computes."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.half)

    def step(self, loss: torch.Tensor) -> None:
        """Change the weights once."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def sft(self, blocks: Iterable[torch.Tensor]) -> Timed:
        """Train on dense blocks (rows, tokens), every token of which carries loss; time the loop alone."""
        tokens, began = 0, time.perf_counter()
        for ids in blocks:
            with self.arithmetic():
                loss = self.model(input_ids=ids, labels=ids).loss
            self.step(loss)
            tokens += ids.numel()
        return Timed(tokens, time.perf_counter() - began)

    def dpo(
        self, folder: Path, batches: Sequence[Sequence[tuple[list[int], int]]], beta: float
    ) -> None:
        """Train on pairs; a batch holds all chosen rows, then all rejected ones: ids, prompt's length."""
        reference = _loaded(folder).eval()
        for batch in batches:
            with torch.no_grad(), self.arithmetic():
                before = _said(reference, batch)
            with self.arithmetic():
                gain = _said(self.model, batch) - before
            chosen, rejected = gain.chunk(2)
            self.step(-logsigmoid(beta * (chosen - rejected)).mean())

    def rl(
        self,
        folder: Path,
        batches: Sequence[torch.Tensor],
        mask: Sequence[torch.Tensor],
        reward: Callable[[torch.Tensor], torch.Tensor],
        how: dict[str, Any],
    ) -> Timed:
        """Train by REINFORCE with leave-one-out; `how`: draws, tokens, beta and the end token.

        Prompts (prompts, tokens) are padded on the left. The draws come from a copy in the precision
        of the arithmetic, made once a step. Timed is the loop alone.
        """
        reference = _loaded(folder).eval()
        rows, began = 0, time.perf_counter()
        for ids, seen in zip(batches, mask, strict=True):
            out, shown, said = self._drawn(ids, seen, how)
            new = out[:, ids.shape[1] :]
            with torch.no_grad(), self.arithmetic():
                before = _of_the_end(reference, out, shown, new, said)
            with self.arithmetic():
                now = _of_the_end(self.model, out, shown, new, said)
            worth = reward(new) - how["beta"] * (now.detach() - before)
            grouped = worth.view(-1, how["draws"])
            others = (grouped.sum(1, keepdim=True) - grouped) / (how["draws"] - 1)
            advantage = (grouped - others).flatten()
            advantage = advantage / (advantage.std() + 1e-6)
            self.step(-(advantage * now).mean())
            rows += len(out)
        return Timed(rows, time.perf_counter() - began)

    def _drawn(
        self, ids: torch.Tensor, seen: torch.Tensor, how: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return prompts with draws, their mask, and which tokens were drawn, the first end included."""
        drawer = deepcopy(self.model).eval().requires_grad_(False)
        if self.half:
            drawer = drawer.bfloat16()
        with torch.inference_mode():
            out = drawer.generate(
                ids, attention_mask=seen, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                num_return_sequences=how["draws"], max_new_tokens=how["tokens"],
                pad_token_id=how["end"], eos_token_id=how["end"],
            )  # fmt: skip
        out = out.clone()
        ended = (out[:, ids.shape[1] :] == how["end"]).long()
        said = (ended.cumsum(1) - ended) == 0
        return out, torch.cat([seen.repeat_interleave(how["draws"], 0), said.long()], 1), said


def padded(rows: Sequence[Sequence[int]], side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, (rows, longest)."""
    ids = [torch.tensor(row) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.long) for row in rows]
    filled = (
        pad_sequence(x, batch_first=True, padding_value=_PAD, padding_side=side)
        for x in (ids, mask)
    )
    return tuple(filled)  # type: ignore[return-value]


def _loaded(folder: Path) -> Any:  # noqa: ANN401
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _said(model: Any, batch: Sequence[tuple[list[int], int]]) -> torch.Tensor:  # noqa: ANN401
    """Return the log-probability of each row behind its prompt, (rows,)."""
    ids, mask = padded([row for row, _ in batch])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    told = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    place = torch.arange(1, ids.shape[1])
    scored = (place >= torch.tensor([[n] for _, n in batch])) & (mask[:, 1:] == 1)
    return (told * scored).sum(1)


def _of_the_end(
    model: Any,  # noqa: ANN401
    ids: torch.Tensor,
    mask: torch.Tensor,
    new: torch.Tensor,
    said: torch.Tensor,
) -> torch.Tensor:
    """Return the log-probability of the drawn tokens, (rows,); logits of those places alone."""
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=new.shape[1] + 1
    ).logits[:, :-1]
    told = logits.float().log_softmax(-1).gather(2, new[..., None])[..., 0]
    return (told * said).sum(1)
