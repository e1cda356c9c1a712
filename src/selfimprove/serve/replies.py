"""How answers are told: whole, or as the events of a stream, in OpenAI's two shapes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from selfimprove.serve.asks import Answer, Line, Piece

__all__ = ["Chat", "Shape", "Text", "event"]


def event(data: Mapping[str, Any]) -> str:
    """Return data as an event of a stream."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


class Shape:
    """How the answer to one request is told: the parts that both kinds of reply share."""

    prefix: ClassVar[str]
    whole_name: ClassVar[str]
    chunk_name: ClassVar[str]

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._begun: set[int] = set()

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return what a choice holds."""
        raise NotImplementedError

    def opening(self) -> list[dict[str, Any]]:
        """Return what stands before the words of a choice."""
        raise NotImplementedError

    def more(self, piece: Piece) -> dict[str, Any]:
        """Return what a piece of a choice holds."""
        raise NotImplementedError

    def closing(self) -> dict[str, Any]:
        """Return what stands behind the words of a choice."""
        raise NotImplementedError

    def whole(self, answers: Sequence[Answer], line: Line) -> dict[str, Any]:
        """Return the reply."""
        choices = [
            {"index": i, "logprobs": None, "finish_reason": a.finish, **self.choice(a)}
            for i, a in enumerate(answers)
        ]
        return {**self._head, "object": self.whole_name, "choices": choices, "usage": _usage(line),
                **_improved(answers)}  # fmt: skip

    def piece(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """Yield the events of a piece of a choice."""
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            for opening in self.opening():
                yield self._event(piece.index, opening)
        yield self._event(piece.index, self.more(piece))

    def end(
        self, answers: Sequence[Answer], line: Line, *, usage: bool
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """Yield the last events of a stream; a choice of which nothing was told is told now, word by word.

        What improving came by stands in the last event of a choice.
        """
        for index, answer in enumerate(answers):
            if index not in self._begun:
                for piece in _pieces(index, answer):
                    yield from self.piece(piece)
            end = self._event(index, {**self.closing(), "finish_reason": answer.finish})
            yield end | _improved([answer])
        if usage:
            yield {
                **self._head,
                "object": self.chunk_name,
                "choices": [],
                "usage": _usage(line),
            }

    def _event(self, index: int, holds: Mapping[str, Any]) -> dict[str, Any]:
        choice = {"index": index, "finish_reason": None, **holds}
        return {**self._head, "object": self.chunk_name, "choices": [choice]}


class Chat(Shape):
    """Of `/v1/chat/completions`."""

    prefix, whole_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return the message; reasoning stands beside its content, as vLLM has it."""
        thought = {"reasoning_content": answer.reasoning} if answer.reasoning else {}
        return {"message": {"role": "assistant", "content": answer.text, **thought}}

    def opening(self) -> list[dict[str, Any]]:
        """Return the role."""
        return [{"delta": {"role": "assistant", "content": ""}}]

    def more(self, piece: Piece) -> dict[str, Any]:
        """Return the words, or the thoughts."""
        parts = {"reasoning_content": piece.reasoning, "content": piece.text}
        return {"delta": {name: part for name, part in parts.items() if part}}

    def closing(self) -> dict[str, Any]:
        """Return an end."""
        return {"delta": {}}


class Text(Shape):
    """Of `/v1/completions`."""

    prefix, whole_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return the text."""
        return {"text": answer.text}

    def opening(self) -> list[dict[str, Any]]:
        """Return nothing: words come first."""
        return []

    def more(self, piece: Piece) -> dict[str, Any]:
        """Return the words; there is no place for thoughts."""
        return {"text": piece.text}

    def closing(self) -> dict[str, Any]:
        """Return an end."""
        return {"text": ""}


def _pieces(index: int, answer: Answer) -> list[Piece]:
    """Cut an answer before each space, so that its pieces are the text again."""
    first, *words = answer.text.split(" ")
    return [Piece(index, first, answer.reasoning), *(Piece(index, f" {word}") for word in words)]


def _usage(line: Line) -> dict[str, int]:
    """Return the tokens that a reply took, all of them: of several draws, feedback and judges, too."""
    read, written = line.prompt_tokens, line.new_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _improved(answers: Sequence[Answer]) -> dict[str, Any]:
    told = next((answer.told for answer in answers if answer.told is not None), None)
    return {} if told is None else {"improve": dict(told)}
