"""Examples as tokens: what the model reads, and from where on it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfimprove.sampling.conversation import Spoken
from selfimprove.sampling.encoder import encoder_of
from selfimprove.sampling.shortening import Fitted, Shorten, fitted, oldest_first
from selfimprove.types import Example

__all__ = ["Shown", "Tokenised", "TokenisedExample", "tokenise", "tokenise_groups"]


@dataclass(frozen=True, slots=True)
class Shown:
    """How prompts are shown to a model in training: as its engine shows them."""

    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the chat template (`engine.chat_template_kwargs`)."""
    shorten: Shorten = oldest_first
    """What goes first where a prompt is too long."""


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """Prompt and completion in one row; the loss is taken from `prompt_tokens` on."""

    ids: tuple[int, ...]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Tokenised:
    """The rows that can be trained on, and how many had to give way to the length limit."""

    rows: tuple[TokenisedExample, ...]
    truncated: int
    """Rows whose prompt lost its oldest turns or text."""
    dropped: int
    """Rows whose completion alone is longer than the limit, or which have no prompt."""


def tokenise(
    examples: Sequence[Example],
    tokenizer: Any,  # noqa: ANN401
    stop: Sequence[int],
    max_length: int,
    shown: Shown | None = None,
) -> Tokenised:
    """Tokenise examples, each finished completion ending in a stop token that is trained.

    Args:
        examples: what to teach.
        tokenizer: the model's own.
        stop: token ids that end a turn; the first one is appended where none is there, but never
            to an unfinished completion, which loses its template's own.
        max_length: in tokens; a longer prompt loses its oldest turns, then its oldest text.
        shown: how prompts are shown.

    Raises:
        EngineError: turns that the chat template does not take, or no chat template.
    """
    found = tokenise_groups([[e] for e in examples], tokenizer, stop, max_length, shown)
    kept = tuple(group[0] for group in found.groups if group is not None)
    return Tokenised(kept, found.shortened, dropped=len(examples) - len(kept))


def tokenise_groups(
    groups: Sequence[Sequence[Example]],
    tokenizer: Any,  # noqa: ANN401
    stop: Sequence[int],
    max_length: int,
    shown: Shown | None = None,
) -> Fitted[TokenisedExample]:
    """Like `tokenise`, for examples that belong together: their prompts are shortened alike."""
    shown = shown or Shown()
    encoder = encoder_of(tokenizer, shown.chat_template_kwargs)

    def encode(said: Sequence[Spoken]) -> list[TokenisedExample]:
        pairs = zip(said, encoder.examples(said), strict=True)
        ended = (_end(*pair, stop, finished=one.finished) for one, pair in pairs)
        return [TokenisedExample((*prompt, *reply), len(prompt)) for prompt, reply in ended]

    told = [[Spoken(e.prompt, e.completion, e.finished) for e in group] for group in groups]
    found = fitted(told, encode, lambda row: len(row.ids), max_length, shown.shorten)
    return Fitted([_taught(group) for group in found.groups], found.shortened)


def _taught(group: tuple[TokenisedExample, ...] | None) -> tuple[TokenisedExample, ...] | None:
    """A row teaches nothing without a prompt to predict from, or without a completion."""
    whole = all(0 < row.prompt_tokens < len(row.ids) for row in group or ())
    return group if whole else None


def _end(
    prompt: list[int], completion: list[int], stop: Sequence[int], *, finished: bool
) -> tuple[list[int], list[int]]:
    """End a finished completion with a stop token, an unfinished one with its own last token.

    A template may write several of them, as Phi-3's does: sampling ends at the first.
    """
    first = next((i for i, token in enumerate(completion) if token in stop), len(completion))
    end = completion[first : first + 1] or [stop[0]]
    return prompt, [*completion[:first], *(end if finished else [])]
