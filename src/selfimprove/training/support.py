"""Tells what a model's batches may be spared: by its config, then by trying."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any, Final

import torch
from torch import Tensor

from selfimprove.sampling.architecture import full_attention, unwrapped
from selfimprove.sampling.arithmetic import Arithmetic, hidden_size
from selfimprove.sampling.loading import pick_device
from selfimprove.sampling.trial import UNABLE, are_near
from selfimprove.training import causal_products, flash_rows
from selfimprove.training.packed_rows import MOST_TOKENS, table_of
from selfimprove.training.pieces import Group, Limits
from selfimprove.training.processes import processes
from selfimprove.training.sharded import shares_out
from selfimprove.training.tokens import TokenisedExample
from selfimprove.training.training_config import TrainingConfig, piece_tokens

__all__ = ["longest_packed", "may_pack", "may_share_prefixes", "piece_limits"]

_log = logging.getLogger(__name__)

_PACKED_FROM: Final = 256  # hidden size; a CPU takes as long for attention row by row below it

_PREFIX: Final = 6
_TAILS: Final = (3, 5)
_ALONE: Final = 4


def piece_limits(model: Any, config: TrainingConfig, use: Arithmetic, *, drops: bool) -> Limits:  # noqa: ANN401
    """Return what a piece may hold, and how its rows lie: without padding where that is faster.

    Between padded rows a prefix is read in a pass of its own; several processes add up gradients once
    a pass.

    Args:
        model: that learns; it is brought to where it does.
        config: of the training.
        use: the precision that is computed in.
        drops: whether it learns with dropout.
    """
    if shares_out(config, model):
        # Whole it might not fit the GPU on which rows end to end are tried.
        return Limits(piece_tokens(config), share=False, packed=0)
    model.to(pick_device("auto"))
    packed = longest_packed(model, use, drops=drops)
    one_pass = packed > 0 or (processes() == 1 and not config.gradient_checkpointing)
    share = one_pass and may_share_prefixes(model)
    return Limits(piece_tokens(config), share=share, packed=packed)


def may_share_prefixes(model: Any) -> bool:  # noqa: ANN401
    """Whether keys and values of a prefix may be used again: full attention in every layer."""
    config = model.config.get_text_config()
    return full_attention(config) and hasattr(config, "num_hidden_layers")


def longest_packed(model: Any, use: Arithmetic, *, drops: bool) -> float:  # noqa: ANN401
    """Return the tokens of the longest row that is faster end to end with others than padded; 0: none.

    Args:
        model: where it learns.
        use: the precision that is computed in.
        drops: see `may_pack`.
    """
    if model.device.type == "cpu":
        longest: float = MOST_TOKENS if (hidden_size(model.config) or 0) >= _PACKED_FROM else 0
    else:
        longest = math.inf if use.torch_dtype in flash_rows.DTYPES else 0
    return longest if longest and may_pack(model, use.torch_dtype, drops=drops) else 0


def may_pack(model: Any, computes: torch.dtype, *, drops: bool) -> bool:  # noqa: ANN401
    """Whether rows of a model may lie end to end: each is computed as by itself.

    Args:
        model: left as it was.
        computes: the precision of its passes on a GPU; a CPU is tried in that of the weights.
        drops: whether it learns with dropout; rows that lie so have none in their attention.
    """
    inner = unwrapped(model)
    counts_anew = "position_ids" in inspect.signature(inner.forward).parameters
    attends = causal_products.may_be_used_in(model)
    if not (attends and counts_anew and may_share_prefixes(model)):
        return False
    usual, learns = inner.config._attn_implementation, model.training
    try:
        with torch.autocast(model.device.type, computes, enabled=model.device.type != "cpu"):
            found, wanted = _probe(model, drops=drops)
    except UNABLE as problem:
        _log.info("%s: rows are padded: %s", type(inner).__name__, problem)
        return False
    finally:
        inner.set_attn_implementation(usual)
        model.train(learns)
    if model.device.type != "cpu":  # states are of float32, and what they are made of is not
        found, wanted = found.to(computes), wanted.to(computes)
    return are_near(f"{type(inner).__name__}: what rows give end to end", found, wanted)


@torch.no_grad()
def _probe(model: Any, *, drops: bool) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return the states of rows end to end, and those of padded ones."""
    inner = unwrapped(model)
    states = getattr(inner, inner.base_model_prefix)
    sharing, lone = _rows(model.config.get_text_config().vocab_size)
    padded = Limits(1, share=False).piece([Group((*sharing, lone), 0)])
    packed = Limits(1, share=True, packed=math.inf).piece(
        [Group(sharing, _PREFIX), Group((lone,), 0)]
    )
    read = {
        "input_ids": packed["input_ids"].to(model.device),
        "attention_mask": table_of(packed["spans"]),
        "position_ids": packed["position_ids"].to(model.device),
        "use_cache": False,
    }
    ids = padded["input_ids"].to(model.device)
    model.eval()
    wanted: Tensor = states(input_ids=ids, use_cache=False).last_hidden_state
    causal_products.use_in(model)
    if drops:  # where attention would, it says so
        with torch.random.fork_rng(devices=[]):
            model.train()
            states(**read)
    model.eval()
    found: Tensor = states(**read).last_hidden_state[0]
    first, second = (_PREFIX + tail for tail in _TAILS)
    return found, torch.cat([wanted[0, :first], wanted[1, _PREFIX:second], wanted[2, :_ALONE]])


def _rows(words: int) -> tuple[tuple[TokenisedExample, ...], TokenisedExample]:
    """Return two rows with a common beginning, and one without."""
    numbers = torch.Generator().manual_seed(0)
    sizes = [_PREFIX, *_TAILS, _ALONE]
    parts = torch.randint(words, (sum(sizes),), generator=numbers).split(sizes)
    prefix, one, other, lone = (tuple(part.tolist()) for part in parts)
    sharing = tuple(TokenisedExample((*prefix, *tail), _PREFIX + 1) for tail in (one, other))
    return sharing, TokenisedExample(lone, 1)
