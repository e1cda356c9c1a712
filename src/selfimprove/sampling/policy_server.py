"""A server that holds a policy in training, as whoever trains it draws from it: in tokens, and none may be missing.

Draws carry their tokens and log-probabilities: the server computes in its own way, and what learns
from them must know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.prompts import check_keys, encode
from selfimprove.sampling.server_client import ServerClient
from selfimprove.sampling.texts import Texts
from selfimprove.sampling.token_draws import TokenDraws
from selfimprove.types import Draw, Prompt

__all__ = ["PolicyServer"]


class PolicyServer(ABC):
    """A server that draws from a policy; how it comes to hold the newest one is its own matter."""

    def __init__(
        self,
        held: Path,
        tokenizer: Any,  # noqa: ANN401
        ends: Collection[int],
        config: ServerConfig,
        *,
        environment: Mapping[str, str | None],
        chat_template_kwargs: Mapping[str, Any] | None,
    ) -> None:
        """Reach the server, or start it on the model in a folder.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        self._client = ServerClient(held, config, environment)
        texts = Texts(tokenizer, len(tokenizer))
        self._draws = TokenDraws(self._client, texts, ends, config.concurrency)
        self._tokenizer = tokenizer
        self._chat_template_kwargs = chat_template_kwargs

    @property
    @abstractmethod
    def policy(self) -> str:
        """What the server calls the newest policy."""

    @property
    def url(self) -> str:
        """Where the server is: other processes of a training draw from it, too."""
        return self._client.url

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, with tokens and log-probabilities, in any order.

        Raises:
            EngineError: two prompts share a key, or a draw failed: none may be missing.
        """
        check_keys(prompts)
        encoded = encode(prompts, self._tokenizer, self._chat_template_kwargs)
        return self._draws.draw(encoded, sampling, model=self.policy, seed=seed)

    def close(self) -> None:
        """Stop the server, if it was started here."""
        self._client.close()
