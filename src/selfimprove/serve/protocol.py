"""What clients send and get: the fields of OpenAI's interface that are read here, and `improve` beside them.

Fields that are not known are let pass, as clients send many. A known one with a value that does not fit is an
error that names it, and so is one that would change the answer and is not followed here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from selfimprove.types import ANSWER_TYPES, Message

__all__ = ["MOST", "Asked", "ChatRequest", "CompletionRequest", "Improve", "Method", "Turn"]

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


# Fields that would change an answer if anyone here heard of them, and the values that ask for nothing.
_UNHEARD: Final[dict[str, tuple[object, ...]]] = {
    "logprobs": (False,), "top_logprobs": (0,), "tools": ([],), "functions": ([],), "logit_bias": ({},),
    "response_format": ({"type": "text"},), "frequency_penalty": (0,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "min_p": (0,), "min_tokens": (0,), "ignore_eos": (False,),
    "stop_token_ids": ([],), "use_beam_search": (False,), "echo": (False,), "suffix": ("",),
    "modalities": (["text"],), "prompt_logprobs": (), "structured_outputs": ({},), "guided_json": (),
    "guided_regex": (), "guided_choice": (), "guided_grammar": (), "best_of": (1,),
}  # fmt: skip


class Asked(BaseModel):
    """What both kinds of request share."""

    model: str = ""
    """Which served model; empty: the one there is."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=1.0, ge=1e-6, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    top_k: int = Field(default=0, ge=-1)
    """0 and -1: all tokens."""
    n: int = Field(default=1, ge=1, le=MOST)
    stop: tuple[Annotated[Words, Field(min_length=1)], ...] = Field(default=(), max_length=4)
    seed: int | None = None
    """The same seed and the same prompt: the same response."""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="before")
    @classmethod
    def _asks_for_nothing_unheard(cls, given: object) -> object:
        """Refuse what would change the answer, rather than answer as if it had not been said."""
        if not isinstance(given, dict):
            return given
        for name, harmless in _UNHEARD.items():
            asked = given.get(name)
            unused = name == "tools" and given.get("tool_choice") == "none"
            if asked is not None and asked not in harmless and not unused:
                raise ValueError(f"{name} is not followed here: leave it out")
        return given

    @field_validator("top_k", mode="after")
    @classmethod
    def _all(cls, given: int) -> int:
        return max(given, 0)

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, given: object) -> object:
        return () if given is None else (given,) if isinstance(given, str) else given

    @field_validator(
        "model", "temperature", "top_p", "top_k", "n", "stream", "stream_options", mode="before"
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
