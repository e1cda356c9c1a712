"""How M_PIT and R_PIT are shown a prompt x and a reference y_ref: one template for every stage.

The paper does not print its format; this one is ours. The last user turn becomes a
request to improve the reference; earlier turns stay. r_gap(x, y, y_ref) is read off the
conversation [... request(x, y_ref)] [assistant: y], so that supervised training, reinforcement
learning, inference and the reward model all see the same words.

Two different (x, y_ref) never look alike: a line in either that begins like one of the template's
headers is indented by one space more than it was, so an unindented header is always the template's.
Turns are kept apart by the chat template itself. `unrendered` takes a request apart again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from selfimprove.config import Config, load, read_yaml, shipped_or_given
from selfimprove.errors import DataError
from selfimprove.types import Message

__all__ = ["ImprovementTemplate", "improvement_template", "rendered", "unrendered"]

_FOLDER: Final = Path(__file__).parent / "improvement_templates"
_SLOT: Final = re.compile(r"\{(prompt|reference)\}")


class ImprovementTemplate(Config):
    """The words around a prompt and a reference."""

    version: int = Field(ge=1)
    """Goes up with every change of the words."""
    text: str
    """With {prompt} and, below it, {reference}, each at the end of a line that begins with a header
    of its own."""

    @model_validator(mode="after")
    def _can_be_taken_apart(self) -> Self:
        lines = [line for line in self.text.split("\n") if _SLOT.search(line)]
        named = [re.fullmatch(r"\S[^{}]*: \{(prompt|reference)\}", line) for line in lines]
        if [found and found[1] for found in named] != ["prompt", "reference"]:
            raise ValueError("an improvement template needs the lines 'Header: {prompt}' and, below, "
                             "'Header: {reference}'")  # fmt: skip
        if len(set(self.headers)) < len(self.headers):
            raise ValueError("an improvement template needs two different headers")
        if not self.text.endswith("{reference}"):
            raise ValueError("an improvement template ends with {reference}")
        return self

    @property
    def headers(self) -> tuple[str, ...]:
        """What the lines of the slots begin with, e.g. ('Instruction:', 'Response:')."""
        lines = [line for line in self.text.split("\n") if _SLOT.search(line)]
        return tuple(_SLOT.split(line)[0].rstrip() for line in lines)

    def filled(self, prompt: str, reference: str) -> str:
        """Return the request to improve `reference` as a response to `prompt`."""
        values = {"prompt": self._indented(prompt), "reference": self._indented(reference)}
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)

    def taken_apart(self, request: str) -> tuple[str, str]:
        """Return the prompt and the reference of a request that `filled` has written.

        Raises:
            ValueError: it is none.
        """
        before, between = _SLOT.split(self.text)[0], _SLOT.split(self.text)[2]
        prompt, found, reference = request.removeprefix(before).partition(between)
        if not request.startswith(before) or not found:
            raise ValueError("this is no request to improve a response")
        return self._outdented(prompt), self._outdented(reference)

    def _indented(self, content: str) -> str:
        return re.sub(rf"(?<=\n)(?= *(?:{self._either}))", " ", content)

    def _outdented(self, content: str) -> str:
        return re.sub(rf"(?<=\n) (?= *(?:{self._either}))", "", content)

    @property
    def _either(self) -> str:
        return "|".join(re.escape(header) for header in self.headers)


def improvement_template(name: str) -> ImprovementTemplate:
    """Return a shipped template, such as `v1`, or the one in a YAML file.

    Raises:
        ConfigError: there is none of this name, or the file does not hold one.
    """
    path = shipped_or_given(_FOLDER, name, "improvement template")
    return load(ImprovementTemplate, read_yaml(path), str(path))


def rendered(
    template: ImprovementTemplate, prompt: Sequence[Message], reference: str
) -> tuple[Message, ...]:
    """Return the turns that ask for something better than `reference`.

    Raises:
        DataError: the prompt does not end in the user's turn.
    """
    if not prompt or prompt[-1].role != "user":
        raise DataError("a prompt must end in the user's turn, or there is nothing to respond to")
    return (*prompt[:-1], Message("user", template.filled(prompt[-1].content, reference)))


def unrendered(
    template: ImprovementTemplate, turns: Sequence[Message]
) -> tuple[tuple[Message, ...], str]:
    """Return the prompt and the reference that `rendered` was given.

    Raises:
        ValueError: the last turn is no request to improve a response.
    """
    prompt, reference = template.taken_apart(turns[-1].content)
    return (*turns[:-1], Message("user", prompt)), reference
