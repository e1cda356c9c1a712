"""What a response of the tiny world is really worth: five yes-or-no criteria, 0 to 5 points.

For seed data and measurement alone: no method's loop may read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from selfimprove.tiny.instructions import CRITERIA, ENDINGS, ITEMS, KINDS, claim, parse

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type alone

__all__ = ["noisy", "review", "review_request", "score", "verdicts"]


def verdicts(instruction: str, response: str) -> dict[str, bool]:
    """Judge a response by every criterion; all are missed if the instruction is not of the world.

    >>> verdicts("How can Ben make tea with jars?", "To make tea, ask.")["topic"]
    True
    """
    asked = parse(instruction)
    if asked is None:
        return dict.fromkeys(CRITERIA, False)
    text = response.strip()
    words = text.replace(".", " ").replace(",", " ").split()
    spoken = [subject for subject in KINDS[asked.kind].subjects if subject in text]
    return {
        "topic": spoken == [asked.subject],
        "item": asked.item in words,
        "facts": any(claim(asked.kind, subject, true=True) in text for subject in spoken),
        "clear": all(one != two for one, two in pairwise(words)),
        "ending": text.endswith(ENDINGS),
    }


def score(instruction: str, response: str) -> int:
    """Return the points of a response, 0 to 5."""
    return sum(verdicts(instruction, response).values())


def noisy(found: Mapping[str, bool], random: Random, noise: float = 0.1) -> dict[str, bool]:
    """Return the verdicts of a careless reviewer, who turns each over with probability `noise`."""
    return {name: met != (random.random() < noise) for name, met in found.items()}


def review_request(instruction: str, response: str) -> str:
    """Return the words by which a review of a response is asked for."""
    return f"Review the response.\nInstruction: {instruction}\nResponse: {response}"


def review(found: Mapping[str, bool], instruction: str, response: str) -> str:
    r"""Write a review: what was asked and what was told, each with its verdict, then the score.

    Quoting before judging makes the comparison one of neighbours, which a very small model learns.

    >>> met = {"topic": True, "item": False}
    >>> review(met, "How can Ben make tea with jars?", "To make tea, ask.")
    'topic tea tea yes, item jars none no.\\nScore: 1'
    """
    told = ", ".join(
        f"{name}{_quoted(name, instruction, response)} {'yes' if met else 'no'}"
        for name, met in found.items()
    )
    return f"{told}.\nScore: {sum(found.values())}"


def _quoted(criterion: str, instruction: str, response: str) -> str:
    """Return the word that was asked for and the word that was told; '' for other criteria."""
    asked = parse(instruction)
    if asked is None or criterion not in ("topic", "item"):
        return ""
    words = response.replace(".", " ").replace(",", " ").split()
    if criterion == "item":
        return f" {asked.item} {next((word for word in words if word in ITEMS), 'none')}"
    subjects = [subject.split()[-1] for subject in KINDS[asked.kind].subjects]
    told = next((word for word in words if word in subjects), "none")
    return f" {asked.subject.split()[-1]} {told}"
