"""Draws from a policy in training: a vLLM server holds its base, and gets its adapter as it changes.

The server is started once for a training, on the model that the training begins with. Every adapter
gets a name of its own, as servers keep what they have read of a prompt by the adapter's name. The
draws carry their tokens and log-probabilities: the server computes in its own way, and what learns
from them must know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final
from uuid import uuid4

from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.prompts import check_keys, encode
from selfimprove.sampling.server_client import ServerClient
from selfimprove.sampling.texts import Texts
from selfimprove.sampling.token_draws import TokenDraws
from selfimprove.types import Draw, Prompt

__all__ = ["AdapterServer"]

_ALLOWED: Final = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


@final
class AdapterServer:
    """A server that holds a policy's base and its newest adapter."""

    def __init__(
        self,
        base: Path,
        tokenizer: Any,  # noqa: ANN401
        ends: Collection[int],
        config: ServerConfig,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Reach the server, or start it on the base.

        Args:
            base: the folder of the model that the adapters change.
            tokenizer: of the model.
            ends: tokens that end a text.
            config: of the server.
            chat_template_kwargs: variables of the chat template.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        self._client = ServerClient(base, config, _ALLOWED)
        texts = Texts(tokenizer, len(tokenizer))
        self._draws = TokenDraws(self._client, texts, ends, config.concurrency)
        self._tokenizer = tokenizer
        self._chat_template_kwargs = chat_template_kwargs
        self.adapter: str | None = None
        """The name of the adapter that is drawn from."""

    @property
    def url(self) -> str:
        """Where the server is: other processes of a training draw from it, too."""
        return self._client.url

    def load(self, adapter: Path) -> None:
        """Give the server the adapter in this folder, in place of the one before.

        Raises:
            EngineError: the server does not take it.
        """
        name = f"policy-{uuid4().hex[:12]}"
        path = str(adapter.resolve())
        self._client.tell("load_lora_adapter", {"lora_name": name, "lora_path": path})
        if self.adapter is not None:
            self._client.tell("unload_lora_adapter", {"lora_name": self.adapter})
        self.adapter = name

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, with tokens and log-probability, in any order.

        Raises:
            EngineError: two prompts share a key, or a draw failed: none may be missing.
        """
        check_keys(prompts)
        encoded = encode(prompts, self._tokenizer, self._chat_template_kwargs)
        return self._draws.draw(encoded, sampling, model=self.adapter or "", seed=seed)

    def close(self) -> None:
        """Stop the server, if it was started here."""
        self._client.close()
