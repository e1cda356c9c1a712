"""Whether a vLLM server really computes with the weights that it says it has read.

It may not, and not say so: vLLM 0.32 on a CPU packs matrices as it loads them, and does not pack the output layer anew
where that is the embedding. So it is given other weights once, before the first draw, and asked how likely a text is;
transformers computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch

from selfimprove.sampling.loading import read_causal

__all__ = ["doubt_of", "untied"]

_TOKENS: Final = 32
_SHAKEN: Final = 0.15
"""Standard deviations of a matrix by which its weights are changed."""
_LEFT: Final = 0.1
"""Of that change's effect, what may be missing: precision takes less, one layer that stayed more."""


@torch.no_grad()
def doubt_of(
    base: Path,
    load: Callable[[Mapping[str, torch.Tensor]], None],
    ask: Callable[[Sequence[int]], Sequence[float]],
) -> str | None:
    """Return what speaks against a server's having taken other weights; None: nothing.

    Args:
        base: the folder of the model that it holds.
        load: gives it weights.
        ask: returns its log-probabilities of a text's tokens, the first one left out.
    """
    model = read_causal(base, torch.float32).eval()
    size = min(model.config.get_text_config().vocab_size, _TOKENS * 8)
    maker = torch.Generator().manual_seed(0)
    text = torch.randint(size, (_TOKENS,), generator=maker).tolist()
    before = _log_probs(model, text)
    for weights in model.parameters():
        noise = torch.randn(weights.shape, generator=maker)
        weights.add_(noise * _SHAKEN * weights.std(unbiased=False))
    wanted = _log_probs(model, text)
    load(dict(model.named_parameters()))
    told = ask(text)
    moved = fmean(abs(a - b) for a, b in zip(wanted, before, strict=True))
    missing = fmean(abs(a - b) for a, b in zip(wanted, told, strict=True))
    if missing <= _LEFT * moved:  # not so for NaN
        return None
    return (
        f"given other weights, it is {missing:.3g} nats a token from what they say, where they say "
        f"{moved:.3g} nats else than the old ones"
    )


def _log_probs(model: Any, text: Sequence[int]) -> list[float]:  # noqa: ANN401
    ids = torch.tensor([text])
    told = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    found: list[float] = told.gather(1, ids[0, 1:, None]).squeeze(1).tolist()
    return found


@torch.no_grad()
def untied(base: Path, to: Path) -> dict[str, str]:
    """Write a copy of a model whose output layer is the embedding, with an output layer of its own.

    Returns:
        for each weight of the copy that the model itself has not, the one that it is equal to; empty where
        nothing was tied, and nothing written.
    """
    model = read_causal(base, torch.float32)
    equal = dict(model.all_tied_weights_keys)
    if not equal:
        return {}
    for name, as_this in equal.items():
        owner, _, last = name.rpartition(".")
        own = torch.nn.Parameter(model.get_parameter(as_this).clone())
        model.get_submodule(owner).register_parameter(last, own)
    model.config.get_text_config().tie_word_embeddings = False
    model.config.tie_word_embeddings = False
    model.save_pretrained(to)
    for file in _beside(base):
        (to / file.name).write_bytes(file.read_bytes())
    return equal


def _beside(base: Path) -> Iterator[Path]:
    """Yield the files of the tokenizer and its template."""
    for file in base.iterdir():
        weights = ".safetensors" in file.name or file.suffix in (".bin", ".gguf")
        if file.is_file() and not weights and file.name != "config.json":
            yield file
