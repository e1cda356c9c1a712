"""How answers are told: whole, or as the events of a stream, in OpenAI's two shapes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from selfimprove.serve.ways import Answer

__all__ = ["Chat", "Shape", "Text", "event"]


def event(data: Mapping[str, Any]) -> str:
    """Return data as an event of a stream."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


class Shape:
    """How answers are told: the parts that both kinds of reply share."""

    prefix: ClassVar[str]
    whole_name: ClassVar[str]
    chunk_name: ClassVar[str]

    def __init__(self, model: str) -> None:
        self._head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return what a choice holds."""
        raise NotImplementedError

    def pieces(self, answer: Answer) -> list[dict[str, Any]]:
        """Return what the events of a choice hold, one behind the other."""
        raise NotImplementedError

    def whole(self, answers: list[Answer]) -> dict[str, Any]:
        """Return the reply."""
        choices = [
            {"index": i, "logprobs": None, "finish_reason": a.finish, **self.choice(a)}
            for i, a in enumerate(answers)
        ]
        return {**self._head, "object": self.whole_name, "choices": choices, "usage": _usage(answers),
                **_improved(answers)}  # fmt: skip

    def chunks(self, answers: list[Answer], *, usage: bool) -> list[dict[str, Any]]:
        """Return the events of a stream; what improving came by stands in the last of a choice."""
        head = {**self._head, "object": self.chunk_name}
        told = []
        for index, answer in enumerate(answers):
            said = [
                {"index": index, "finish_reason": None, **piece} for piece in self.pieces(answer)
            ]
            said[-1]["finish_reason"] = answer.finish
            told += [{**head, "choices": [one]} for one in said]
            told[-1] |= _improved([answer])
        if usage:
            told.append({**head, "choices": [], "usage": _usage(answers)})
        return told


class Chat(Shape):
    """Of `/v1/chat/completions`."""

    prefix, whole_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return the message; reasoning stands beside its content, as vLLM has it."""
        thought = {"reasoning_content": answer.reasoning} if answer.reasoning else {}
        return {"message": {"role": "assistant", "content": answer.text, **thought}}

    def pieces(self, answer: Answer) -> list[dict[str, Any]]:
        """Return the role, the words, and an end."""
        words = [{"delta": {"content": word}} for word in _words(answer.text)]
        return [{"delta": {"role": "assistant", "content": ""}}, *words, {"delta": {}}]


class Text(Shape):
    """Of `/v1/completions`."""

    prefix, whole_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def choice(self, answer: Answer) -> dict[str, Any]:
        """Return the text."""
        return {"text": answer.text}

    def pieces(self, answer: Answer) -> list[dict[str, Any]]:
        """Return the words, and an end."""
        return [*({"text": word} for word in _words(answer.text)), {"text": ""}]


def _words(text: str) -> list[str]:
    """Cut a text before each space, so that its pieces are the text again."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])] if text else []


def _usage(answers: list[Answer]) -> dict[str, int] | None:
    """Return the tokens of a reply that nothing improved; of others they are not all known."""
    if any(answer.told is not None for answer in answers):
        return None
    read, written = answers[0].prompt_tokens, sum(answer.tokens for answer in answers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _improved(answers: list[Answer]) -> dict[str, Any]:
    told = next((answer.told for answer in answers if answer.told is not None), None)
    return {} if told is None else {"improve": dict(told)}
