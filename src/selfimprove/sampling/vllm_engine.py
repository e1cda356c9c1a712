"""The `vllm` engine: a server of `vllm_environment`, started for one model and stopped with the engine.

Prompts go to it as the tokens that every other part of a run reads, and texts are read from the tokens
that come back, so that a layout, a control token in a text or the end of a text mean the same as with
the built-in engine. Its draws are never repeated to the token: what else is under way changes sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, final

import torch
from transformers import AutoConfig, GenerationConfig

from selfimprove.errors import EngineError
from selfimprove.sampling import vllm_environment
from selfimprove.sampling.arithmetic import Arithmetic, arithmetic_of, hidden_size
from selfimprove.sampling.encoder import encoder_of
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, ServerConfig
from selfimprove.sampling.loading import (
    UNREADABLE,
    check_folder,
    context_length,
    load_tokenizer,
    pick_device,
    stop_tokens,
)
from selfimprove.sampling.prompts import Encoded, check_fit, check_keys, encode
from selfimprove.sampling.server_client import GaveUpError, ServerClient
from selfimprove.sampling.texts import Texts
from selfimprove.sampling.token_draws import TokenDraws
from selfimprove.types import Draw, Prompt
from selfimprove.weights import weights_digest

__all__ = ["VllmEngine", "command", "environment"]

_AT_ONCE: Final = {"cuda": 1024, "cpu": 256}
_SCORED_AT_ONCE: Final = 16
"""Texts whose log-probabilities are asked for at once: vLLM holds logits of all their tokens."""
_GIB: Final = 2**30


@final
class VllmEngine:
    """One model, held by a server until `close`."""

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        """Start the server and wait until it answers.

        Raises:
            EngineError: there is no environment of vLLM, the folder holds no model, or the server does
                not start.
        """
        device = pick_device(config.device)
        check_folder(folder)
        self._tokenizer = load_tokenizer(folder)
        self._chat_template_kwargs = config.chat_template_kwargs
        read = _config_of(folder)
        self._limit = context_length(read)
        use = arithmetic_of(config.dtype, device, hidden_size(read))
        server = ServerConfig(command=command(device, use), startup_timeout=1800)
        self._client = ServerClient(folder, server, environment(device, config.threads))
        self._draws = TokenDraws(
            self._client,
            Texts(self._tokenizer, read.get_text_config().vocab_size),
            frozenset(stop_tokens(_generation_config_of(folder), self._tokenizer)),
            _AT_ONCE[device.type],
        )
        self._identity = {
            "engine": "vllm", "vllm": vllm_environment.VERSION, "device": device.type,
            "dtype": use.dtype, "dtype_because": use.why, "weights": weights_digest(folder),
            "repeatable": "no",
        }  # fmt: skip

    @property
    def identity(self) -> dict[str, str]:
        """Engine, version, device, dtype, weights digest: stored with what it made."""
        return dict(self._identity)

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, those of one prompt together, in any order.

        Raises:
            EngineError: a prompt does not fit the model's context, two prompts share a key, or the
                server fails.
        """
        check_keys(prompts)
        encoded = encode(prompts, self._tokenizer, self._chat_template_kwargs)
        check_fit(encoded, sampling.max_tokens, self._limit)
        return self._draws.draw(encoded, sampling, model=self._client.model, seed=seed)

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return, for each (prompt, continuation), the log-probability of each of its tokens.

        In nats, at temperature 1; the end-of-sequence token is not added.

        Raises:
            EngineError: a prompt and its continuation do not fit the model's context.
        """
        heads = encode([p for p, _ in pairs], self._tokenizer, self._chat_template_kwargs)
        encoder = encoder_of(self._tokenizer, self._chat_template_kwargs)
        tails = encoder.texts([text for _, text in pairs])
        for head, tail in zip(heads, tails, strict=True):
            check_fit([head], len(tail) + 1, self._limit)  # it will draw a token, whatever is asked
        with ThreadPoolExecutor(_SCORED_AT_ONCE) as pool:
            return list(pool.map(self._scores, heads, tails))

    def _scores(self, head: Encoded, tail: Sequence[int]) -> list[float]:
        body = {"model": self._client.model, "prompt": [*head.ids, *tail], "max_tokens": 1,
                "temperature": 0, "prompt_logprobs": 0}  # fmt: skip
        try:
            answer = self._client.ask("completions", body, 0)
        except GaveUpError as error:
            raise EngineError(f"vLLM failed for good: {error}") from error
        # The server answers with a table a token: its own number, as a key in JSON, and what else
        # was asked for.
        told = answer["choices"][0]["prompt_logprobs"][len(head.ids) :] if tail else []
        return [float(of[str(token)]["logprob"]) for of, token in zip(told, tail, strict=True)]

    def close(self) -> None:
        """Stop the server; its memory is free then."""
        self._client.close()


def command(device: torch.device, use: Arithmetic) -> tuple[str, ...]:
    """Return how the server is started for results that mean what the built-in engine's mean.

    Args:
        device: where it computes.
        use: its precision.

    Raises:
        EngineError: there is no environment of vLLM for this device.
    """
    build = vllm_environment.build_for(device)
    python = vllm_environment.find(build)
    if python is None:
        raise EngineError(
            f"vLLM has no environment here for a {build} device: `selfimprove engines add vllm` makes it"
        )
    return (
        str(python), "-m", "vllm.entrypoints.cli.main", "serve", "{model}", "--port", "{port}",
        "--host", "127.0.0.1", "--dtype", use.dtype, "--max-model-len", "auto",
        "--generation-config", "vllm", "--enable-prefix-caching",
        "--max-num-seqs", str(_AT_ONCE[device.type]), *_memory(device),
    )  # fmt: skip


def _memory(device: torch.device) -> tuple[str, ...]:
    if device.type == "cpu":
        # Its CPU build dies of a seeded request whose prompt it reads in parts.
        return ("--max-num-batched-tokens", "16384")
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    # vLLM takes a share of all memory, and refuses to start where less is free.
    return ("--gpu-memory-utilization", f"{0.95 * free / total:.2f}")


def environment(device: torch.device, threads: int | None) -> dict[str, str]:
    """Return the environment variables of the server beside the run's own."""
    own = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if device.type == "cuda":
        return own | ({"CUDA_VISIBLE_DEVICES": _visible(device.index)} if device.index else {})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    own["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, int(memory / 6)))
    return own | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def _visible(index: int) -> str:
    """Return the name of a GPU for a process of its own, of those that this process sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",")[index] if seen else str(index)


def _config_of(folder: Path) -> Any:  # noqa: ANN401
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise EngineError(f"cannot read the config of {folder}: {error}") from error


def _generation_config_of(folder: Path) -> Any:  # noqa: ANN401
    """Return the folder's generation config; without one, what its model's config says."""
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    return GenerationConfig.from_model_config(_config_of(folder))
