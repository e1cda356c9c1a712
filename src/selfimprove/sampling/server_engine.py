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

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Final, TypeVar, final

from selfimprove.errors import EngineError
from selfimprove.files import read_json
from selfimprove.reasoning import cut, holds_mark, opens_reasoning
from selfimprove.sampling.chat_template import ChatTemplate, warn_once, ways
from selfimprove.sampling.conversation import Asked
from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.literal_text import control_tokens_in, spelled_out
from selfimprove.sampling.prompts import check_fit, check_keys, encode
from selfimprove.sampling.server_client import (
    GaveUpError,
    RefusedError,
    ServerClient,
    UnansweredError,
    finish_of,
    read,
)
from selfimprove.sampling.server_habits import Habits, habits_of
from selfimprove.sampling.server_stream import ServerCall, thought_of
from selfimprove.seeds import seed_of
from selfimprove.types import Begun, Draw, Message, Prompt, Role

__all__ = ["ServerEngine"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_TRIAL: Final = {"temperature": 2.0, "top_p": 1.0, "top_k": 0, "max_tokens": 16, "stop": ()}
"""Sampling that gives another text with every seed."""


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
        self._client = ServerClient(model, config)
        self._concurrency, self._max_failed = config.concurrency, config.max_failed
        self._pool = ThreadPoolExecutor(config.concurrency)
        self._variables = {
            **config.extra_body.get("chat_template_kwargs", {}),
            **(chat_template_kwargs or {}),
        }
        self._folder = model
        self._holds_folder = config.follows_model or (not config.command and config.model is None)
        self._habits: Habits | None = None
        self._control = control_tokens_in(model)
        self._thinks = self._opens_reasoning()
        self._taken: dict[tuple[Role, ...], str] = {}

    @property
    def identity(self) -> dict[str, str]:
        """The server and the model it was asked for; its weights are known to it alone."""
        client = self._client
        return {
            "engine": "server",
            "server": client.host,
            "software": str(client.software),
            "model": client.model,
            "repeatable": "no",
        }

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, each as it finishes, in any order.

        A draw that failed after all attempts has the finish 'error' and no text.

        Raises:
            EngineError: two prompts share a key; one does not fit the context of the model in the folder
                that the server holds; the server draws greedily whatever is asked, or refuses the
                request as such, e.g. an unknown model; or more than `max_failed` of the draws failed.
        """
        check_keys(prompts)
        self._check_fit(prompts, sampling.max_tokens)
        sent = [self._sent(prompt) for prompt in prompts]
        self._check_habits(sent, sampling)
        asked = [(prompt, index) for prompt in sent for index in range(sampling.n)]
        failures: list[str] = []
        waiting: dict[Future[Draw], tuple[Prompt, int]] = {
            self._pool.submit(self._draw_one, prompt, index, sampling, seed): (prompt, index)
            for prompt, index in asked
        }
        try:
            for done in as_completed(waiting):
                prompt, index = waiting[done]
                try:
                    yield done.result()
                except GaveUpError as error:
                    failures.append(str(error))
                    self._refuse_many(failures, len(asked))
                    yield Draw(prompt.key, index, "", "error", 0, 0)
        finally:
            for future in waiting:
                future.cancel()

    def call(self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int) -> ServerCall:
        """Begin draws that are told as they come; one that fails fails the call.

        Raises:
            EngineError: two prompts share a key.
        """
        check_keys(prompts)
        call = ServerCall(len(prompts) * sampling.n)
        for prompt in map(self._sent, prompts):
            for index in range(sampling.n):
                self._pool.submit(call.run, partial(self._stream_one, prompt, index, sampling, seed, call))  # fmt: skip
        return call

    def _stream_one(
        self, prompt: Prompt, index: int, sampling: SamplingConfig, seed: int, call: ServerCall
    ) -> Draw:
        own_seed = seed_of(seed, "server", prompt.key, index)
        body = {
            **self._client.body(sampling, own_seed),
            "stream_options": {"include_usage": True},
        }
        begin, content = self._client.begin, prompt.content
        try:
            if isinstance(content, str):
                reply = begin("completions", {**body, "prompt": content}, own_seed)
            else:
                reply = self._chat(content, body, own_seed, begin)
        except RefusedError:  # it may be the stream that it does not know
            return self._draw_one(prompt, index, sampling, seed)
        thinking = self._is_thinking(content)
        said = call.read(reply, Begun(prompt.key, index, "", thinking=thinking))
        return self._cut(said, sampling)

    def _is_thinking(self, content: Asked) -> bool:
        return opens_reasoning(content) if isinstance(content, str) else self._thinks

    def _check_fit(self, prompts: Sequence[Prompt], max_tokens: int) -> None:
        """Refuse a prompt that the model in the folder cannot read: some servers go on as if it could."""
        if not self._holds_folder or self._tokenizer is None:
            return
        file = self._folder / "config.json"
        told = read_json(file) if file.is_file() else {}
        limits = (told.get("text_config", told).get("max_position_embeddings"),
                  self._client.context_length())  # fmt: skip
        limit = min((n for n in limits if n), default=None)
        check_fit(encode(prompts, self._tokenizer, self._variables), max_tokens, limit)

    def _check_habits(self, sent: Sequence[Prompt], sampling: SamplingConfig) -> None:
        """Look once whether the server samples at all, and say so where it keeps no seeds."""
        if not sent or not sampling.temperature:
            return
        if self._habits is None:
            self._habits = self._seen(sent[0], sampling.model_copy(update=_TRIAL))
        client = self._client
        if not self._habits.samples:
            raise EngineError(
                f"{client.url} ({client.software}) gives one text whatever the seed and the temperature, "
                f"and temperature={sampling.temperature} was asked for: look for its option to sample "
                "(engine.server.extra_body sends it), or set temperature=0"
            )

    def _seen(self, prompt: Prompt, trial: SamplingConfig) -> Habits:
        client = self._client
        try:
            seen = habits_of(
                lambda own_seed: self._asked(prompt, 0, trial, own_seed).text, self._concurrency
            )
        except (GaveUpError, RefusedError):  # what is wrong in earnest is told in earnest
            return Habits()
        if not seen.keeps_seeds and not client.software.keeps_seeds:
            _tell_once(client.url, str(client.software))
        return seen

    def _refuse_many(self, failures: Sequence[str], asked: int) -> None:
        if len(failures) > self._max_failed * asked:
            raise UnansweredError(
                f"{len(failures)} of {asked} requests to {self._client.url} failed for good, the last: "
                f"{failures[-1]}; see the server's log, or allow more with engine.server.max_failed"
            )

    def _draw_one(self, prompt: Prompt, index: int, sampling: SamplingConfig, seed: int) -> Draw:
        return self._asked(prompt, index, sampling, seed_of(seed, "server", prompt.key, index))

    def _asked(self, prompt: Prompt, index: int, sampling: SamplingConfig, own_seed: int) -> Draw:
        body = self._client.body(sampling, own_seed)
        if isinstance(prompt.content, str):
            answer = self._client.ask("completions", {**body, "prompt": prompt.content}, own_seed)
            said = _draw(prompt.key, index, read(answer["choices"][0], "text"), answer)
            said = replace(said, thinking=self._is_thinking(prompt.content))
        else:
            answer = self._chat(prompt.content, body, own_seed, self._client.ask)
            choice = answer["choices"][0]
            said = _draw(prompt.key, index, read(choice, "message", "content"), answer)
            thought = thought_of(choice["message"])
            said = replace(said, reasoning=thought, thinking=self._thinks and not thought)
        return self._cut(said, sampling)

    def _cut(self, said: Draw, sampling: SamplingConfig) -> Draw:
        """Cut a draw at a stop string: not every server leaves it out."""
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
        tokenizer = self._tokenizer
        if tokenizer is None or not tokenizer.chat_template:
            return None
        return ChatTemplate(tokenizer, self._variables)

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401
        """The tokenizer in the model's folder; None: there is none, or no folder."""
        if not (self._folder / "tokenizer_config.json").is_file():
            return None
        from selfimprove.sampling.loading import load_tokenizer

        return load_tokenizer(self._folder)

    def _chat(
        self,
        turns: tuple[Message, ...],
        body: Mapping[str, Any],
        own_seed: int,
        ask: Callable[[str, Mapping[str, Any], int], T],
    ) -> T:
        """Ask for a reply by `ask`; turns that the server refuses are laid out as its template may take them."""
        roles = tuple(turn.role for turn in turns)
        known = self._taken.get(roles)
        refusal: RefusedError | None = None
        for refused, taken in ways(turns):
            if known in (None, refused):
                messages = [{"role": turn.role, "content": turn.content} for turn in taken]
                asked = {**body, "messages": messages}
                if self._variables:
                    asked["chat_template_kwargs"] = self._variables
                try:
                    answer = ask("chat/completions", asked, own_seed)
                except RefusedError as error:
                    refusal = refusal or error
                    continue
                if refused and known is None:
                    warn_once(self._client.model, refused)
                self._taken[roles] = refused
                return answer
        raise refusal or GaveUpError("there is nothing to ask")

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Not to be had over this interface for given texts.

        Raises:
            EngineError: always; the `torch` engine gives them.
        """
        raise EngineError(
            f"{self._client.url} gives no log-probabilities of {len(pairs)} given texts: "
            "use the torch engine for this"
        )

    def close(self) -> None:
        """Stop a server that was started; leave one alone that ran before."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()


@cache
def _tell_once(url: str, software: str) -> None:
    """Say in the log, once, that seeds are ignored."""
    _log.warning(
        "%s (%s) gives equal requests different texts: it keeps no seeds, or none while several requests are "
        "under way (engine.server.concurrency=1 may help); its draws cannot be repeated",
        url, software,
    )  # fmt: skip


def _draw(key: str, index: int, text: str, answer: Mapping[str, Any]) -> Draw:
    usage = answer.get("usage") or {}
    return Draw(key, index, text, finish_of(answer["choices"][0]),
                int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))  # fmt: skip
