"""A policy away from where it learns: its weights come from there, and its draws say how likely they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
import torch

from selfimprove.errors import EngineError
from selfimprove.sampling.arithmetic import arithmetic_of, width_of
from selfimprove.sampling.engine import BATCH_TOKENS, EngineConfig, SamplingConfig
from selfimprove.sampling.loading import check_folder, load_model, load_tokenizer, pick_device
from selfimprove.sampling.prompts import encode
from selfimprove.sampling.scoring import continuation_logprobs
from selfimprove.sampling.threads import use_threads
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.types import Draw, Prompt

__all__ = ["HeldPolicy", "Packed", "Weights", "packed"]

_PART: Final = 64 * 2**20
"""Bytes of weights that travel together, about."""

Weights: TypeAlias = Iterable[tuple[str, torch.Tensor]]
"""All weights of a model by the names its folder gives them, each once."""


class Packed(NamedTuple):
    """Some weight as it travels: bfloat16 is a type that numpy does not know."""

    bytes: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype


def packed(weights: Weights) -> Iterator[dict[str, Packed]]:
    """Yield weights in parts of about 64 MiB, each copied to the memory of the host."""
    part: dict[str, Packed] = {}
    size = 0
    for name, tensor in weights:
        here = tensor.detach().to("cpu").contiguous().flatten()
        part[name] = Packed(here.view(torch.uint8).numpy(), tensor.dtype)
        size += here.nbytes
        if size >= _PART:
            yield part
            part, size = {}, 0
    if part:
        yield part


@final
class HeldPolicy:
    """One model of the built-in engine, whose weights may be replaced between two calls."""

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        """Load the model that the policy began as.

        Raises:
            EngineError: the folder holds no causal language model, or the device is not there.
        """
        use_threads(config.threads)
        device = pick_device(config.device)
        check_folder(folder)
        use = arithmetic_of(config.dtype, device, width_of(folder))
        self._model = load_model(folder, use.torch_dtype, device).requires_grad_(False)
        self._own = dict(self._model.named_parameters())
        self._tokenizer, self._variables = load_tokenizer(folder), config.chat_template_kwargs
        self._engine = TorchEngine.of_model(self._model, self._tokenizer, config)

    @property
    def identity(self) -> dict[str, str]:
        """Engine, versions, device and dtype."""
        return self._engine.identity

    def take(self, part: Mapping[str, Packed]) -> None:
        """Replace some weights.

        Raises:
            EngineError: the model has none of such a name and size.
        """
        for name, (told, dtype) in part.items():
            own = self._own.get(name)
            # A copy: what Ray hands out is read-only, and gone with its last reference.
            new = torch.from_numpy(told.copy()).view(dtype)
            if own is None or own.numel() != new.numel():
                raise EngineError(f"a replica's model has no weight {name} of {new.numel()} numbers: "
                                  "the policy that learns is another model")  # fmt: skip
            own.data.copy_(new.view(own.shape))

    def draw(self, prompts: Sequence[Prompt], sampling: SamplingConfig, seed: int) -> list[Draw]:
        """Return all draws, each token with its log-probability under these weights.

        That is read in one more pass, at temperature 1: steps of the engine leave none behind.
        """
        draws = list(self._engine.draw(prompts, sampling, seed=seed))
        heads = {p.key: p for p in encode(prompts, self._tokenizer, self._variables)}
        told = continuation_logprobs(
            self._model, [heads[d.key] for d in draws], [d.tokens for d in draws], BATCH_TOKENS
        )
        return [replace(d, logprobs=tuple(row)) for d, row in zip(draws, told, strict=True)]
