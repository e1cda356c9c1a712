"""A model that a program holds: it continues texts and answers turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast, final, get_args

from selfimprove.config import load
from selfimprove.errors import ConfigError
from selfimprove.sampling.conversation import as_asked
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.served import Memory, Served
from selfimprove.types import Draw, Message, ModelRef, Prompt, Role

__all__ = ["Asked", "Model"]

Asked: TypeAlias = str | Sequence[Message | Mapping[str, str]]
"""Text, or turns such as {"role": "user", "content": "Hello"}."""

_SERVER: Final = ("http://", "https://")


@final
class Model:
    """A language model by name, folder, hub id, `.gguf` file, or the URL of a server that holds it.

    It is located, and loaded, when it is first used; as a context manager, or by `close`, it gives its
    memory back.

    >>> with Model("tiny", device="cpu") as model:
    ...     len(model.draw(["Human: Write about a owl."], n=2, max_tokens=4))
    2
    """

    def __init__(self, name: str | Path, /, served_as: str | None = None, **engine: Any) -> None:  # noqa: ANN401
        """Name a model; `engine` are fields of `EngineConfig`, e.g. chat=True or dtype="float32".

        Args:
            name: as `model:` of a recipe, or a URL such as http://127.0.0.1:8000/v1.
            served_as: the name that a server knows its model by.
            engine: how it is drawn from.

        Raises:
            ConfigError: no such field, or a value that does not fit.
        """
        self.name = str(name)
        """As it was given; of a server, the name of its model."""
        if self.name.startswith(_SERVER):
            if served_as is None:
                raise ConfigError(
                    f"Model({self.name!r}): say served_as=..., the model's name there"
                )
            engine = {"kind": "server", "server": {"url": self.name, "model": served_as}, **engine}
            self.name = served_as
        elif served_as is not None:
            raise ConfigError(f"served_as={served_as!r} is for a URL, and {self.name} is none")
        self.engine = load(EngineConfig, engine, "Model")
        """How it is drawn from."""
        self._memory = Memory()

    def __repr__(self) -> str:
        """Return what would make it again."""
        told = self.engine.model_dump(exclude_defaults=True)
        return f"Model({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in told.items())])})"

    @cached_property
    def ref(self) -> ModelRef:
        """Where it lies, and the digest of its weights.

        Raises:
            EngineError: it is not here and cannot be fetched.
        """
        from selfimprove.models import locate

        if self.engine.server is not None and self.engine.server.url:
            return ModelRef(self.name, self.name, "")
        return locate(self.name)

    @property
    def served(self) -> Served:
        """The model behind its engine, as the steps of a method ask it; loaded once for all of them."""
        return Served(self.ref, self.engine, self._memory)

    def generate(self, prompt: Asked, *, seed: int = 0, **sampling: Any) -> str:  # noqa: ANN401
        """Return a continuation of a text, or a reply to turns.

        Args:
            prompt: text, which is a user's turn where the model chats, or turns.
            seed: of the draw.
            sampling: fields of `SamplingConfig`: temperature, top_p, top_k, max_tokens, stop.

        Raises:
            ConfigError: no such field, or a value that does not fit.
            EngineError: the prompt does not fit the model's context.
        """
        return self.draw([prompt], seed=seed, **sampling)[0].text

    def beside(self, folder: Path) -> Model:
        """Return the model in a folder, drawn from as this one is; never by this one's running server."""
        told = self.engine.model_dump(exclude_defaults=True)
        if self.engine.server is not None and self.engine.server.url:
            told = {name: value for name, value in told.items() if name not in ("kind", "server")}
        return Model(folder, **told)

    def draw(self, prompts: Iterable[Asked], *, seed: int = 0, **sampling: Any) -> list[Draw]:  # noqa: ANN401
        """Return the draws of many prompts, n=... of each, with their tokens and how each ended.

        A draw's `key` is the place of its prompt. Reasoning is parted from each text.

        Raises:
            ConfigError: no such field of `SamplingConfig`, or a value that does not fit.
            EngineError: a prompt does not fit the model's context.
        """
        if isinstance(prompts, str | Mapping):
            raise ConfigError("draw takes a list of prompts; generate takes one")
        how = load(SamplingConfig, sampling, "sampling")
        asked = [Prompt(str(i), self._laid_out(p)) for i, p in enumerate(prompts)]
        with self.served.open() as engine:
            return draw_in_order(engine, asked, how, seed=seed)

    def logprobs(self, prompt: Asked, continuation: str) -> list[float]:
        """Return the log-probability of each token of a continuation, in nats, at temperature 1.

        Raises:
            EngineError: both do not fit the model's context, or a server does not tell.
        """
        with self.served.open() as engine:
            return engine.logprobs([(Prompt("", self._laid_out(prompt)), continuation)])[0]

    def _laid_out(self, prompt: Asked) -> str | tuple[Message, ...]:
        """Lay a prompt out: turns by the chat template where there is one, whatever `chat` says of text."""
        if isinstance(prompt, str):
            return (Message("user", prompt),) if self.engine.chat else prompt
        turns = tuple(_turn(turn) for turn in prompt)
        return as_asked(turns, chat=self.engine.chat or self._has_template)

    @cached_property
    def _has_template(self) -> bool:
        if self.engine.server is not None and self.engine.server.url:
            return True  # the server's own
        from selfimprove.sampling.loading import load_tokenizer

        return bool(load_tokenizer(Path(self.ref.path)).chat_template)

    def close(self) -> None:
        """Give its memory back; it is loaded anew when it is used again."""
        self._memory.free()

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _turn(given: Message | Mapping[str, str]) -> Message:
    if isinstance(given, Message):
        return given
    if not isinstance(given, Mapping) or not {"role", "content"} <= set(given):
        raise ConfigError(
            f"{given!r} is no turn: give a text, or a list of turns such as "
            '{"role": "user", "content": "Hello"}'
        )
    if given["role"] not in get_args(Role):
        raise ConfigError(
            f"a turn's role is {given['role']!r}, none of {', '.join(get_args(Role))}"
        )
    return Message(cast("Role", given["role"]), given["content"])
