"""`transformers.generate` as a careful user calls it: the side that `sampling.py` measures against."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import say
from sampling_workloads import Size, Workload
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

__all__ = ["Baseline", "Generate", "Speed", "best_way", "common_prefix"]

_TRIAL_PROMPTS = 4


@dataclass(frozen=True)
class Baseline:
    """One way to call `generate`."""

    prefix_cache: bool
    """The shared prefix is read once and given as `past_key_values`."""
    batch: int
    """Prompts in one call."""

    def __str__(self) -> str:
        return f"{self.batch} prompts a call{', prefix cached' if self.prefix_cache else ''}"


@dataclass(frozen=True)
class Speed:
    """One timed run."""

    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens sampled in a second."""
        return self.tokens / self.seconds


class Generate:
    """Prompts sorted by length, padded on the left, `num_return_sequences`, cache on."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.to(device).eval()

    def sample(self, texts: Sequence[str], way: Baseline, size: Size) -> Speed:
        """Time `size.draws` samples of every text."""
        start, tokens = time.perf_counter(), 0
        ids = sorted((self.tokenizer(t)["input_ids"] for t in texts), key=len)
        prefix = common_prefix(ids) if way.prefix_cache else []
        with torch.inference_mode():
            cache = (
                self.model(torch.tensor([prefix], device=self.model.device)).past_key_values
                if prefix
                else None
            )
            for begin in range(0, len(ids), way.batch):
                rows = ids[begin : begin + way.batch]
                tokens += self._batch(rows, prefix, cache, size)
        return Speed(tokens, time.perf_counter() - start)

    def _batch(self, rows: list[list[int]], prefix: list[int], cache: Any, size: Size) -> int:  # noqa: ANN401
        longest = max(map(len, rows))
        pad = [longest - len(row) for row in rows]
        # Padding stands before a row, or, where the prefix comes from a cache, behind the prefix.
        cut = len(prefix)
        ids = [[*r[:cut], *[0] * p, *r[cut:]] for r, p in zip(rows, pad, strict=True)]
        mask = [[1] * cut + [0] * p + [1] * (len(r) - cut) for r, p in zip(rows, pad, strict=True)]
        given = {}
        if cache is not None:
            layers = [(layer.keys, layer.values) for layer in cache.layers]
            own = DynamicCache(layers)
            own.batch_repeat_interleave(len(rows) * size.draws)
            given["past_key_values"] = own
        out = self.model.generate(
            torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            do_sample=True,
            temperature=0.8,
            top_k=0,
            top_p=1.0,
            num_return_sequences=size.draws,
            max_new_tokens=size.max_tokens,
            pad_token_id=0,
            **given,
        )
        new = out[:, longest:].tolist()
        self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return sum(self._length(row) for row in new)

    def _length(self, row: list[int]) -> int:
        """Tokens sampled: up to the first end of sequence, that one included."""
        ends = self.model.generation_config.eos_token_id
        stops = {ends} if isinstance(ends, int) else set(ends or ())
        return next((i + 1 for i, token in enumerate(row) if token in stops), len(row))

    def greedy(self, text: str, max_tokens: int) -> str:
        """The text of one greedy run, alone in its batch."""
        ids = self.tokenizer(text, return_tensors="pt").input_ids.to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                pad_token_id=0,
            )
        return str(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def common_prefix(ids: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all prompts begin with; each keeps one of its own."""
    low, high = min(ids), max(ids)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return list(low[: min(same, min(map(len, ids)) - 1)])


def best_way(
    generate: Generate, texts: Sequence[str], size: Size, workload: Workload
) -> dict[Baseline, Speed]:
    """Try the ways to call `generate` on some prompts, larger batches while they are faster."""
    tried: dict[Baseline, Speed] = {}
    for prefix_cache in (False, True):
        for batch in _batches(workload, len(texts)):
            way = Baseline(prefix_cache, batch)
            few = texts[: max(batch, _TRIAL_PROMPTS)]
            tried[way] = generate.sample(few, way, size)
            say(f"  generate, {way}: {tried[way].tokens_per_s:,.0f} tokens/s on {len(few)} prompts")
            smaller = [s.tokens_per_s for w, s in tried.items() if w.prefix_cache == prefix_cache]
            if len(smaller) > 1 and smaller[-1] < 0.9 * max(smaller):
                break
    return tried


def _batches(workload: Workload, most: int) -> Iterator[int]:
    # At least one way, however few prompts there are.
    return iter([b for b in workload.generate_batches if b <= most] or [most])
