"""Worked questions that are shown to a model before the question it is to answer.

All were written for this project; none is from a paper or a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from selfimprove.data import anli, drop, strategyqa
from selfimprove.data.row import choice_text
from selfimprove.errors import DataError

__all__ = ["Exemplar", "ExemplarSet", "exemplars_for", "shipped_sets"]

_FILES = {
    "gsm8k": "gsm8k", "svamp": "gsm8k", "multiarith": "gsm8k", "addsub": "gsm8k",
    "mgsm": "gsm8k",
    "drop": "drop",
    "arc": "choice", "mmlu": "choice", "openbookqa": "choice", "commonsense_qa": "choice",
    "aqua": "aqua",
    "anli": "nli",
    "strategyqa": "yes_no",
}  # fmt: skip
"""Which file under exemplar_files/ a format is asked with; the formats not named have none."""

_NONE = ("aime", "bbh", "coin_flip", "last_letters", "math", "questions")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One worked question."""

    question: str
    reasoning: str
    """Full sentences, without the statement of the answer."""
    answer: str
    """As it is stated after 'The answer is', e.g. '18', '(B)' or 'yes'."""


@dataclass(frozen=True, slots=True)
class ExemplarSet:
    """The exemplars that questions of one dataset are asked with."""

    dataset: str
    exemplars: tuple[Exemplar, ...]


@cache
def exemplars_for(format: str) -> tuple[Exemplar, ...]:
    """Return the shipped exemplars of a format; () where it has none.

    Raises:
        DataError: there is no such format.
    """
    if format == "tiny":
        return _of_tiny()
    if format in _NONE:
        return ()
    if format not in _FILES:
        known = ", ".join([*_FILES, *_NONE, "tiny"])
        raise DataError(f"no exemplars for a format {format!r}; there are {known}")
    path = files("selfimprove.data").joinpath("exemplar_files", f"{_FILES[format]}.yaml")
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(map(_exemplar, rows))


def _exemplar(row: Mapping[str, Any]) -> Exemplar:
    """Lay out a row as the questions of its kind are laid out."""
    shown = row.get("question", "").strip()
    answer = str(row["answer"])
    if "choices" in row:
        shown, answer = choice_text(shown, row["choices"]), f"({answer})"
    elif "passage" in row:
        shown = drop.layout(row["passage"].strip(), shown)
    elif "hypothesis" in row:
        shown = anli.layout(row["premise"].strip(), row["hypothesis"].strip())
    elif answer in ("yes", "no"):
        shown = strategyqa.layout(shown)
    return Exemplar(shown, " ".join(row["reasoning"].split()), answer)


def shipped_sets(formats: Iterable[str]) -> tuple[ExemplarSet, ...]:
    """Return the shipped exemplars of several formats, one set each, ordered by name.

    Raises:
        DataError: there is no such format.
    """
    return tuple(ExemplarSet(name, exemplars_for(name)) for name in sorted(set(formats)))


def _of_tiny() -> tuple[Exemplar, ...]:
    from selfimprove.tiny.problems import exemplars

    statement = " The answer is "
    return tuple(
        Exemplar(row.question.text, (row.rationale or "").partition(statement)[0], row.gold[0])
        for row in exemplars()
    )
