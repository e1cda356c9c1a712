"""`vote`: a response that agrees with the majority answer (LMSI, Sec. 3.1)."""

from __future__ import annotations

from selfimprove.answers.answers import extract
from selfimprove.answers.answers import vote as counted
from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.served_models import Models
from selfimprove.serve.ways.drawn import chosen, drawn

__all__ = ["vote"]


def vote(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Answer with the first finished response that agrees with the majority of n."""
    kind = ask.improve.answer_type
    of = drawn(models.steps(line), models, ask, ask.improve.n)
    found = counted([extract(r.text, kind, lenient=True) for r in of], kind)
    place = next((i for i in found.members if of[i].is_finished), None)
    if place is None:
        place = next((i for i in (*found.members, *range(len(of)))), 0)
    told = {"method": "vote", "answer": found.answer, "confidence": found.confidence,
            "votes": [{"answer": c.answer, "votes": c.votes} for c in found.classes],
            "n": len(of), "chosen": place}  # fmt: skip
    return chosen(of, place, told)
