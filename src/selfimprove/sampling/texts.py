"""Tokens back into text: exact spaces, and stop strings looked for only where one can end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from selfimprove.reasoning import GENERATION_PROMPT, opens_reasoning
from selfimprove.sampling.own_words import is_mark

__all__ = ["Texts"]

# Prompt tokens decoded before the new ones, so that a leading space is seen for what it is.
_CONTEXT = 4


@final
class Texts:
    """Decodes what one tokenizer made."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._thinking: dict[tuple[int, ...], bool] = {}

    def continuation(self, prompt: Sequence[int], new: Sequence[int]) -> str:
        """Return the text of `new` after `prompt`, without special tokens.

        Those stay that say where reasoning or a turn begins or ends: without them nobody could tell.
        """
        text, first = "", 0
        for place, token in enumerate(new):
            if token in self._marks:
                text += self._plain([*prompt, *new[:first]], new[first:place]) + self._marks[token]
                first = place + 1
        return text + self._plain([*prompt, *new[:first]], new[first:])

    def _plain(self, prompt: Sequence[int], new: Sequence[int]) -> str:
        """Return the text of `new` without any special token.

        Many tokenizers drop a space at the beginning of what they decode; decoded behind the end
        of the prompt, it stays.
        """
        before = self._decode(prompt[-_CONTEXT:])
        both = self._decode([*prompt[-_CONTEXT:], *new])
        return both[len(before) :] if before and both.startswith(before) else self._decode(new)

    def is_thinking(self, prompt: Sequence[int]) -> bool:
        """Tell whether a prompt ends inside a reasoning block."""
        end = tuple(prompt[-GENERATION_PROMPT:])
        if end not in self._thinking:
            self._thinking[end] = opens_reasoning(self._tokenizer.decode(list(end)))
        return self._thinking[end]

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that say where reasoning or a turn begins or ends."""
        added = self._tokenizer.added_tokens_decoder.items()
        return {i: t.content for i, t in added if t.special and is_mark(t.content)}

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def ends_stop(self, stop: Sequence[str], device: torch.device) -> Tensor | None:
        """Return which tokens can end one of the stop strings, or None when there are none.

        A token whose bytes are part of a character decodes to a replacement mark; it may.
        """
        if not stop:
            return None
        last = {s[-1] for s in stop} | {"\ufffd"}
        return torch.tensor([not last.isdisjoint(t) for t in self._tokens], device=device)

    @cached_property
    def _tokens(self) -> list[str]:
        """The text of every token, decoded behind a letter so that spaces stay."""
        letter = self._tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        skip = len(self._decode(letter))
        known = len(self._tokenizer)
        texts = self._tokenizer.batch_decode(
            [[*letter, i] for i in range(min(known, self._vocabulary))],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return [t[skip:] for t in texts] + [""] * max(0, self._vocabulary - known)
