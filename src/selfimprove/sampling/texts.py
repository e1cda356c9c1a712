"""Tokens back into text: exact spaces, and stop strings looked for only where one can end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from selfimprove.reasoning import GENERATION_PROMPT, is_reasoning_mark, opens_reasoning
from selfimprove.sampling.own_words import is_mark

__all__ = ["GrowingText", "Texts"]

# Tokens decoded before the new ones, so that a leading space is seen for what it is.
_CONTEXT = 4

_HALF = "\ufffd"
"""What bytes decode to that are not yet a character."""


class _Part(NamedTuple):
    """New tokens between two marks."""

    before: tuple[int, ...]
    """The last tokens that stand before them."""
    new: Sequence[int]
    mark: str
    """What stands behind them."""


@final
class Texts:
    """Decodes what one tokenizer made."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        kind = type(tokenizer)
        self._decodes_plainly = (
            tokenizer.is_fast and kind._decode is PreTrainedTokenizerFast._decode
        )
        self._thinking: dict[tuple[int, ...], bool] = {}
        self._stops: dict[frozenset[str], list[bool]] = {}

    def continuations(self, said: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[str]:
        """Return the text of the new tokens of each (prompt, new tokens), without special tokens.

        Those stay that say where reasoning or a turn begins or ends: without them nobody could tell.
        """
        return self._behind([(tuple(prompt[-_CONTEXT:]), new) for prompt, new in said])

    def behind(self, before: Sequence[int], new: Sequence[int]) -> str:
        """Return the text of new tokens likewise, decoded behind all of `before`, the first of which begins a character."""
        return self._behind([(tuple(before), new)])[0]

    def _behind(self, said: Sequence[tuple[tuple[int, ...], Sequence[int]]]) -> list[str]:
        rows = [self._parts(before, new) for before, new in said]
        texts = iter(self._plain([part for parts in rows for part in parts]))
        return ["".join(next(texts) + part.mark for part in parts) for parts in rows]

    def _parts(self, end: tuple[int, ...], new: Sequence[int]) -> list[_Part]:
        """Part new tokens at their marks; `end` stands before them."""
        parts, first = [], 0
        if self._marks.keys().isdisjoint(new):
            return [_Part(end, new, "")]
        for place, token in enumerate(new):
            if token in self._marks:
                parts.append(_Part(end, new[first:place], self._marks[token]))
                first, end = place + 1, (*end, *new[first : place + 1])[-_CONTEXT:]
        return [*parts, _Part(end, new[first:], "")]

    def _plain(self, parts: Sequence[_Part]) -> list[str]:
        """Return the text of each part's tokens without any special token.

        Many tokenizers drop a space at the beginning of what they decode; decoded behind what stands
        before, it stays.
        """
        ends = list(dict.fromkeys(part.before for part in parts))
        before = dict(zip(ends, self._decode(ends), strict=True))
        wholes = self._decode([(*part.before, *part.new) for part in parts])
        return [
            whole[len(start) :]
            if (start := before[part.before]) and whole.startswith(start)
            else self._decode([part.new])[0]
            for part, whole in zip(parts, wholes, strict=True)
        ]

    def is_thinking(self, prompt: Sequence[int]) -> bool:
        """Tell whether a prompt ends inside a reasoning block."""
        end = tuple(prompt[-GENERATION_PROMPT:])
        if end not in self._thinking:
            self._thinking[end] = opens_reasoning(self._tokenizer.decode(list(end)))
        return self._thinking[end]

    @cached_property
    def may_think(self) -> bool:
        """Whether the vocabulary has marks of a reasoning block."""
        return any(
            is_reasoning_mark(t.content) for t in self._tokenizer.added_tokens_decoder.values()
        )

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that say where reasoning or a turn begins or ends."""
        added = self._tokenizer.added_tokens_decoder.items()
        return {i: t.content for i, t in added if t.special and is_mark(t.content)}

    def _decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row without special tokens."""
        if self._decodes_plainly:
            # transformers looks at every number in Python, and takes row after row.
            raw = self._tokenizer.backend_tokenizer
            texts: list[str] = raw.decode_batch([list(row) for row in rows])
            return texts
        return [
            self._tokenizer.decode(
                list(row), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            for row in rows
        ]

    def ends_stop(self, stop: Sequence[str], device: torch.device) -> Tensor | None:
        """Return which tokens can end one of the stop strings, or None when there are none.

        A token whose bytes are part of a character decodes to a replacement mark; it may.
        """
        if not stop:
            return None
        last = frozenset(s[-1] for s in stop) | {_HALF}
        if last not in self._stops:
            self._stops[last] = [not last.isdisjoint(t) for t in self._tokens]
        return torch.tensor(self._stops[last], device=device)

    @cached_property
    def _tokens(self) -> list[str]:
        """The text of every token, decoded behind a letter so that spaces stay."""
        letter = self._tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        skip = len(self._decode([letter])[0])
        known = len(self._tokenizer)
        texts = self._decode([[*letter, i] for i in range(min(known, self._vocabulary))])
        return [t[skip:] for t in texts] + [""] * max(0, self._vocabulary - known)


@final
class GrowingText:
    """The text of a draw that is under way, as `Texts.continuations` would give it: only its end is decoded anew.

    What stands before the last whole character is settled: nothing that follows changes it.
    """

    def __init__(self, texts: Texts, prompt: Sequence[int]) -> None:
        self._texts = texts
        self._before: deque[Sequence[int]] = deque([prompt[-_CONTEXT:]])
        """What was settled last, each part from the beginning of a character to the end of one."""
        self._open: list[int] = []
        self._settled = ""

    def add(self, token: int) -> None:
        """Take the next token."""
        self._open.append(token)

    def text(self) -> str:
        """Return the whole text so far; its last character may be half there."""
        end = self._texts.behind([*chain(*self._before)], self._open)
        if end.endswith(_HALF):
            return self._settled + end
        self._settled += end
        self._before.append(self._open)
        self._open = []
        while sum(map(len, self._before)) - len(self._before[0]) >= _CONTEXT:
            self._before.popleft()
        return self._settled
