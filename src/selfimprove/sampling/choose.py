"""Chooses the next token of every row: greedy, or by inverse CDF of a filtered distribution.

The uniform number of a draw's step t is a hash of (the draw's seed, t), so that a draw does not
depend on its neighbours in the batch, on their order, or on what was drawn before it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.fused import choose_among_all
from selfimprove.sampling.fused_trials import can_choose

__all__ = ["Choice", "choose", "choose_blindly", "choose_from_all", "may_be_unsure", "uniform"]

# top_p looks at this many most probable tokens first; a full sort is the rare case.
_NUCLEUS = 256

# A vocabulary is searched in blocks of this many tokens: first for the block, then in it.
_BLOCK = 256

# On a CPU so many numbers are taken at once, that they stay in its cache from pass to pass.
_CACHED = 1 << 19

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


class Choice(NamedTuple):
    """The next token of each row, [rows]."""

    tokens: Tensor
    sure: Tensor | None
    """Whether the tokens looked at were enough to choose it from, [rows]; None: they always are."""


def choose(logits: Tensor, seeds: Tensor, steps: Tensor, sampling: SamplingConfig) -> Tensor:
    """Return the next token of each row of `logits` [rows, vocabulary].

    Temperature first, then top-k, then top-p, as in transformers and vLLM.
    """
    found = choose_blindly(logits, seeds, steps, sampling)
    if found.sure is None:
        return found.tokens
    rows = (~found.sure).nonzero().squeeze(1)
    if len(rows):
        found.tokens[rows] = choose_from_all(logits[rows], seeds[rows], steps[rows], sampling)
    return found.tokens


def choose_from_all(
    logits: Tensor, seeds: Tensor, steps: Tensor, sampling: SamplingConfig
) -> Tensor:
    """Choose for rows that `choose_blindly` was unsure of, out of the whole vocabulary, sorted."""
    values, tokens = (logits.float() / sampling.temperature).sort(descending=True, stable=True)
    chances = _nucleus(torch.softmax(values, -1), sampling.top_p)
    return _one_of(tokens, chances, uniform(seeds, steps))


def choose_blindly(
    logits: Tensor, seeds: Tensor, steps: Tensor, sampling: SamplingConfig
) -> Choice:
    """Choose without asking the device: where `sure` is false, only `choose_from_all` can tell."""
    if sampling.temperature < _COLD or sampling.top_k == 1:
        return Choice(logits.argmax(-1), None)
    u = uniform(seeds, steps)
    if sampling.top_k == 0 and sampling.top_p == 1:
        if can_choose(logits.device, logits.dtype):
            return Choice(choose_among_all(logits, u, sampling.temperature), None)
        rows = max(_CACHED // logits.shape[1], 1) if logits.device.type == "cpu" else len(logits)
        parts = zip(logits.split(rows), u.split(rows), strict=True)
        found = [_among_all(part, of, sampling.temperature) for part, of in parts]
        return Choice(torch.cat(found), None)
    chances, tokens, sure = _most_probable(logits.float() / sampling.temperature, sampling)
    return Choice(_one_of(tokens, chances, u), sure)


def may_be_unsure(sampling: SamplingConfig) -> bool:
    """Tell whether `choose_blindly` may leave a row unsure."""
    cold = sampling.temperature < _COLD
    return not cold and sampling.top_k == 0 and sampling.top_p < 1


def _among_all(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Choose from the softmax of `logits` / `temperature`, by inverse CDF of its blocks, then within one.

    The softmax is never divided by its sum: a multiple of every chance chooses the same.
    """
    rows, vocabulary = logits.shape
    count = -(-vocabulary // _BLOCK)
    padded = torch.zeros(rows, count * _BLOCK, device=logits.device)
    chances = padded[:, :vocabulary].copy_(logits)
    chances.sub_(chances.amax(-1, keepdim=True)).mul_(1 / temperature).exp_()
    blocks = padded.view(rows, count, _BLOCK)
    running = blocks.sum(-1).cumsum(-1)
    wanted = u.unsqueeze(1) * running[:, -1:]
    block = torch.searchsorted(running, wanted, right=True).clamp_(max=count - 1)
    before = torch.nn.functional.pad(running, (1, 0)).gather(1, block)
    inside = blocks.take_along_dim(block.unsqueeze(2), 1).squeeze(1).cumsum(-1)
    place = torch.searchsorted(inside, wanted - before, right=True)
    # A block's sum and its last running sum may differ by rounding: never behind its last chance.
    last = torch.searchsorted(inside, inside[:, -1:].contiguous())
    return (block * _BLOCK + torch.minimum(place, last)).squeeze(1)


def _one_of(tokens: Tensor, chances: Tensor, u: Tensor) -> Tensor:
    """Return each row's token at the first place where its running sum exceeds u times the whole sum.

    A place without a chance does not raise the running sum, so it is never the first.
    """
    running = chances.cumsum(-1)
    place = torch.searchsorted(running, u.unsqueeze(1) * running[:, -1:], right=True)
    # Of NaN it is behind the last one.
    return tokens.gather(1, place.clamp_(max=running.shape[1] - 1)).squeeze(1)


def _most_probable(
    scaled: Tensor, sampling: SamplingConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the chances left by top-k and top-p, their tokens, and whether these are all there are.

    Most probable first.
    """
    vocabulary = scaled.shape[-1]
    if sampling.top_k:
        values, tokens = scaled.topk(min(sampling.top_k, vocabulary))
        return _nucleus(torch.softmax(values, -1), sampling.top_p), tokens, None
    values, tokens = scaled.topk(min(_NUCLEUS, vocabulary))
    chances = (values - scaled.logsumexp(-1, keepdim=True)).exp()
    whole = tokens.shape[-1] == vocabulary
    # NaN is sure: it is looked for where rows begin, and no sort would help.
    sure = None if whole else ~(chances.sum(-1) < sampling.top_p)
    return _nucleus(chances, sampling.top_p), tokens, sure


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Zero the chances, sorted from high to low, behind the first ones that reach `top_p`."""
    if top_p == 1:
        return chances
    before = chances.cumsum(-1) - chances
    return chances.masked_fill(before >= top_p, 0.0)
