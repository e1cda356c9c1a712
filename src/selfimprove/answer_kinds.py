"""Answers of a user's own kind: how they are read from a text, and which of them mean the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, Protocol, TypeVar

from selfimprove.errors import ConfigError
from selfimprove.own_code import load_named, pinned
from selfimprove.types import ANSWER_TYPES, AnswerType

__all__ = ["AnswerKind", "answer_type", "as_kept", "kind_of"]


class AnswerKind(Protocol):
    """What a class has to do whose answers a run is to read, vote on and score."""

    def read(self, text: str) -> str | None:
        """Return the answer that a text states; None where it states none.

        The text is what the model said, without its reasoning block and what follows its turn.
        """
        ...

    def key(self, answer: str) -> str:
        """Return what answers of equal meaning share: they are one in the vote, and right like gold."""
        ...


Kind = TypeVar("Kind", bound=type)

_GIVEN: Final[dict[str, AnswerKind]] = {}


def answer_type(name: str) -> Callable[[Kind], Kind]:
    """Make a class the reader of an answer type: rows of the format `questions` name it so.

    In a recipe, which no decorator has run for, a row names the class itself: `sql.py:Sql`.

    >>> @answer_type("colour")
    ... class Colour:
    ...     def read(self, text):
    ...         return next((c for c in ("red", "blue") if c in text.lower()), None)
    ...     def key(self, answer):
    ...         return answer

    Raises:
        ConfigError: the name is that of a type that ships, or holds a colon or an @.
    """
    if name in ANSWER_TYPES or {":", "@"} & set(name):
        raise ConfigError(f"answer_type({name!r}): choose another name, without : and @")

    def given(kind: Kind) -> Kind:
        _GIVEN[name] = kind()
        return kind

    return given


def kind_of(answer_type: AnswerType) -> AnswerKind | None:
    """Return who reads answers of a user's own type; None: a type that ships.

    Raises:
        ConfigError: there is no such type, or its code is no longer what rows were made by.
    """
    return None if answer_type in ANSWER_TYPES else _own(answer_type)


def _own(name: str) -> AnswerKind:
    if name in _GIVEN:
        return _GIVEN[name]
    if ":" not in name:
        known = ", ".join((*ANSWER_TYPES, *_GIVEN))
        raise ConfigError(f"the answer type {name!r} is none of {known}, and no file.py:Class")
    return _named(name)


@cache
def _named(name: str) -> AnswerKind:
    kind: AnswerKind = load_named(name)()
    return kind


def as_kept(answer_type: str) -> AnswerType:
    """Return a type as rows keep it: one of a file with a digest of its code.

    Raises:
        ConfigError: there is no such type.
    """
    named = pinned(answer_type) if ":" in answer_type else answer_type
    kind_of(named)
    return named
