"""How a judge is asked to rate an answer, and how its rating is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from selfimprove.answers.own_answer import next_judged
from selfimprove.config import read_yaml
from selfimprove.data.formats import rows_of
from selfimprove.data.tables import records
from selfimprove.errors import ConfigError
from selfimprove.evaluation.mt_bench.rows import TwoTurns
from selfimprove.judges.score_text import Scored, Unscored
from selfimprove.sampling.own_words import response
from selfimprove.seeds import rng
from selfimprove.types import Message

__all__ = ["HIGHEST", "LOWEST", "JudgePrompt", "judge_prompts", "judged_turns", "read_rating"]

LOWEST: Final = 1.0
HIGHEST: Final = 10.0
_SHIPPED: Final = Path(__file__).parent / "prompts.yaml"
_NAMES: Final = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
_SLOT: Final = re.compile(
    r"\{(question|answer|question_1|answer_1|question_2|answer_2|ref_answer_1|ref_answer_2|mark)\}"
)
_RATING: Final = (
    re.compile(r"\[\[\s*(\d{1,3}(?:\.\d{1,3})?)\s*\]\]", re.ASCII),
    re.compile(r"(?<!\[)\[\s*(\d{1,3}(?:\.\d{1,3})?)\s*\](?!\])", re.ASCII),
)
"""As asked for, and, where there is none of these, in single brackets, as published."""


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """What a judge is told, and how the answer is laid out for it."""

    system: str
    template: str


def judge_prompts(path: Path | None) -> dict[str, JudgePrompt]:
    """Return the four prompts by name: those that ship, or those of MT-Bench's `judge_prompts.jsonl`.

    Raises:
        ConfigError: one of the four is missing.
        DataError: the file cannot be read.
    """
    source = _SHIPPED if path is None else path
    if source.suffix == ".jsonl":
        rows = [r.fields for r in records(source, rows_of) if r.fields is not None]
        found = {str(r.get("name")): JudgePrompt(str(r.get("system_prompt") or ""),
                                                 str(r.get("prompt_template"))) for r in rows}  # fmt: skip
    else:
        told = read_yaml(source)
        found = {n: JudgePrompt(str(p["system"]), str(p["template"])) for n, p in told.items()}
    if missing := [name for name in _NAMES if name not in found]:
        raise ConfigError(f"{source} has no judge prompt {', '.join(missing)}")
    return found


def judged_turns(
    prompts: Mapping[str, JudgePrompt], question: TwoTurns, answers: Sequence[str], turn: int
) -> tuple[Message, ...]:
    """Return what a judge is shown for one turn.

    Args:
        prompts: by name.
        question: that was answered.
        answers: to the turns so far, up to the one that is judged.
        turn: which is judged, from 0.
    """
    guided = "-math" if question.reference else ""
    wording = prompts[f"single{guided}-v1{'-multi-turn' if turn else ''}"]
    references = question.reference or ("", "")
    values = {
        "question": question.turns[turn],
        "answer": answers[turn],
        "mark": f"=={rng(0, 'mark', question.id, turn).getrandbits(24):06x}",
        **{f"question_{n}": text for n, text in enumerate(question.turns, 1)},
        **{f"answer_{n}": text for n, text in enumerate(answers, 1)},
        **{f"ref_answer_{n}": text for n, text in enumerate(references, 1)},
    }
    # In one pass: what stands in a slot is never read as a slot itself.
    shown = Message("user", _SLOT.sub(lambda slot: values[slot[1]], wording.template))
    system = wording.system.strip()
    return (Message("system", system), shown) if system else (shown,)


def read_rating(text: str) -> Scored | Unscored:
    """Read the last rating of a judge's own text; MT-Bench's own code takes the first.

    >>> read_rating("Not a [[10]]. Rating: [[7]]")
    Scored(score=7.0)
    >>> read_rating("Rating: 7")
    Unscored(reason='no rating')
    """
    text = response(text)
    for pattern in _RATING:
        if first := pattern.search(text):
            *_, last = pattern.finditer(text[: next_judged(text, first.end())])
            score = float(last[1])
            if LOWEST <= score <= HIGHEST:
                return Scored(score)
            return Unscored("rating outside 1 to 10")
    return Unscored("no rating")
