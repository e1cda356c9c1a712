"""Examples as tokens: what the model reads, and from where on it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.errors import TrainingError
from selfimprove.types import Example

__all__ = ["Tokenised", "TokenisedExample", "tokenise", "tokenise_each"]


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
    """Rows whose prompt lost its beginning."""
    dropped: int
    """Rows whose completion alone is longer than the limit, or which have no prompt."""


def tokenise(
    examples: Sequence[Example],
    tokenizer: Any,  # noqa: ANN401
    stop: Sequence[int],
    max_length: int,
) -> Tokenised:
    """Tokenise examples, each finished completion ending in a stop token that is trained.

    Args:
        examples: what to teach.
        tokenizer: the model's own.
        stop: token ids that end a turn; the first one is appended where none is there, but never
            to an unfinished completion, which loses its template's own.
        max_length: in tokens; the prompt loses its beginning first.
    """
    rows, longer = tokenise_each(examples, tokenizer, stop, max_length)
    kept = tuple(row for row in rows if row is not None)
    return Tokenised(kept, truncated=longer, dropped=len(rows) - len(kept))


def tokenise_each(
    examples: Sequence[Example],
    tokenizer: Any,  # noqa: ANN401
    stop: Sequence[int],
    max_length: int,
) -> tuple[list[TokenisedExample | None], int]:
    """Like `tokenise`, but a row that does not fit keeps its place as None.

    Returns:
        the rows, and how many of them lost the beginning of their prompt.
    """
    encoded = zip(examples, _encode(examples, tokenizer), strict=True)
    rows = [_end(*pair, stop, finished=example.finished) for example, pair in encoded]
    longer = sum(len(p) + len(c) > max_length and len(c) < max_length for p, c in rows)
    return [_fit(prompt, completion, max_length) for prompt, completion in rows], longer


def _encode(
    examples: Sequence[Example],
    tokenizer: Any,  # noqa: ANN401
) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion ids of each example, in the order given."""
    pairs: list[tuple[list[int], list[int]]] = [([], []) for _ in examples]
    for chat in (False, True):
        places = [i for i, e in enumerate(examples) if (not isinstance(e.prompt, str)) == chat]
        texts = [_texts(examples[i], tokenizer) for i in places]
        for i, pair in zip(places, _split(texts, tokenizer, special=not chat), strict=True):
            pairs[i] = pair
    return pairs


def _texts(example: Example, tokenizer: Any) -> tuple[str, str]:  # noqa: ANN401
    """What the model reads before it writes, and what it is to write."""
    if isinstance(example.prompt, str):
        return example.prompt, example.completion
    if not tokenizer.chat_template:
        raise TrainingError(
            "the examples hold turns, but the model has no chat template: "
            "give plain text (engine.chat=false), or a model that was tuned for chat"
        )
    turns = [{"role": m.role, "content": m.content} for m in example.prompt]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    turns.append({"role": "assistant", "content": example.completion})
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    # Some templates rewrite earlier turns once an answer follows; the prompt must be what
    # sampling sees, so the answer is then put behind it as it stands.
    return prompt, whole[len(prompt) :] if whole.startswith(prompt) else example.completion


def _split(
    texts: Sequence[tuple[str, str]],
    tokenizer: Any,  # noqa: ANN401
    *,
    special: bool,
) -> list[tuple[list[int], list[int]]]:
    """Tokenise both parts such that the prompt has the very tokens that sampling gives it.

    The whole text is cut behind the prompt's tokens. Where tokenisation joins letters across the
    seam, the completion is tokenised by itself: after the prompt's last token, the model could not
    have written the joined one.
    """
    if not texts:
        return []
    prompts = tokenizer([p for p, _ in texts], add_special_tokens=special)["input_ids"]
    wholes = tokenizer([p + c for p, c in texts], add_special_tokens=special)["input_ids"]
    alone = tokenizer([c for _, c in texts], add_special_tokens=False)["input_ids"]
    ends = _closing_tokens(tokenizer) if special else 0
    pairs = []
    for prompt, whole, completion in zip(prompts, wholes, alone, strict=True):
        before = prompt[: len(prompt) - ends]
        rest = whole[len(before) : len(whole) - ends]
        pairs.append((before, rest if whole[: len(before)] == before else completion))
    return [(_bos_once(p, tokenizer.bos_token_id), c) for p, c in pairs]


def _closing_tokens(tokenizer: Any) -> int:  # noqa: ANN401
    """How many tokens the tokenizer adds behind a text by itself (some add the stop token)."""
    with_special = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    after = 0
    while (
        len(with_special) - after > 0 and with_special[len(with_special) - 1 - after] != plain[-1]
    ):
        after += 1
    return after


def _bos_once(ids: list[int], bos: int | None) -> list[int]:
    """Text that already begins with the written-out BOS would get a second one."""
    return ids[1:] if bos is not None and ids[:2] == [bos, bos] else ids


def _end(
    prompt: list[int], completion: list[int], stop: Sequence[int], *, finished: bool
) -> tuple[list[int], list[int]]:
    """End a finished completion with a stop token, an unfinished one with its own last token."""
    last = next((i for i in reversed(range(len(completion))) if completion[i] in stop), None)
    if not finished:
        return prompt, completion[:last]
    return prompt, [*completion, stop[0]] if last is None else completion[: last + 1]


def _fit(prompt: list[int], completion: list[int], max_length: int) -> TokenisedExample | None:
    """Cut the beginning of the prompt; at least one of its tokens must stay to predict from."""
    room = max_length - len(completion)
    if room < 1 or not prompt or not completion:
        return None
    kept = prompt[-room:]
    return TokenisedExample((*kept, *completion), len(kept))
