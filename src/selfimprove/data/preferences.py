"""Preference data, read and split into the three folds of PIT (Sec. 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from selfimprove.data.preference_files import rows
from selfimprove.data.preference_rows import Told
from selfimprove.data.read import KEEPS, TINY
from selfimprove.data.row import RowError, UnusableRow
from selfimprove.data.sources import Source, distinct
from selfimprove.data.user_prompts import tiny_split
from selfimprove.errors import DataError
from selfimprove.rows import Filtered
from selfimprove.seeds import rng
from selfimprove.types import Message

__all__ = [
    "FOLDS",
    "Fold",
    "InFold",
    "Preference",
    "given_folds",
    "of_fold",
    "outside_fold",
    "read_preferences",
    "three_folds",
]

Fold: TypeAlias = Literal["sft", "reward", "rl", "test"]
"""sft: supervised stage. reward: both reward models. rl: reinforcement learning. test: measuring."""

FOLDS: Final[tuple[Fold, ...]] = ("sft", "reward", "rl")

_MADE_COUNT: Final = 1500


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt, one of which people preferred."""

    id: str
    source: str
    """The format it was read as."""
    prompt: tuple[Message, ...]
    """Ends in the user's turn; a plain prompt is that turn alone."""
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class InFold:
    """Which fold a preference belongs to."""

    id: str
    fold: Fold


def read_preferences(sources: Sequence[Source], seed: int) -> Filtered[Preference]:
    """Read the preferences of every source, in order; every id is unique.

    Rows that are no comparison (no shared prompt, an empty reply, twice the same reply) are left out
    and counted, with the reason, in one funnel a source.

    Args:
        sources: files, hub ids or splits of an embedded world; without a format: `preferences`.
        seed: of what an embedded world writes.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    read = [_read(source, seed) for source in sources]
    found = [row for told in read for row in told.rows]
    return Filtered(_named(found), tuple(funnel for told in read for funnel in told.funnels))


def given_folds(sources: Sequence[Source], seed: int) -> list[InFold]:
    """Return the folds where every source is one: SFT, reward models, RL, in this order.

    Args:
        sources: as `read_preferences` reads them, as many as there are folds.
        seed: of what an embedded world writes.
    """
    read = [_read(source, seed).rows for source in sources]
    folds = [fold for fold, rows in zip(FOLDS, read, strict=True) for _ in rows]
    named = _named([row for rows in read for row in rows])
    return [InFold(row.id, fold) for row, fold in zip(named, folds, strict=True)]


def _read(source: Source, seed: int) -> Filtered[Preference]:
    name = source.format or "preferences"
    rows_of = _made(source, seed) if name in (TINY, KEEPS) else _told(source, name)
    told = source.usable(f"comparisons of {Path(source.source).name}", rows_of)
    rows = [Preference(f"{name}-{place}", name, *row) for place, row in told.rows]
    return Filtered(rows, told.funnels)


def _named(found: Sequence[Preference]) -> list[Preference]:
    names = distinct(row.id for row in found)
    return [replace(row, id=name) for row, name in zip(found, names, strict=True)]


def _told(source: Source, name: str) -> Iterator[tuple[str, Told] | UnusableRow]:
    """Yield the comparisons of a file by number, and what is none."""
    for number, (place, row) in enumerate(rows(source.source, name, source.reshape)):
        if isinstance(row, UnusableRow):
            yield row
        elif isinstance(row, RowError):
            hint = f"`selfimprove data check {source.source} --as {name}` lists every broken row"
            raise DataError(f"{source.source}, {place}: {row}; {hint}") from row
        else:
            yield str(number), row


def _made(source: Source, seed: int) -> Iterator[tuple[str, Told]]:
    """Yield the comparisons of an embedded world, each with its name."""
    from selfimprove.tiny.keeps.preferences import keeps_split
    from selfimprove.tiny.keeps.preferences import preferences as about_keepers
    from selfimprove.tiny.preferences_of_world import preferences

    count = source.end or _MADE_COUNT
    made = (
        about_keepers(keeps_split(source.source), count, seed)
        if source.format == KEEPS
        else preferences(tiny_split(source.source), count, seed)
    )
    for number, (asked, chosen, rejected) in enumerate(made):
        yield f"{source.source}-{number}", ((Message("user", asked),), chosen, rejected)


def three_folds(
    preferences: Iterable[Preference], seed: int, test_share: float = 0.0
) -> list[InFold]:
    """Divide preferences equally into SFT, reward-model and RL folds, by a seeded draw.

    All comparisons of one prompt go into one fold, so that no stage is measured or trained on what
    an earlier one has learnt by heart; the sizes differ by no more than the commonest prompt's rows.

    Args:
        preferences: all of them.
        seed: of the draw.
        test_share: share of the preferences that is set apart first, to measure on.

    Raises:
        DataError: there are fewer than three prompts, or one fewer than the folds need.
    """
    of_prompt: dict[tuple[Message, ...], list[str]] = {}
    given = list(preferences)
    for row in given:
        of_prompt.setdefault(row.prompt, []).append(row.id)
    if len(of_prompt) < len(FOLDS) + (test_share > 0):
        raise DataError(f"{len(of_prompt)} prompts cannot be divided into {len(FOLDS)} folds"
                        + (" and a test set" if test_share else ""))  # fmt: skip
    groups = list(of_prompt.values())
    rng(seed, "folds").shuffle(groups)
    fold_of: dict[str, Fold] = {}
    while len(fold_of) < test_share * len(given) and len(groups) > len(FOLDS):
        fold_of |= dict.fromkeys(groups.pop(), "test")
    sizes = dict.fromkeys(FOLDS, 0)
    for ids in groups:
        smallest = min(FOLDS, key=lambda fold: sizes[fold])
        sizes[smallest] += len(ids)
        fold_of |= dict.fromkeys(ids, smallest)
    return [InFold(row.id, fold_of[row.id]) for row in given]


def of_fold(
    preferences: Iterable[Preference], folds: Iterable[InFold], fold: Fold
) -> list[Preference]:
    """Return the preferences of one fold, in their own order."""
    wanted = {row.id for row in folds if row.fold == fold}
    return [row for row in preferences if row.id in wanted]


def outside_fold(
    preferences: Iterable[Preference], folds: Iterable[InFold], fold: Fold
) -> list[Preference]:
    """Return the preferences of all other folds, in their own order."""
    left_out = {row.id for row in folds if row.fold == fold}
    return [row for row in preferences if row.id not in left_out]
