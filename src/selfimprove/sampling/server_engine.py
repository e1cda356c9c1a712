"""The `server` engine: prompts go to an OpenAI-compatible server, draws come back as they finish.

One request a draw, each with its own seed, so that a draw does not depend on which others were under
way; servers with a prefix cache read a prompt once for all its draws. Whether equal requests get
equal texts is up to the server; the engine's identity says that a server made them.

The server has its own tokenizer and chat template. Control tokens in what it is sent are broken by a
space: those of the model's folder where that is here, and the usual ones. Turns that its template does
not take are laid out as the built-in engine would: by the folder's template, or once the server
refuses them. What a template elsewhere leaves out without a word cannot be seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

import requests

from selfimprove.errors import EngineError
from selfimprove.reasoning import cut, holds_mark, opens_reasoning
from selfimprove.sampling.chat_template import ChatTemplate, warn_once, ways
from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.literal_text import control_tokens_in, spelled_out
from selfimprove.sampling.prompts import Encoded, check_keys
from selfimprove.sampling.server_process import ServerProcess
from selfimprove.seeds import rng, seed_of
from selfimprove.types import Draw, FinishReason, Message, Prompt, Role

__all__ = ["ServerEngine"]

_AGAIN: Final = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT: Final = 60.0
# Left out, a server takes them from the model's generation config; log-probabilities do not show it.
_NOTHING_ELSE: Final = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
                        "presence_penalty": 0.0, "frequency_penalty": 0.0}  # fmt: skip
_FINISHED: Final[dict[str, FinishReason]] = {"length": "length"}


class _GaveUpError(Exception):
    """A request failed for good."""


class _RefusedError(EngineError):
    """The server says that a request itself is wrong."""


@final
class ServerEngine:
    """Draws from a server that holds the model."""

    def __init__(
        self,
        model: Path,
        config: ServerConfig,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Reach the server, or start it; `chat_template_kwargs` go with every request for a reply.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        self._config = config
        self._process = ServerProcess(model, config) if config.command else None
        self._url = self._process.url if self._process else str(config.url).rstrip("/")
        self._model = config.model or str(model)
        self._variables = {
            **config.extra_body.get("chat_template_kwargs", {}),
            **(chat_template_kwargs or {}),
        }
        self._folder = model
        self._control = control_tokens_in(model)
        self._thinks = self._opens_reasoning()
        self._taken: dict[tuple[Role, ...], str] = {}
        self._closing = threading.Event()
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=config.concurrency)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        if key := os.environ.get(config.api_key_env):
            self._session.headers["Authorization"] = f"Bearer {key}"

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._url

    @property
    def identity(self) -> dict[str, str]:
        """The server and the model it was asked for; its weights are known to it alone."""
        host = "started by the run" if self._process else urlsplit(self._url).netloc
        return {"engine": "server", "server": host, "model": self._model, "repeatable": "no"}

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, each as it finishes, in any order.

        A draw that failed after all attempts has the finish 'error' and no text.

        Raises:
            EngineError: two prompts share a key; the server refuses the request as such, e.g. an
                unknown model; or more than `max_failed` of the draws failed.
        """
        check_keys(prompts)
        sent = [self._sent(prompt) for prompt in prompts]
        asked = [(prompt, index) for prompt in sent for index in range(sampling.n)]
        failures: list[str] = []
        pool = ThreadPoolExecutor(self._config.concurrency)
        try:
            waiting: dict[Future[Draw], tuple[Prompt, int]] = {
                pool.submit(self._draw_one, prompt, index, sampling, seed): (prompt, index)
                for prompt, index in asked
            }
            for done in as_completed(waiting):
                prompt, index = waiting[done]
                try:
                    yield done.result()
                except _GaveUpError as error:
                    failures.append(str(error))
                    self._refuse_many(failures, len(asked))
                    yield Draw(prompt.key, index, "", "error", 0, 0)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _refuse_many(self, failures: Sequence[str], asked: int) -> None:
        if len(failures) > self._config.max_failed * asked:
            raise EngineError(
                f"{len(failures)} of {asked} requests to {self._url} failed for good, the last: "
                f"{failures[-1]}; see the server's log, or allow more with engine.server.max_failed"
            )

    def _draw_one(self, prompt: Prompt, index: int, sampling: SamplingConfig, seed: int) -> Draw:
        own_seed = seed_of(seed, "server", prompt.key, index)
        body = self._body(sampling, own_seed)
        if isinstance(prompt.content, str):
            answer = self._ask("completions", {**body, "prompt": prompt.content}, own_seed)
            said = _draw(prompt.key, index, _read(answer, "text"), answer)
            said = replace(said, thinking=opens_reasoning(prompt.content))
        else:
            answer = self._chat(prompt.content, body, own_seed)
            said = _draw(prompt.key, index, _read(answer, "message", "content"), answer)
            # A server with a reasoning parser has parted the two; the field has two names.
            fields = ("reasoning_content", "reasoning")
            thought = next(filter(None, (_read(answer, "message", f) for f in fields)), "")
            said = replace(said, reasoning=thought, thinking=self._thinks and not thought)
        # Not every server leaves a stop string out.
        text = cut(said.text, sampling.stop, thinking=said.thinking)
        return said if text is None else replace(said, text=text)

    def _sent(self, prompt: Prompt) -> Prompt:
        """Return a prompt as the server gets it."""
        if isinstance(prompt.content, str):
            return replace(prompt, content=spelled_out(prompt.content, self._control))
        turns: Sequence[Message] = prompt.content
        if len(ways(turns)) > 1 and self._template is not None:
            turns = self._template.taken(turns)
        told = tuple(Message(t.role, self._spelled_out(t)) for t in turns)
        return replace(prompt, content=told)

    def _spelled_out(self, turn: Message) -> str:
        own = turn.role == "assistant"  # in its own words the marks of reasoning mean what they say
        control = [t for t in self._control if not (own and holds_mark(t))]
        return spelled_out(turn.content, control)

    def _opens_reasoning(self) -> bool:
        """Tell whether the chat template opens a reasoning block, where the model's folder is here."""
        told = (self._folder / name for name in ("chat_template.jinja", "tokenizer_config.json"))
        if not any(holds_mark(p.read_text(encoding="utf-8")) for p in told if p.is_file()):
            return False
        if self._template is None:
            return False
        asked = self._template.rendered([Message("user", "x")], to_be_continued=True)
        return opens_reasoning(asked)

    @cached_property
    def _template(self) -> ChatTemplate | None:
        """The chat template in the model's folder; None: there is none, or no folder."""
        if not (self._folder / "tokenizer_config.json").is_file():
            return None
        from selfimprove.sampling.loading import load_tokenizer

        tokenizer = load_tokenizer(self._folder)
        return ChatTemplate(tokenizer, self._variables) if tokenizer.chat_template else None

    def _chat(
        self, turns: tuple[Message, ...], body: Mapping[str, Any], own_seed: int
    ) -> dict[str, Any]:
        """Ask for a reply; turns that the server refuses are laid out as its template may take them."""
        roles = tuple(turn.role for turn in turns)
        known = self._taken.get(roles)
        refusal: _RefusedError | None = None
        for refused, taken in ways(turns):
            if known in (None, refused):
                messages = [{"role": turn.role, "content": turn.content} for turn in taken]
                asked = {**body, "messages": messages}
                if self._variables:
                    asked["chat_template_kwargs"] = self._variables
                try:
                    answer = self._ask("chat/completions", asked, own_seed)
                except _RefusedError as error:
                    refusal = refusal or error
                    continue
                if refused and known is None:
                    warn_once(self._model, refused)
                self._taken[roles] = refused
                return answer
        raise refusal or _GaveUpError("there is nothing to ask")

    def draw_tokens(
        self, prompt: Encoded, index: int, sampling: SamplingConfig, *, model: str, seed: int
    ) -> Draw:
        """Return one draw with its tokens and their log-probabilities, as vLLM tells them.

        `model` is the name of an adapter, or of the server's own model. Nothing but temperature and
        top_p of `sampling` shapes the draw, whatever the model's generation config says.

        Raises:
            EngineError: the server refuses the request, fails for good, or tells no tokens.
        """
        own_seed = seed_of(seed, "server", prompt.key, index)
        body = {**self._body(sampling, own_seed), **_NOTHING_ELSE, "model": model,
                "prompt": list(prompt.ids), "return_token_ids": True, "logprobs": 0}  # fmt: skip
        try:
            answer = self._ask("completions", body, own_seed)
        except _GaveUpError as error:
            raise EngineError(f"a request to {self._url} failed for good: {error}") from error
        first = answer["choices"][0]
        tokens = first.get("token_ids")
        told = (first.get("logprobs") or {}).get("token_logprobs")
        if not tokens or not told or len(tokens) != len(told):
            raise EngineError(
                f"{self._url} does not tell the tokens of a draw and their log-probabilities, which "
                "reinforcement learning needs: vLLM does (engine.server.adapters)"
            )
        draw = _draw(prompt.key, index, _read(answer, "text"), answer)
        return replace(draw, prompt_tokens=len(prompt.ids), new_tokens=len(tokens),
                       tokens=tuple(tokens), logprobs=tuple(told))  # fmt: skip

    def _body(self, sampling: SamplingConfig, own_seed: int) -> dict[str, Any]:
        """Return what every request says, whatever it asks to continue."""
        body: dict[str, Any] = {
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": own_seed % 2**31,
            "stream": False,
            **self._config.extra_body,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.top_k:
            body["top_k"] = sampling.top_k  # beyond OpenAI's interface, known to vLLM and SGLang
        return body

    def tell(self, page: str, body: Mapping[str, Any]) -> None:
        """Send what is no request for a text, such as the order to load an adapter.

        Raises:
            EngineError: the server refuses it.
        """
        try:
            response = self._session.post(
                f"{self._url}/{page}", json=body, timeout=self._config.timeout
            )
        except requests.RequestException as error:
            raise EngineError(f"{self._url}/{page}: {type(error).__name__}: {error}") from error
        if response.status_code != requests.codes.ok:
            raise EngineError(self._refusal(page, response))

    def _refusal(self, page: str, response: requests.Response) -> str:
        return (
            f"{self._url}/{page} refuses the request (status {response.status_code}): "
            f"{response.text[:300]}"
        )

    def _ask(self, page: str, body: Mapping[str, Any], own_seed: int) -> dict[str, Any]:
        """Send a request, again and again with growing pauses where that can help.

        Raises:
            EngineError: the server says that the request itself is wrong, or was started here and
                has ended.
            _GaveUpError: every attempt failed.
        """
        jitter = rng(own_seed, "jitter")
        why, told = "", 0.0
        for attempt in range(self._config.retries + 1):
            if attempt:
                pause = told or min(2.0 ** (attempt - 1), _LONGEST_WAIT) * jitter.uniform(0.5, 1.0)
                _pause(self._closing, pause)
            try:
                response = self._session.post(
                    f"{self._url}/{page}", json=body, timeout=self._config.timeout
                )
            except requests.RequestException as error:
                if self._process:
                    self._process.check()
                why = f"{type(error).__name__}: {error}"
                continue
            if response.status_code in _AGAIN:
                why = f"status {response.status_code}: {response.text[:200]}"
                told = _retry_after(response)
                continue
            if response.status_code != requests.codes.ok:
                raise _RefusedError(self._refusal(page, response))
            try:
                answer: dict[str, Any] = response.json()
                answer["choices"][0]
            except (ValueError, LookupError, TypeError) as error:
                why = f"an answer that is no completion ({error}): {response.text[:200]}"
                continue
            return answer
        raise _GaveUpError(why)

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Not to be had over this interface for given texts.

        Raises:
            EngineError: always; the `torch` engine gives them.
        """
        raise EngineError(
            f"{self._url} gives no log-probabilities of {len(pairs)} given texts: "
            "use the torch engine for this"
        )

    def close(self) -> None:
        """Stop a server that was started; leave one alone that ran before."""
        self._closing.set()  # nobody waits for what is still under way
        self._session.close()
        if self._process:
            self._process.stop()


def _draw(key: str, index: int, text: str, answer: Mapping[str, Any]) -> Draw:
    usage = answer.get("usage") or {}
    finish = _FINISHED.get(str(answer["choices"][0].get("finish_reason")), "stop")
    return Draw(key, index, text, finish,
                int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))  # fmt: skip


def _read(answer: Mapping[str, Any], *path: str) -> str:
    """Return the text of the first choice; a server may say null where it says nothing."""
    found: Any = answer["choices"][0]
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _retry_after(response: requests.Response) -> float:
    """Return Retry-After where it is a number of seconds, else 0."""
    told = response.headers.get("Retry-After", "")
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else 0.0


def _pause(closing: threading.Event, seconds: float) -> None:
    """Wait; give up as soon as the engine is closed."""
    if closing.wait(seconds):
        raise _GaveUpError("the engine was closed")
