"""Tells which models the fast lanes are exact for: by their config, then by trying."""

from __future__ import annotations

import logging
from typing import Any, Final

import torch
from torch import Tensor

from selfimprove.sampling.cascade import CascadeLanes
from selfimprove.sampling.forward import Forward
from selfimprove.sampling.prompts import Encoded

__all__ = ["TOLERANCE", "cascade_reach"]

_log = logging.getLogger(__name__)

_PREFIX, _SHORT, _LONG, _STEPS = 20, 5, 9, 2

TOLERANCE: Final = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""Largest difference of logits, as a share of the largest logit, that rounding explains."""


def cascade_reach(model: Any, forward: Forward, limit: int | None) -> int:  # noqa: ANN401
    """Return up to how many tokens a row may have in the fast lanes, run by `forward`: 0 is never.

    Within its window, sliding attention is full attention; other kinds of layers, and models
    whose logits come out different, are left to transformers' own cache.
    """
    reach = _reach(model.config.get_text_config(), limit)
    if reach < _PREFIX + _LONG + _STEPS or not model._supports_attention_backend:
        return 0
    try:
        error = _probe(model, forward)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        _log.info("%s: no shared-prefix attention: %s", type(model).__name__, problem)
        return 0
    if not error <= TOLERANCE.get(model.dtype, 0.0):
        _log.info("%s: shared-prefix attention differs by %g", type(model).__name__, error)
        return 0
    return reach


def _reach(config: Any, limit: int | None) -> int:  # noqa: ANN401
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if getattr(config, "attention_chunk_size", None) or not kinds <= {
        "full_attention",
        "sliding_attention",
    }:
        return 0
    bounds = [limit, getattr(config, "sliding_window", None)]
    return min([bound for bound in bounds if bound] or [1 << 30])


@torch.inference_mode()
def _probe(model: Any, forward: Forward) -> float:  # noqa: ANN401
    """Return how far logits in the fast lanes are from those of a plain pass, as a share."""
    numbers = torch.Generator().manual_seed(0)
    tokens = torch.randint(
        model.config.get_text_config().vocab_size, (_PREFIX + 3 * _LONG,), generator=numbers
    )
    prefix, rest = tokens[:_PREFIX].tolist(), tokens[_PREFIX:].tolist()
    tails = [rest[:_SHORT], rest[_SHORT : _SHORT + _LONG]]
    following = rest[-_STEPS:]
    lanes = CascadeLanes(model, forward, prefix, room=2, longest=_LONG, new=_STEPS)
    lanes.prefill([Encoded(str(i), (*prefix, *tail)) for i, tail in enumerate(tails)])
    found = [lanes.fork([0, 1], [0, 1])]
    found += [lanes.step(torch.tensor([t, t], device=model.device)) for t in following]
    worst, largest = 0.0, 0.0
    for row, tail in enumerate(tails):
        ids = torch.tensor([prefix + tail + following], device=model.device)
        wanted: Tensor = model(input_ids=ids, use_cache=False).logits[0, -_STEPS - 1 :]
        got = torch.stack([logits[row] for logits in found])
        worst = max(worst, (got - wanted).abs().max().item())
        largest = max(largest, wanted.abs().max().item())
    return worst / max(largest, 1e-6)
