"""The one place where a conversation or a plain text becomes the tokens that a model reads.

Sampling, training, judging and scoring all come through here, so that a prompt has the same tokens
everywhere. Turns are laid out by the model's chat template (`chat_template`); what stands in them, or
in a plain text, is text, whatever it says (`literal_text`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, Final, TypeVar, final

from selfimprove.reasoning import closing_of, parted
from selfimprove.sampling.chat_template import ChatTemplate
from selfimprove.sampling.conversation import Asked, Spoken
from selfimprove.sampling.literal_text import LiteralText
from selfimprove.types import Message

__all__ = ["Encoder", "encoder_of"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_REPLY: Final = "w0w"
"""A word of no meaning."""


def encoder_of(tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> Encoder:  # noqa: ANN401
    """Return the encoder of a tokenizer as it now is; the same one while it stays as it is."""
    settings = json.dumps(dict(chat_template_kwargs or {}), sort_keys=True)
    return _encoder(tokenizer, len(tokenizer), str(tokenizer.chat_template), settings)


@lru_cache(maxsize=8)
def _encoder(tokenizer: Any, size: int, template: str, settings: str) -> Encoder:  # noqa: ANN401
    return Encoder(tokenizer, json.loads(settings))


@cache
def _warn_once(text: str) -> None:
    _log.warning(text)


@final
class Encoder:
    """Encodes for one tokenizer, with one set of variables for its chat template."""

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any]) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self._literal = LiteralText(tokenizer)
        self._template = ChatTemplate(tokenizer, chat_template_kwargs)

    def prompts(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Return the tokens of prompts that are to be continued.

        Raises:
            EngineError: turns that the chat template does not take, or no chat template.
        """
        return _by_kind(asked, lambda a: a, self._plain_prompts, self._chat_prompts)

    def examples(self, said: Sequence[Spoken]) -> list[tuple[list[int], list[int]]]:
        """Return prompt and completion of each: the prompt has the tokens that `prompts` gives it.

        Raises:
            EngineError: turns that the chat template does not take, or no chat template.
        """
        return _by_kind(said, lambda s: s.asked, self._plain_examples, self._chat_examples)

    def conversations(self, said: Sequence[Spoken]) -> list[list[int]]:
        """Return whole conversations as reward models read them, with the mark that ends the reply.

        None stands behind a reply that is not finished.

        Raises:
            EngineError: turns that the chat template does not take, or no chat template.
        """
        return _by_kind(said, lambda s: s.asked, self._plain_whole, self._chat_whole)

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of a model's own words alone, nothing added."""
        return self._literal.ids([self._literal.marked(t, own=True) for t in texts], special=False)

    def whole_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of plain texts with all that the tokenizer puts around them."""
        rows = self._literal.ids([self._literal.marked(self._bare(t)) for t in texts], special=True)
        return [self._opened(*pair) for pair in zip(texts, rows, strict=True)]

    def pair(self, first: str, second: str) -> tuple[list[int], list[int] | None]:
        """Return the tokens of two segments, and of each token its segment where a model is told."""
        return self._literal.pair(self._literal.marked(first), self._literal.marked(second))

    def _plain_prompts(self, texts: Sequence[Any]) -> list[list[int]]:
        rows = self.whole_texts(texts)
        # Nothing can be continued behind a token that ends a text, as some tokenizers add it.
        return [row[: len(row) - self._closing_tokens] for row in rows]

    def _chat_prompts(self, asked: Sequence[Any]) -> list[list[int]]:
        return self._literal.ids([self._prompt(self._taken(a)) for a in asked], special=False)

    def _plain_examples(self, said: Sequence[Spoken]) -> list[tuple[list[int], list[int]]]:
        texts = [
            (
                self._literal.marked(self._bare(str(s.asked))),
                self._literal.marked(s.reply, own=True),
            )
            for s in said
        ]
        rows = zip(said, self._parted(texts, special=True), strict=True)
        return [(self._opened(str(s.asked), prompt), reply) for s, (prompt, reply) in rows]

    def _chat_examples(self, said: Sequence[Spoken]) -> list[tuple[list[int], list[int]]]:
        return self._parted([self._prompt_and_reply(s) for s in said], special=False)

    def _plain_whole(self, said: Sequence[Spoken]) -> list[list[int]]:
        rows = self.whole_texts([f"{s.asked}{s.reply}" for s in said])
        return [self._ended(row, s.finished) for row, s in zip(rows, said, strict=True)]

    def _ended(self, row: list[int], finished: bool) -> list[int]:
        """A plain reply has no mark of a template at its end; without one, a whole reply looks cut."""
        eos: int | None = self._tokenizer.eos_token_id
        if not finished:
            return row[: len(row) - self._closing_tokens]
        return row if eos is None or row[-1:] == [eos] else [*row, eos]

    def _chat_whole(self, said: Sequence[Spoken]) -> list[list[int]]:
        return self._literal.ids([self._as_far_as_said(s) for s in said], special=False)

    def _as_far_as_said(self, said: Spoken) -> str:
        taken = self._taken(said.asked)
        whole = self._whole(taken, said.reply)
        if said.finished:
            return whole
        # What the template writes behind a reply, it writes behind this one, too.
        return whole.removesuffix(self._whole(taken, _REPLY).rpartition(_REPLY)[2])

    def _taken(self, asked: Any) -> list[Message]:  # noqa: ANN401  turns, of what is either
        return [
            Message(t.role, self._literal.marked(t.content, own=t.role == "assistant"))
            for t in self._template.taken(asked)
        ]

    def _prompt(self, taken: Sequence[Message]) -> str:
        return self._template.rendered(taken, to_be_continued=True)

    def _whole(self, taken: Sequence[Message], reply: str) -> str:
        said = Message("assistant", self._literal.marked(reply, own=True))
        return self._template.rendered([*taken, said], to_be_continued=False)

    def _prompt_and_reply(self, said: Spoken) -> tuple[str, str]:
        taken = self._taken(said.asked)
        prompt, whole = self._prompt(taken), self._whole(taken, said.reply)
        if whole.startswith(prompt):
            return prompt, whole[len(prompt) :]
        # Some templates rewrite earlier turns once an answer follows; the prompt must be what
        # sampling sees, so the answer is then put behind it as it stands.
        return prompt, _closed(prompt, self._literal.marked(said.reply, own=True))

    def _parted(
        self, texts: Sequence[tuple[str, str]], *, special: bool
    ) -> list[tuple[list[int], list[int]]]:
        """Tokenise prompts and replies such that a prompt has the very tokens that sampling gives it.

        The whole text is cut behind the prompt's tokens. Where tokenisation joins letters across the
        seam, the reply is tokenised by itself: after the prompt's last token, the model could not
        have written the joined one.
        """
        prompts = self._literal.ids([p for p, _ in texts], special=special)
        wholes = self._literal.ids([p + c for p, c in texts], special=special)
        ends = self._closing_tokens if special else 0
        before = [row[: len(row) - ends] for row in prompts]
        whole = [row[: len(row) - ends] for row in wholes]
        seams = [w[: len(b)] == b for w, b in zip(whole, before, strict=True)]
        torn = [reply for (_, reply), clean in zip(texts, seams, strict=True) if not clean]
        alone = iter(self._literal.ids(torn, special=False))
        return [
            (b, w[len(b) :] if clean else next(alone))
            for b, w, clean in zip(before, whole, seams, strict=True)
        ]

    @cached_property
    def _closing_tokens(self) -> int:
        """How many tokens the tokenizer adds behind a text by itself (some add the stop token)."""
        around = self._literal.ids(["a"], special=True)[0]
        bare = self._literal.ids(["a"], special=False)[0]
        return around[::-1].index(bare[-1]) if bare else 0

    def _bare(self, text: str) -> str:
        """A plain text that was rendered elsewhere may begin with the BOS, written out."""
        bos: str | None = self._tokenizer.bos_token
        while bos and text.startswith(bos):
            text = text[len(bos) :]
        return text

    def _opened(self, text: str, ids: list[int]) -> list[int]:
        """Such a text begins with one BOS, whether or not the tokenizer adds it."""
        bos: int = self._tokenizer.bos_token_id
        return ids if self._bare(text) == text or ids[:1] == [bos] else [bos, *ids]


def _closed(prompt: str, reply: str) -> str:
    """Close a reasoning block that the prompt opens, where the reply does not: it is the answer."""
    closing = closing_of(prompt)
    if closing is None or parted(reply, thinking=True).finished:
        return reply
    _warn_once(
        f"the chat template opens a reasoning block (to {closing}) for every answer, and the answers "
        "to learn from hold no reasoning: they are put behind an empty block. Templates with a switch "
        "do without it: engine.chat_template_kwargs, e.g. {enable_thinking: false}"
    )
    return f"\n{closing}\n\n{reply}"


def _by_kind(
    items: Sequence[T],
    asked: Callable[[T], Asked],
    plain: Callable[[Sequence[T]], list[Any]],
    chat: Callable[[Sequence[T]], list[Any]],
) -> list[Any]:
    """Treat plain texts and turns by themselves, each in one call, and keep the order."""
    kinds = [isinstance(asked(item), str) for item in items]
    texts = iter(plain([item for item, kind in zip(items, kinds, strict=True) if kind]))
    turns = iter(chat([item for item, kind in zip(items, kinds, strict=True) if not kind]))
    return [next(texts if kind else turns) for kind in kinds]
