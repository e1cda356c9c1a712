"""Teacher-forced log-probabilities of given continuations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from selfimprove.sampling.lanes import left_padded
from selfimprove.sampling.prompts import Encoded

__all__ = ["continuation_logprobs"]


@torch.inference_mode()
def continuation_logprobs(
    model: Any,  # noqa: ANN401
    heads: Sequence[Encoded],
    tails: Sequence[Sequence[int]],
    budget: int,
) -> list[list[float]]:
    """Return the log-probability, in nats, of each token of each tail behind its head.

    Args:
        model: A causal language model.
        heads: Prompts.
        tails: Continuations, as tokens; an empty one gives an empty list.
        budget: Tokens in one pass, padding included.
    """
    scores: list[list[float]] = [[] for _ in heads]
    lengths = [len(h.ids) + len(t) for h, t in zip(heads, tails, strict=True)]
    order = sorted((i for i in range(len(heads)) if tails[i]), key=lambda i: (lengths[i], i))
    for batch in _batches(order, lengths, budget):
        rows = [(*heads[i].ids, *tails[i]) for i in batch]
        ids, mask = left_padded(rows, model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        keep = 1 + max(len(tails[i]) for i in batch)
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=keep,
        )
        logits = out.logits[:, -keep:-1].float()
        wanted = ids[:, 1 - keep :].unsqueeze(-1)
        found = (logits.gather(-1, wanted).squeeze(-1) - logits.logsumexp(-1)).tolist()
        for i, row in zip(batch, found, strict=True):
            scores[i] = row[-len(tails[i]) :]
    return scores


def _batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut rows, sorted from short to long, into batches of at most `budget` padded tokens."""
    batch: list[int] = []
    for i in order:
        if batch and lengths[i] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
