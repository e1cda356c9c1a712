"""Which prompt a filled-in judge prompt asks about, so that judging examples can be told apart by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from selfimprove.judges.judge_prompts import JudgePrompt, judge_prompt, shipped_prompts
from selfimprove.types import Demonstration, UserPrompt

__all__ = ["judged_prompts", "prompt_in"]

_MARK: Final = r"==\S+"
_SLOT: Final = re.compile(r"\{(prompt|response|mark)\}")


def prompt_in(words: JudgePrompt, filled: str) -> str | None:
    """Return the prompt that stands in a filled-in judge prompt; None where it has other words.

    >>> words = JudgePrompt(version=1, lowest=0, highest=5, text="{mark} Ask: {prompt} Say: {response}")
    >>> prompt_in(words, words.filled("key", "Why?", "So."))
    'Why?'
    """
    met: set[str] = set()
    pattern = ""
    for number, part in enumerate(_SLOT.split(words.text)):
        if number % 2 == 0:
            pattern += re.escape(part)
        elif part in met:
            pattern += f"(?P={part})"
        else:
            met.add(part)
            pattern += f"(?P<{part}>{_MARK if part == 'mark' else '.*?'})"
    found = re.fullmatch(pattern, filled, re.DOTALL)
    return found["prompt"] if found else None


def judged_prompts(examples: Sequence[Demonstration], prompt: str) -> list[UserPrompt]:
    """Return the prompt that each judging example is about, by the example's id.

    Args:
        examples: what a judge is asked, and what it should say.
        prompt: the judge prompt of the run, by name or file; the shipped ones are tried as well. An
            example in other words stands for its whole text.
    """
    known = shipped_prompts()
    if prompt not in (words.name for words in known) and Path(prompt).is_file():
        known = [judge_prompt(prompt), *known]
    return [
        UserPrompt(
            example.id,
            example.source,
            next((p for w in known if (p := prompt_in(w, example.prompt))), example.prompt),
        )
        for example in examples
    ]
