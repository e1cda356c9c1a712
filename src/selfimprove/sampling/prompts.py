"""Prompts as tokens: rendered, checked against the model's context, grouped by shared prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from selfimprove.errors import EngineError
from selfimprove.sampling.encoder import encoder_of
from selfimprove.types import Prompt

__all__ = ["Cohort", "Encoded", "check_fit", "check_keys", "cohorts", "encode"]

# A prefix shorter than this is cheaper to read again in every row than to treat apart.
_MIN_PREFIX = 16
# A group of fewer prompts does not leave its cohort for a longer prefix of its own.
_MIN_GROUP = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as the model reads it."""

    key: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Prompts sampled together: all begin with the same `shared` tokens."""

    prompts: tuple[Encoded, ...]
    shared: int


def check_keys(prompts: Sequence[Prompt]) -> None:
    """Raise EngineError when two prompts have one key: their draws could not be told apart."""
    key, count = max(Counter(p.key for p in prompts).items(), key=lambda c: c[1], default=("", 0))
    if count > 1:
        raise EngineError(f"{count} prompts have the key {key!r}; keys must differ within a call")


def encode(
    prompts: Sequence[Prompt],
    tokenizer: Any,  # noqa: ANN401
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[Encoded]:
    """Tokenise prompts: text with the tokenizer's special tokens, turns by its chat template.

    Raises:
        EngineError: turns that the chat template does not take, turns without one, or a prompt of
            no tokens.
    """
    rows = encoder_of(tokenizer, chat_template_kwargs).prompts([p.content for p in prompts])
    for prompt, row in zip(prompts, rows, strict=True):
        if not row:
            raise EngineError(f"prompt {prompt.key!r} is empty: there is nothing to continue")
    return [Encoded(p.key, tuple(row)) for p, row in zip(prompts, rows, strict=True)]


def check_fit(prompts: Sequence[Encoded], max_tokens: int, limit: int | None) -> None:
    """Raise EngineError for the first prompt that leaves no room for `max_tokens` new ones."""
    for prompt in prompts:
        asked = len(prompt.ids)
        if limit is None or asked + max_tokens <= limit:
            continue
        if asked >= limit:
            raise EngineError(
                f"prompt {prompt.key!r} has {asked} tokens, and the model reads {limit}: take fewer or "
                "shorter exemplars or texts, or a model with a longer context"
            )
        raise EngineError(
            f"prompt {prompt.key!r} has {asked} tokens; with max_tokens={max_tokens} "
            f"that is {asked + max_tokens}, over the model's context of {limit}: "
            "shorten the prompt or lower max_tokens"
        )


def cohorts(prompts: Sequence[Encoded]) -> list[Cohort]:
    """Group prompts by shared prefix, longest rest first within a group.

    One common prefix (few-shot exemplars, a rubric) makes one cohort. Where groups of prompts
    share much more among themselves than with the others, each such group is a cohort.
    """
    return _split(sorted(prompts, key=lambda p: p.ids)) if prompts else []


def _split(ordered: Sequence[Encoded]) -> list[Cohort]:
    """Cut sorted prompts where neighbours share least; big groups become cohorts of their own."""
    gaps = [_common(a.ids, b.ids) for a, b in pairwise(ordered)]
    # The last token is always read by the row itself: its logits choose the first new token.
    shared = min([len(p.ids) - 1 for p in ordered] + gaps)
    cuts = [i + 1 for i, gap in enumerate(gaps) if gap == min(gaps)]
    groups = [ordered[a:b] for a, b in zip([0, *cuts], [*cuts, len(ordered)], strict=True)]
    own: list[Cohort] = []
    rest: list[Encoded] = []
    for group in groups:
        deeper = _common(group[0].ids, group[-1].ids) - shared >= _MIN_PREFIX
        if len(group) >= _MIN_GROUP and len(group) < len(ordered) and deeper:
            own.extend(_split(group))
        else:
            rest.extend(group)
    return own + ([_cohort(rest)] if rest else [])


def _cohort(group: Sequence[Encoded]) -> Cohort:
    first, last = min(p.ids for p in group), max(p.ids for p in group)
    shared = min(_common(first, last), min(len(p.ids) for p in group) - 1)
    longest_first = sorted(group, key=lambda p: (-len(p.ids), p.key))
    return Cohort(tuple(longest_first), shared if shared >= _MIN_PREFIX else 0)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two prompts begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        # Slices are compared as fast as memory is read, tokens one by one are not.
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
