"""The texts that the tiny models are pretrained on, as endless streams of documents.

A document is one of: solved questions in one of LMSI's formats, a list of questions or of
instructions, or a turn of conversation with a response of any quality, or with a careless review.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from selfimprove.seeds import rng
from selfimprove.tiny.instructions import CRITERIA, Instruction, respond, some_instructions
from selfimprove.tiny.oracle import noisy, review, review_request
from selfimprove.tiny.problems import STYLES, Problem, habitual, problems, solve

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

__all__ = ["END", "QUALITY", "STEP_BY_STEP", "Document", "block", "documents", "drafted", "turns"]

END: Final = "<|end|>"
STEP_BY_STEP: Final = "Let's think step by step."

_MAX_BLOCKS: Final = 5
QUALITY: Final = (0.1, 0.9)
"""A draft's hidden quality is drawn evenly from this range."""


class Document(NamedTuple):
    """A text to learn from, of which the first part is only read."""

    read: str
    learnt: str


def block(question: str, answer: str = "") -> str:
    """Return a question and what follows its 'A:', as every document writes them."""
    return f"Q: {question}\nA:{' ' if answer else ''}{answer}"


def turns(user: str, assistant: str) -> str:
    """Return one exchange, as the chat template renders it."""
    return f"<|user|>{user}{END}<|assistant|>{assistant}{END}"


def documents(seed: int, *stream: str | int) -> Iterator[str]:
    """Yield documents without end; equal arguments give equal documents."""
    random = rng(seed, "documents", *stream)
    solved, asked = problems("corpus", random), some_instructions("corpus", random)
    kinds: dict[Callable[[], str], int] = {
        lambda: _solved(random, solved): 30,
        lambda: _direct(solved, random.randint(2, _MAX_BLOCKS)): 8,
        lambda: _direct(solved, 1): 32,
        lambda: _step_by_step(random, solved): 10,
        lambda: _wished(random, solved): 5,
        lambda: _questions(random, solved): 3,
        lambda: _instructions(random, asked): 4,
        lambda: _response(random, asked): 25,
        lambda: _review(random, asked): 25,
    }
    while True:
        yield random.choices(list(kinds), weights=list(kinds.values()))[0]()


def _solved(random: Random, solved: Iterator[Problem]) -> str:
    chosen = islice(solved, random.randint(1, _MAX_BLOCKS))
    blocks = (block(one.text, solve(one, habitual(random), random)) for one in chosen)
    return "\n\n".join(blocks) + END


def _direct(solved: Iterator[Problem], blocks: int) -> str:
    chosen = islice(solved, blocks)
    return "\n\n".join(block(one.text, f"The answer is {one.answer}.") for one in chosen) + END


def _step_by_step(random: Random, solved: Iterator[Problem]) -> str:
    one = next(solved)
    return block(one.text, f"{STEP_BY_STEP} {solve(one, habitual(random), random)}") + END


def _wished(random: Random, solved: Iterator[Problem]) -> str:
    one, style = next(solved), habitual(random)
    return block(f"{one.text} {STYLES[style].wish}", solve(one, style, random)) + END


def _questions(random: Random, solved: Iterator[Problem]) -> str:
    return "\n\n".join(f"Q: {one.text}" for one in islice(solved, random.randint(4, 8))) + END


def _instructions(random: Random, asked: Iterator[Instruction]) -> str:
    listed = islice(asked, random.randint(4, 9))
    return "\n\n".join(f"Instruction: {one.text}" for one in listed) + END


def drafted(quality: float, random: Random) -> dict[str, bool]:
    """Return the criteria that a draft of this quality, a probability, meets."""
    return {name: random.random() < quality for name in CRITERIA}


def _next_draft(
    random: Random, asked: Iterator[Instruction]
) -> tuple[Instruction, dict[str, bool]]:
    quality = random.uniform(*QUALITY)
    return next(asked), drafted(quality, random)


def _response(random: Random, asked: Iterator[Instruction]) -> str:
    instruction, met = _next_draft(random, asked)
    return turns(instruction.text, respond(instruction, met, random))


def _review(random: Random, asked: Iterator[Instruction]) -> str:
    instruction, met = _next_draft(random, asked)
    response = respond(instruction, met, random)
    request = review_request(instruction.text, response)
    return turns(request, review(noisy(met, random), instruction.text, response))
