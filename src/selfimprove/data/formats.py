"""The formats that can be read, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from selfimprove.data import (
    anli,
    aqua,
    bbh,
    competition,
    drop,
    gsm8k,
    mgsm,
    mmlu,
    questions,
    science,
    strategyqa,
    svamp,
    symbolic,
    word_problems,
)
from selfimprove.data.row import Item, RowError

__all__ = ["FORMATS", "Format", "rows_of"]

_LISTS = ("examples", "rows", "data", "instances", "questions", "outputs")
"""Under which name a JSON document holds its list of records."""


def rows_of(tree: Any) -> Sequence[Any]:  # noqa: ANN401  whatever the file holds
    """Return the records of a JSON document.

    Raises:
        RowError: it holds no list of them.
    """
    if isinstance(tree, list):
        return tree
    for name in _LISTS:
        if isinstance(tree, Mapping) and isinstance(tree.get(name), list):
            return list(tree[name])
    raise RowError(f"is neither a list of records nor an object with {' or '.join(_LISTS)}")


def _drop_rows(tree: Any) -> Sequence[Any]:  # noqa: ANN401  whatever the file holds
    by_passage = isinstance(tree, Mapping) and not any(name in tree for name in _LISTS)
    return drop.flatten(tree) if by_passage else rows_of(tree)


Parse: TypeAlias = Callable[[Mapping[str, Any]], Item]


@dataclass(frozen=True, slots=True)
class Format:
    """How the files of one dataset are read."""

    parse: Parse
    hub: tuple[str, str | None] | None = None
    """Its hub id and the configuration that a bare hub id means."""
    flatten: Callable[[Any], Sequence[Any]] = rows_of
    """From a whole JSON document to its records."""
    columns: tuple[str, ...] = ()
    """The columns of its .tsv, where that has no header line."""


FORMATS: dict[str, Format] = {
    "gsm8k": Format(gsm8k.parse, ("openai/gsm8k", "main")),
    "svamp": Format(svamp.parse, ("ChilleD/SVAMP", None)),
    "multiarith": Format(word_problems.parse, ("ChilleD/MultiArith", None)),
    "addsub": Format(word_problems.parse),
    "aqua": Format(aqua.parse, ("deepmind/aqua_rat", "raw")),
    "drop": Format(drop.parse, ("ucinlp/drop", None), _drop_rows),
    "arc": Format(science.parse, ("allenai/ai2_arc", "ARC-Challenge")),
    "openbookqa": Format(science.parse, ("allenai/openbookqa", "main")),
    "commonsense_qa": Format(science.parse, ("tau/commonsense_qa", None)),
    "anli": Format(anli.parse, ("facebook/anli", None)),
    "strategyqa": Format(
        strategyqa.parse, ("ChilleD/StrategyQA", None), columns=strategyqa.COLUMNS
    ),
    "bbh": Format(bbh.parse, ("lukaemon/bbh", None)),
    "math": Format(competition.math, ("HuggingFaceH4/MATH-500", None)),
    "aime": Format(competition.aime, ("HuggingFaceH4/aime_2024", None)),
    "mmlu": Format(mmlu.parse, ("cais/mmlu", "all")),
    "mgsm": Format(mgsm.parse, ("juletxara/mgsm", "en"), columns=mgsm.COLUMNS),
    "coin_flip": Format(symbolic.coin_flip),
    "last_letters": Format(symbolic.last_letters),
    "questions": Format(questions.parse),
}
"""Every format that reads files. `tiny`, the embedded world, is made and not read."""
