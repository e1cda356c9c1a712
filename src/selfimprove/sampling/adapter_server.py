"""Draws from a policy in training: a vLLM server holds its base, and gets its adapter as it changes.

The server is started once for a training, on the model that the training begins with. Every adapter
gets a name of its own, as servers keep what they have read of a prompt by the adapter's name. The
draws carry their tokens and log-probabilities: the server computes in its own way, and what learns
from them must know.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final
from uuid import uuid4

from selfimprove.reasoning import GENERATION_PROMPT, opens_reasoning
from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.prompts import check_keys, encode
from selfimprove.sampling.server_engine import ServerEngine
from selfimprove.types import Draw, Prompt

__all__ = ["AdapterServer"]

_ALLOWS: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


@final
class AdapterServer:
    """A server that holds a policy's base and its newest adapter."""

    def __init__(
        self,
        base: Path,
        tokenizer: Any,  # noqa: ANN401
        config: ServerConfig,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Reach the server, or start it on the base.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        os.environ.setdefault(_ALLOWS, "True")  # inherited by a server that is started here
        self._server = ServerEngine(base, config)
        self._tokenizer = tokenizer
        self._chat_template_kwargs = chat_template_kwargs
        self._pool = ThreadPoolExecutor(config.concurrency)
        self.adapter: str | None = None
        """The name of the adapter that is drawn from."""

    @property
    def url(self) -> str:
        """Where the server is: other processes of a training draw from it, too."""
        return self._server.url

    def load(self, adapter: Path) -> None:
        """Give the server the adapter in this folder, in place of the one before.

        Raises:
            EngineError: the server does not take it.
        """
        name = f"policy-{uuid4().hex[:12]}"
        path = str(adapter.resolve())
        self._server.tell("load_lora_adapter", {"lora_name": name, "lora_path": path})
        if self.adapter is not None:
            self._server.tell("unload_lora_adapter", {"lora_name": self.adapter})
        self.adapter = name

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, with tokens and log-probability, in any order.

        Raises:
            EngineError: two prompts share a key, or a draw failed: none may be missing.
        """
        check_keys(prompts)
        name = self.adapter or ""
        encoded = encode(prompts, self._tokenizer, self._chat_template_kwargs)
        waiting = [
            self._pool.submit(self._server.draw_tokens, p, i, sampling, model=name, seed=seed)
            for p in encoded
            for i in range(sampling.n)
        ]
        ends = {p.key: self._tokenizer.decode(p.ids[-GENERATION_PROMPT:]) for p in encoded}
        thinking = {key: opens_reasoning(end) for key, end in ends.items()}
        try:
            for done in as_completed(waiting):
                draw = done.result()
                yield replace(draw, thinking=thinking[draw.key])
        finally:
            for request in waiting:
                request.cancel()

    def close(self) -> None:
        """Stop the server, if it was started here."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._server.close()
