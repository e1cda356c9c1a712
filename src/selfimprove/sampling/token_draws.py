"""Draws asked for and told as tokens, of a vLLM server: prompts and texts mean what they mean here.

All draws of a prompt are one request; vLLM seeds each by the request's seed and its index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, final

from selfimprove.errors import EngineError
from selfimprove.reasoning import cut
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.server_client import (
    GaveUpError,
    ServerClient,
    UnansweredError,
    finish_of,
)
from selfimprove.sampling.texts import Texts
from selfimprove.seeds import seed_of
from selfimprove.types import Draw, FinishReason

__all__ = ["TokenDraws"]

# Left out, a server takes them from the model's generation config; log-probabilities do not show it.
_NOTHING_ELSE: Final = {"min_p": 0.0, "repetition_penalty": 1.0,
                        "presence_penalty": 0.0, "frequency_penalty": 0.0}  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class TokenDraws:
    """Asks one server for draws."""

    client: ServerClient
    texts: Texts
    ends: Collection[int]
    """Tokens that end a text."""
    at_once: int
    """Draws under way at once, if their prompts have as many."""

    def draw(
        self, prompts: Sequence[Encoded], sampling: SamplingConfig, *, model: str, seed: int
    ) -> Iterator[Draw]:
        """Yield all draws of all prompts, in any order, with tokens and log-probabilities.

        Args:
            prompts: as tokens.
            sampling: nothing else shapes the draws, whatever the model's generation config says.
            model: the name of an adapter, or of the server's own model.
            seed: of all draws.

        Raises:
            EngineError: the server refuses a request, fails for good, or tells no tokens.
        """
        pool = ThreadPoolExecutor(max(1, self.at_once // sampling.n))
        try:
            waiting = [pool.submit(self._of_one, p, sampling, model, seed) for p in prompts]
            for done in as_completed(waiting):
                yield from done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _of_one(
        self, prompt: Encoded, sampling: SamplingConfig, model: str, seed: int
    ) -> list[Draw]:
        own_seed = seed_of(seed, "server", prompt.key)
        thinking = self.texts.is_thinking(prompt.ids)
        different = sampling.n if sampling.temperature else 1  # vLLM refuses several greedy ones
        body = {**self.client.body(sampling, own_seed), **_NOTHING_ELSE, "model": model,
                "prompt": list(prompt.ids), "n": different, "top_k": sampling.top_k or -1,
                "return_token_ids": True, "logprobs": 0,
                "stop_token_ids": sorted(self.ends), "ignore_eos": True}  # fmt: skip
        if thinking or self.texts.may_think:
            body.pop("stop", None)  # in the reasoning a stop string ends nothing
        try:
            answer = self.client.ask("completions", body, own_seed)
        except GaveUpError as error:
            raise UnansweredError(
                f"a request to {self.client.url} failed for good: {error}"
            ) from error
        said = [self._said(choice) for choice in answer["choices"]]
        texts = self.texts.continuations([(prompt.ids, self._without_end(s.tokens)) for s in said])
        draws = [
            _draw(prompt, one, text, sampling.stop, thinking=thinking)
            for one, text in zip(said, texts, strict=True)
        ]
        return (
            draws
            if sampling.temperature
            else [replace(draws[0], index=i) for i in range(sampling.n)]
        )

    def _said(self, choice: Mapping[str, Any]) -> _Said:
        tokens = choice.get("token_ids")
        told = (choice.get("logprobs") or {}).get("token_logprobs")
        if not tokens or not told or len(tokens) != len(told):
            raise EngineError(
                f"{self.client.url} does not tell the tokens of a draw and their log-probabilities: "
                "vLLM does"
            )
        return _Said(int(choice["index"]), tuple(tokens), tuple(told), finish_of(choice))

    def _without_end(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        return tokens[:-1] if tokens[-1] in self.ends else tokens


class _Said(NamedTuple):
    """What a server tells of a draw."""

    number: int
    """Which of the prompt's draws it is."""
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: FinishReason


def _draw(prompt: Encoded, said: _Said, text: str, stop: Sequence[str], *, thinking: bool) -> Draw:
    """Return a draw of a prompt; a stop string in its text ends it."""
    before = cut(text, stop, thinking=thinking)
    text, finish = (text, said.finish) if before is None else (before, "stop")
    return Draw(prompt.key, said.number, text, finish, len(prompt.ids), len(said.tokens), said.tokens,
                said.logprobs, thinking=thinking)  # fmt: skip
