"""What clients send and get: the fields of OpenAI's interface that are read here, and `improve` beside them.

Fields that are not known are let pass, as clients send many; a known one with a value that does not
fit is an error that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from selfimprove.types import ANSWER_TYPES, Message

__all__ = ["MOST", "Asked", "ChatRequest", "CompletionRequest", "Improve", "Turn"]

Method = Literal["none", "pit", "vote", "best_of_n", "self_refine"]

MOST: Final = 64
"""Choices of one request, and responses that are drawn for one of them."""


def _readable(text: str) -> str:
    """Refuse halves of characters, which JSON can name and no text can hold."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds half a character (a lone surrogate)")
    return text


Words = Annotated[str, AfterValidator(_readable)]
"""Text that can be told in UTF-8."""


class Improve(BaseModel):
    """How a response is made better before it is given (`extra_body: {"improve": ...}`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "none"
    """pit: a chain by a PIT run's models. vote: a response that agrees with the majority answer of n.
    best_of_n: the best of n, by the run's reward model, else by the model's own judgement. self_refine: feedback
    and refinement by prompting."""
    steps: int = Field(default=3, ge=1, le=16)
    """Of pit and self_refine."""
    n: int = Field(default=8, ge=2, le=MOST)
    """Responses that are drawn, of vote and best_of_n."""
    stop: bool = False
    """pit: end a chain before its first step without gain."""
    answer_type: str = "number"
    """vote: what kind of answer is read (number, choice, yes_no, nli, span)."""

    @field_validator("answer_type")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ANSWER_TYPES:
            raise ValueError(f"known: {', '.join(ANSWER_TYPES)}")
        return name


class Turn(BaseModel):
    """A turn of a conversation; its content may come in parts of type `text`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Words

    @field_validator("content", mode="before")
    @classmethod
    def _in_one(cls, given: object) -> object:
        if not isinstance(given, list):
            return given
        parts = [part for part in given if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) < len(given) or not all(isinstance(part.get("text"), str) for part in parts):
            raise ValueError("only parts of type text, with a text, can be read")
        return "".join(part["text"] for part in parts)

    @property
    def message(self) -> Message:
        """The turn as models get it; a developer's is the system's."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(BaseModel):
    """What a stream tells at its end."""

    include_usage: bool = False


class Asked(BaseModel):
    """What both kinds of request share."""

    model: str = ""
    """Which served model; empty: the one there is."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=1e-6, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    n: int = Field(default=1, ge=1, le=MOST)
    stop: tuple[Annotated[Words, Field(min_length=1)], ...] = Field(default=(), max_length=4)
    seed: int | None = None
    """The same seed and the same prompt: the same response."""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        return () if given is None else (given,) if isinstance(given, str) else given

    @field_validator(
        "model", "temperature", "top_p", "n", "stream", "stream_options", mode="before"
    )
    @classmethod
    def _null_is_unsaid(cls, given: object, info: Any) -> object:  # noqa: ANN401
        return cls.model_fields[info.field_name].default if given is None else given


class ChatRequest(Asked):
    """`POST /v1/chat/completions`."""

    messages: tuple[Turn, ...] = Field(min_length=1, max_length=512)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The newer name of `max_tokens`."""
    improve: Improve | None = None
    """None: as the server was started."""


class CompletionRequest(Asked):
    """`POST /v1/completions`: text is continued as it stands."""

    prompt: Words
    improve: Improve | None = None
    """Refused where it says more than `none`: text that is continued is no response."""
