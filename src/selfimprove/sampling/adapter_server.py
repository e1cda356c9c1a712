"""Draws from a policy in training: a vLLM server holds its base, and gets its adapter as it changes.

The server is started once for a training, on the model that the training begins with. Every adapter
gets a name of its own, as servers keep what they have read of a prompt by the adapter's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, final
from uuid import uuid4

from selfimprove.sampling.engine import ServerConfig
from selfimprove.sampling.policy_server import PolicyServer

__all__ = ["AdapterServer"]

_ALLOWED: Final = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


@final
class AdapterServer(PolicyServer):
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
        super().__init__(base, tokenizer, ends, config, environment=_ALLOWED,
                         chat_template_kwargs=chat_template_kwargs)  # fmt: skip
        self.adapter: str | None = None
        """The name of the adapter that is drawn from."""

    @property
    def policy(self) -> str:
        """The adapter's name."""
        return self.adapter or ""

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
