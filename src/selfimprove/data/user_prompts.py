"""Prompts as users write them, from files of many kinds or from the tiny world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from selfimprove.data import oasst
from selfimprove.data.dialogues import parsed, prompt_of
from selfimprove.data.read import TINY
from selfimprove.data.sources import Source, distinct
from selfimprove.errors import DataError
from selfimprove.types import UserPrompt

if TYPE_CHECKING:
    from selfimprove.tiny.instructions import InstructionSplit

__all__ = ["read_prompts", "tiny_split"]


def read_prompts(sources: Sequence[Source]) -> list[UserPrompt]:
    """Read the prompts of every source, in order; every id is unique.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    found = [prompt for source in sources for prompt in source.part(_read(source))]
    names = distinct(prompt.id for prompt in found)
    return [replace(prompt, id=name) for prompt, name in zip(found, names, strict=True)]


def _read(source: Source) -> Iterator[UserPrompt]:
    if source.format == TINY:
        from selfimprove.tiny.instructions import instructions
        from selfimprove.tiny.seeds_of_world import MOST

        split = tiny_split(source.source)
        texts = [i.text for i in instructions(split, min(source.end or MOST[split], MOST[split]))]
        name = f"{TINY}-{split}"
    else:
        name = source.format or "prompts"
        trees = name == "oasst"
        texts = list(
            (tree.prompt for tree in parsed(source.source, name, oasst.parse, source.reshape))
            if trees
            else parsed(source.source, name, prompt_of, source.reshape)
        )
    for number, text in enumerate(texts):
        yield UserPrompt(f"{name}-{number}", name, text)


def tiny_split(name: str) -> InstructionSplit:
    """Return the split of the tiny world's instructions that is called so.

    Raises:
        DataError: there is none.
    """
    from selfimprove.tiny.seeds_of_world import MOST

    for split in MOST:
        if split == name:
            return split
    raise DataError(f"the tiny world has no instructions {name!r}; there are {', '.join(MOST)}")
