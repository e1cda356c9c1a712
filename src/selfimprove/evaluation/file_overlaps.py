"""A data file against others, before any run: what `selfimprove data check --against` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfimprove.data import dialogues, preference_files
from selfimprove.data.overlap import HeldOutTexts, find_overlaps
from selfimprove.data.preferences import read_preferences
from selfimprove.data.sources import Source, as_source, questions_of
from selfimprove.data.user_prompts import read_prompts
from selfimprove.sampling.conversation import in_words

__all__ = ["FileOverlaps", "check_against"]


@dataclass(frozen=True, slots=True)
class FileOverlaps:
    """How many rows of a file ask what another one asks."""

    against: str
    rows: int
    exact: tuple[tuple[str, str], ...]
    """A row's id, and its text."""
    near: tuple[tuple[str, str], ...]


def check_against(file: str, kind: str, against: Sequence[str]) -> list[FileOverlaps]:
    """Compare what the rows of a file ask with what the rows of others ask.

    Args:
        file: a file, hub id or tiny split.
        kind: its format.
        against: others, each `format:file`, or a file of the same format.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    ours = _texts(as_source(file, kind))
    others = [as_source(words, kind) for words in against]
    sets = [
        HeldOutTexts(words, tuple(text for _, text in _texts(source)))
        for words, source in zip(against, others, strict=True)
    ]
    return [
        FileOverlaps(found.name, len(ours), tuple(ours[i] for i in sorted(found.exact)),
                     tuple(ours[i] for i in sorted(found.near)))
        for found in find_overlaps([text for _, text in ours], sets)
    ]  # fmt: skip


def _texts(source: Source) -> list[tuple[str, str]]:
    if source.format in dialogues.FORMATS:
        return [(p.id, p.text) for p in read_prompts((source,))]
    if source.format in preference_files.FORMATS:
        return [(p.id, in_words(p.prompt)) for p in read_preferences((source,), 0).rows]
    return [(q.id, q.text) for q in questions_of(source)]
