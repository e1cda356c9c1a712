"""Judge prompts: versioned YAML files, filled in such that what is judged stays mere data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import Field

from selfimprove.config import Config, load, read_yaml, shipped_or_given
from selfimprove.errors import ConfigError
from selfimprove.reasoning import parted
from selfimprove.seeds import rng

__all__ = ["JudgePrompt", "judge_prompt", "shipped_prompts"]

_FOLDER: Final = Path(__file__).parent / "prompts"
_SLOT: Final = re.compile(r"\{(prompt|response|other|mark)\}")


class JudgePrompt(Config):
    """How a judge is asked, and on which scale it answers."""

    name: str = ""
    """What a recipe calls it."""
    version: int = Field(ge=1)
    """Goes up with every change of the words."""
    lowest: int
    """Lowest score."""
    highest: int
    """Highest score."""
    text: str
    """With {prompt} and {response}; a pairwise prompt with {other}, the second response; {mark} is
    a delimiter that no response can know."""

    @property
    def compares_two(self) -> bool:
        """Whether a second response is asked about beside the first."""
        return "other" in _SLOT.findall(self.text)

    def filled(self, key: str, prompt: str, response: str, other: str = "") -> str:
        """Return the judge's prompt; what stands in the slots is never read as a slot itself.

        Reasoning is left out of what is judged: it is no part of a response. Control tokens in it are
        left to the engine, to which all of this is text.

        Args:
            key: names the judgement: the delimiter is drawn from it, the same one every time.
            prompt: the user's.
            response: to be judged.
            other: a second response, to be compared with the first.
        """
        mark = f"=={rng(0, 'mark', key).getrandbits(24):06x}"
        one, two = parted(response).response, parted(other).response
        values = {"prompt": prompt, "response": one, "other": two, "mark": mark}
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)


def judge_prompt(name: str, *, pairwise: bool = False) -> JudgePrompt:
    """Return a shipped judge prompt, or the one in a YAML file.

    Raises:
        ConfigError: there is none of this name, the file does not hold one, or it does not ask for
            what is wanted: a score of one response, or a choice between two.
    """
    path = shipped_or_given(_FOLDER, name, "judge prompt")
    found = _read(path)
    if found.compares_two != pairwise:
        needs = "compares two responses" if pairwise else "scores one response"
        raise ConfigError(f"{path}: a judge that {needs} needs another prompt (judge.prompt)")
    return found


def shipped_prompts() -> list[JudgePrompt]:
    """Return the shipped judge prompts that score one response, by name.

    >>> [words.name for words in shipped_prompts()]
    ['additive', 'multiple_choice', 'tiny']
    """
    shipped = [_read(path) for path in sorted(_FOLDER.glob("*.yaml"))]
    return [words for words in shipped if not words.compares_two]


def _read(path: Path) -> JudgePrompt:
    found = load(JudgePrompt, {**read_yaml(path), "name": path.stem}, str(path))
    if not {"prompt", "response"} <= set(_SLOT.findall(found.text)):
        raise ConfigError(f"{path}: its text must hold {{prompt}} and {{response}}")
    return found
