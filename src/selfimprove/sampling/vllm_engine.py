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
    head_size,
    load_tokenizer,
    pick_device,
    stop_tokens,
)
from selfimprove.sampling.prompts import Encoded, check_fit, check_keys, encode
from selfimprove.sampling.server_client import GaveUpError, ServerClient
from selfimprove.sampling.texts import Texts
from selfimprove.sampling.threads import cores
from selfimprove.sampling.token_draws import TokenDraws
from selfimprove.types import Draw, Prompt
from selfimprove.weights import weights_digest

__all__ = ["VllmEngine", "command", "config_of", "environment", "server_of"]

_AT_ONCE: Final = {"cuda": 1024, "cpu": 256}
_STARTUP: Final = 1800.0
"""Seconds in which it must answer: a first start compiles."""
_PATIENCE: Final = 86_400.0
"""Seconds for all draws of a prompt, those that wait included; a server that died is noticed at once."""
_SCORED_AT_ONCE: Final = 16
"""Texts whose log-probabilities are asked for at once: vLLM holds logits of all their tokens."""
_READ_AT_ONCE: Final = 16_384
"""Tokens of prompts that a step reads on a CPU at most, and of the longest text there."""
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
        read = config_of(folder)
        use = arithmetic_of(config.dtype, device, hidden_size(read))
        ends = frozenset(stop_tokens(_generation_config_of(folder, read), self._tokenizer))
        self._identity = {
            "engine": "vllm", "vllm": vllm_environment.VERSION, "device": device.type,
            "dtype": use.dtype, "dtype_because": use.why, "weights": weights_digest(folder),
            "repeatable": "no",
        }  # fmt: skip
        server = server_of(device, use, read)
        # Last: what fails before it leaves no server behind.
        self._client = ServerClient(folder, server, environment(device, config.threads))
        texts = Texts(self._tokenizer, read.get_text_config().vocab_size)
        self._draws = TokenDraws(self._client, texts, ends, server.concurrency)
        self._limit = _least(context_length(read), self._client.context_length())

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


def server_of(device: torch.device, use: Arithmetic, config: Any) -> ServerConfig:  # noqa: ANN401
    """Return how the server of a model of this config is started and asked; `command` says the rest."""
    return ServerConfig(
        command=command(device, use, config),
        concurrency=_AT_ONCE[device.type],
        timeout=_PATIENCE,
        startup_timeout=_STARTUP,
    )


def command(device: torch.device, use: Arithmetic, config: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return how the server is started for results that mean what the built-in engine's mean.

    Args:
        device: where it computes.
        use: its precision.
        config: of the model.

    Raises:
        EngineError: there is no environment of vLLM for this device.
    """
    build = vllm_environment.build_for(device)
    python = vllm_environment.find(build)
    if python is None:
        raise EngineError(
            f"vLLM has no environment here for a {build} device: `selfimprove engines add vllm --build "
            f"{build}` makes it"
        )
    return (
        # Not by its command line: that of the build for CPUs looks for a package of another name.
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}", "--port", "{port}",
        "--host", "127.0.0.1", "--dtype", use.dtype, "--generation-config", "vllm",
        "--enable-prefix-caching", "--max-num-seqs", str(_AT_ONCE[device.type]),
        *_memory(device, use, config),
    )  # fmt: skip


def _memory(device: torch.device, use: Arithmetic, config: Any) -> tuple[str, ...]:  # noqa: ANN401
    if device.type == "cpu":
        # Its CPU build dies of a seeded request whose prompt it reads in parts, so it reads them whole.
        length = _length_on_cpu(config, use)
        return ("--no-enable-chunked-prefill", "--max-model-len", str(length),
                "--max-num-batched-tokens", str(_READ_AT_ONCE))  # fmt: skip
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    # vLLM takes a share of all memory, and refuses to start where less is free.
    return ("--gpu-memory-utilization", f"{0.95 * free / total:.2f}", "--max-model-len", "auto")


def environment(device: torch.device, threads: int | None) -> dict[str, str | None]:
    """Return the environment variables of the server beside the run's own; None: it is not to have them."""
    own: dict[str, str | None] = {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING",
        # Other packages than its own, and a key that nobody sends.
        "PYTHONPATH": None, "PYTHONHOME": None, "VLLM_API_KEY": None,
    }  # fmt: skip
    if device.type == "cuda":
        return own | ({"CUDA_VISIBLE_DEVICES": _visible(device.index)} if device.index else {})
    own |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads or cores())}
    return own | {"VLLM_CPU_KVCACHE_SPACE": str(_cache_on_cpu() // _GIB)}


def _free_memory() -> int:
    """Return the bytes that a process may still take: free ones, within its container's limit."""
    told = Path("/proc/meminfo")
    if not told.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    line = next(line for line in told.read_text().splitlines() if line.startswith("MemAvailable"))
    free, group = int(line.split()[1]) * 1024, Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no limit
        return free
    return max(0, min(free, left))


def _cache_on_cpu() -> int:
    """Return the bytes for keys and values on a CPU: what was asked for, else a quarter of what is free."""
    asked = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    return int(asked) * _GIB if asked.isdecimal() else max(_GIB, _free_memory() // 4)


def _length_on_cpu(config: Any, use: Arithmetic) -> int:  # noqa: ANN401
    """Return the tokens of the longest text on a CPU: what the model reads and the cache holds, to a limit."""
    text = config.get_text_config()
    layers, heads = getattr(text, "num_hidden_layers", 0), getattr(text, "num_key_value_heads", 0)
    a_token = 2 * layers * heads * head_size(text) * use.torch_dtype.itemsize
    room = _cache_on_cpu() // a_token if a_token else _READ_AT_ONCE
    return min(_READ_AT_ONCE, context_length(config) or _READ_AT_ONCE, room)


def _visible(index: int) -> str:
    """Return the name of a GPU for a process of its own, of those that this process sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",")[index] if seen else str(index)


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


def config_of(folder: Path) -> Any:  # noqa: ANN401
    """Return the config of the model in a folder.

    Raises:
        EngineError: there is none.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise EngineError(f"cannot read the config of {folder}: {error}") from error


def _generation_config_of(folder: Path, config: Any) -> Any:  # noqa: ANN401
    """Return the folder's generation config; without one, what its model's config says."""
    if not (folder / "generation_config.json").is_file():
        return GenerationConfig.from_model_config(config)
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise EngineError(f"cannot read generation_config.json of {folder}: {error}") from error
