"""Chooses the next token of every row: greedy, or by inverse CDF of a filtered distribution.

The uniform number of a draw's step t is a hash of (the draw's seed, t), so that a draw does not
depend on its neighbours in the batch, on their order, or on what was drawn before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfimprove.sampling.engine import SamplingConfig

__all__ = ["choose", "uniform"]

# top_p looks at this many most probable tokens first; a full sort is the rare case.
_NUCLEUS = 256

# Below this temperature a division by it could overflow, and the choice is greedy anyway.
_COLD = 1e-5

# splitmix64 (Steele, Lea, Flood 2014), its constants as signed 64-bit numbers.
_GOLDEN = -0x61C8864680B583EB
_MIX_1 = -0x40A7B892E31B1A47
_MIX_2 = -0x6B2FB644ECCEEE15


def uniform(seeds: Tensor, steps: Tensor) -> Tensor:
    """Return one float32 in [0, 1) for each (seed, step), both int64: splitmix64 of the pair.

    It has 24 bits, all that a float32 holds: times a sum it stays below that sum.
    """
    z = seeds + (steps + 1) * _GOLDEN
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    z = z ^ _shift_right(z, 31)
    return _shift_right(z, 40).float() * 2.0**-24


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift as if unsigned: torch shifts int64 with the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def choose(logits: Tensor, seeds: Tensor, steps: Tensor, sampling: SamplingConfig) -> Tensor:
    """Return the next token of each row of `logits` [rows, vocabulary].

    Temperature first, then top-k, then top-p, as in transformers and vLLM.
    """
    if sampling.temperature < _COLD or sampling.top_k == 1:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    u = uniform(seeds, steps)
    if sampling.top_k == 0 and sampling.top_p == 1:
        return _inverse_cdf(torch.softmax(scaled, -1), u)
    chances, tokens = _most_probable(scaled, sampling)
    return tokens.gather(1, _inverse_cdf(chances, u).unsqueeze(1)).squeeze(1)


def _inverse_cdf(chances: Tensor, u: Tensor) -> Tensor:
    """Return for each row the first place where the running sum exceeds u times the whole sum.

    A place without a chance does not raise the running sum, so it is never the first.
    """
    running = chances.cumsum(-1)
    return torch.searchsorted(running, u.unsqueeze(1) * running[:, -1:], right=True).squeeze(1)


def _most_probable(scaled: Tensor, sampling: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Return the chances left by top-k and top-p and their tokens, most probable first."""
    vocabulary = scaled.shape[-1]
    if sampling.top_k:
        values, tokens = scaled.topk(min(sampling.top_k, vocabulary))
        return _nucleus(torch.softmax(values, -1), sampling.top_p), tokens
    values, tokens = scaled.topk(min(_NUCLEUS, vocabulary))
    chances = (values - scaled.logsumexp(-1, keepdim=True)).exp()
    if tokens.shape[-1] < vocabulary and bool((chances.sum(-1) < sampling.top_p).any()):
        values, tokens = scaled.sort(descending=True, stable=True)
        chances = torch.softmax(values, -1)
    return _nucleus(chances, sampling.top_p), tokens


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Zero the chances, sorted from high to low, behind the first ones that reach `top_p`."""
    if top_p == 1:
        return chances
    before = chances.cumsum(-1) - chances
    return chances.masked_fill(before >= top_p, 0.0)
