"""Conversations as a chat template takes them: each family of models refuses something else.

A template may refuse a system turn, leave its text out without a word, or insist that user and
assistant alternate. What it does with turns of these sides is tried once, with words of no meaning;
where it refuses or loses some, turns of one side are put into one, and where that is not enough, the
system's text goes in front of the next user's. It is tried as sampling asks, and with a reply behind
it, as training and reward models read it: some templates show the system's turn in the former alone.
It depends on the sides alone, so that training, sampling and judging see the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias, final

from jinja2 import TemplateError

from selfimprove.errors import EngineError
from selfimprove.types import Message, Role

__all__ = ["ChatTemplate", "folded", "merged", "warn_once", "ways"]

_log = logging.getLogger(__name__)

# A template raises by itself, or Python does in one that is not made for what it gets; transformers, where
# a tokenizer has several templates and none by default.
_REFUSALS: Final = (TemplateError, TypeError, ValueError)

_Turns: TypeAlias = Sequence[Message]


def merged(turns: _Turns) -> list[Message]:
    r"""Put turns of one side in a row into one, with an empty line between them.

    >>> merged([Message("user", "Hi."), Message("user", "Why?")])
    [Message(role='user', content='Hi.\n\nWhy?')]
    """
    found: list[Message] = []
    for turn in turns:
        if found and found[-1].role == turn.role:
            turn = Message(turn.role, f"{found.pop().content}\n\n{turn.content}")
        found.append(turn)
    return found


def folded(turns: _Turns) -> list[Message]:
    r"""Put the system's text in front of the next user's, and turns of one side into one.

    >>> folded([Message("system", "Be brief."), Message("user", "Why?")])
    [Message(role='user', content='Be brief.\n\nWhy?')]
    """
    return merged([Message("user", t.content) if t.role == "system" else t for t in turns])


_WAYS: Final[dict[str, Callable[[_Turns], _Turns]]] = {
    "": lambda turns: turns,
    "several turns of one side in a row: they become one": merged,
    "the system's turn: its text goes in front of the user's": folded,
}


def ways(turns: _Turns) -> list[tuple[str, list[Message]]]:
    """Return turns as they are, and as they may be laid out where a template does not take them so.

    Each with what the template did not take; the ways that change nothing are left out.
    """
    found: dict[tuple[Message, ...], str] = {}
    for refused, changed in _WAYS.items():
        found.setdefault(tuple(changed(turns)), refused)
    return [(refused, list(taken)) for taken, refused in found.items()]


@cache
def warn_once(model: str, refused: str) -> None:
    """Say in the log, once, that turns are laid out otherwise than they were given."""
    _log.warning("%s: its chat template does not take %s", model, refused)


@final
class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any, settings: Mapping[str, Any]) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._settings = dict(settings)
        self._ways: dict[tuple[Role, ...], str] = {}

    def taken(self, turns: _Turns) -> list[Message]:
        """Return turns as the template takes them.

        Raises:
            EngineError: there is no template, or it takes them in no way.
        """
        if not self._tokenizer.chat_template:
            raise EngineError(
                "the prompts hold turns, but the model has no chat template: give plain text "
                "(engine.chat=false), or a model that was tuned for chat"
            )
        roles = tuple(turn.role for turn in turns)
        if roles not in self._ways:
            self._ways[roles] = self._way(roles)
        return list(_WAYS[self._ways[roles]](turns))

    def rendered(self, taken: _Turns, *, to_be_continued: bool) -> str:
        """Return the text of turns that are `taken`, ending where an answer begins if it is to.

        Raises:
            EngineError: the template refuses what is said in them.
        """
        try:
            return self._text(taken, to_be_continued=to_be_continued)
        except _REFUSALS as error:
            said = taken[-1].content[:80] if taken else ""
            raise EngineError(
                f"{self._name}: its chat template refuses a conversation that ends in {said!r}: {error}"
            ) from error

    def _text(self, taken: _Turns, *, to_be_continued: bool) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in taken]
        text: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=to_be_continued, **self._settings
        )
        return text

    def _way(self, roles: Sequence[Role]) -> str:
        """Try the ways in turn on words of no meaning, until one brings all of them through."""
        words = [Message(role, f"w{number}w") for number, role in enumerate(roles)]
        why = "it leaves out a turn"
        for refused, changed in ways(words):
            try:
                asked, answered = self._both(changed)
            except _REFUSALS as error:
                why = str(error)
                continue
            if all(word.content in text for word in words for text in (asked, answered)):
                if refused:
                    warn_once(self._name, refused)
                return refused
        raise EngineError(
            f"{self._name}: its chat template does not take a conversation of {', '.join(roles)}: {why}"
        )

    def _both(self, turns: _Turns) -> tuple[str, str]:
        """Return turns as they are asked, and with a reply behind them, unless they end in one."""
        asked = self._text(turns, to_be_continued=True)
        if not turns or turns[-1].role == "assistant":
            return asked, asked
        reply = Message("assistant", "w")
        return asked, self._text([*turns, reply], to_be_continued=False)

    @property
    def _name(self) -> str:
        return str(self._tokenizer.name_or_path or "the model")
