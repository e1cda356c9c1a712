"""How a question is put to a model: the four layouts of LMSI (Sec. 3.2), one function each.

A completion starts with the space after `A:`, so that prompt + completion reads as one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from selfimprove.data.exemplars import Exemplar
from selfimprove.types import AnswerType, Message, Prompt

__all__ = [
    "ANSWER_STOPS",
    "REASONED",
    "Layout",
    "answer_only",
    "as_prompt",
    "chain_of_thought",
    "direct",
    "laid_out",
    "standard",
    "stated",
    "step_by_step",
]

Layout: TypeAlias = Literal["cot", "standard", "step_by_step", "direct"]
"""By name, in the order of the paper's Table 1."""

REASONED: Final = frozenset({"cot", "step_by_step"})
"""The layouts whose completion reasons."""

ANSWER_STOPS = ("\n\n", "\nQ:")
"""A model shown exemplars goes on to write the next question; its answer ends before that."""


def laid_out(layout: Layout, question: str, exemplars: Sequence[Exemplar]) -> str:
    """Put a question in one of the layouts; those without exemplars leave them out."""
    if layout == "cot":
        return chain_of_thought(question, exemplars)
    if layout == "standard":
        return standard(question, exemplars)
    return step_by_step(question) if layout == "step_by_step" else direct(question)


def stated(answer: str, answer_type: AnswerType) -> str:
    """Return an answer as it is written behind 'The answer is'.

    >>> stated("B", "choice"), stated("18", "number")
    ('(B)', '18')
    """
    return f"({answer})" if answer_type == "choice" else answer


def answer_only(answer: str) -> str:
    """Return the completion of the layouts without reasoning."""
    return f" The answer is {answer}."


def chain_of_thought(question: str, exemplars: Sequence[Exemplar]) -> str:
    """Few-shot with reasoning: exemplars, then the question and `A:` (format 1).

    Without exemplars nothing would ask for reasoning, so the zero-shot cue does (format 3).
    """
    if not exemplars:
        return step_by_step(question)
    shown = [f"Q: {e.question}\nA: {e.reasoning}{answer_only(e.answer)}" for e in exemplars]
    return "\n\n".join([*shown, direct(question)])


def standard(question: str, exemplars: Sequence[Exemplar]) -> str:
    """Few-shot with the exemplars' reasoning removed (format 2)."""
    shown = [f"Q: {e.question}\nA:{answer_only(e.answer)}" for e in exemplars]
    return "\n\n".join([*shown, direct(question)])


def step_by_step(question: str) -> str:
    """Zero-shot with the cue of Kojima et al. (2022) (format 3)."""
    return f"Q: {question}\nA: Let's think step by step."


def direct(question: str) -> str:
    """Zero-shot, the answer at once (format 4)."""
    return f"Q: {question}\nA:"


def as_prompt(key: str, text: str, *, chat: bool) -> Prompt:
    """Wrap a layout for an engine: as plain text, or as the user's turn of an instruct model."""
    return Prompt(key, (Message("user", text),) if chat else text)
