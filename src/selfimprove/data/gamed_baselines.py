"""AlpacaEval 2's `df_gamed.csv`: how hard each instruction is, and what two gamed baselines got.

The file is in the data set `tatsu-lab/alpaca_eval` of the Hugging Face hub. It holds the annotations of the
baseline told to be verbose and told to be concise, and the difficulty of each instruction, which
AlpacaEval's authors fitted once over their whole leaderboard.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Final

from selfimprove.errors import DataError

__all__ = ["GamedBaselines", "GamedRow", "read_gamed_baselines"]

_COLUMNS: Final = ("index", "preference", "std_delta_len", "instruction_difficulty")


@dataclass(frozen=True, slots=True)
class GamedRow:
    """A gamed baseline's response to one instruction, against the baseline's own."""

    instruction: int
    """Its place in the evaluation set, from 0."""
    preference: float
    """Share of the win that goes to the gamed one, 0 to 1."""
    shorter_by: float
    """By how much its response is the shorter one, in standard deviations of that difference."""


@dataclass(frozen=True, slots=True)
class GamedBaselines:
    """What the regression of AlpacaEval 2 knows before it sees a model."""

    rows: tuple[GamedRow, ...]
    difficulties: dict[int, float]
    """Of each instruction, by its place in the evaluation set."""


def read_gamed_baselines(path: Path) -> GamedBaselines:
    """Read `df_gamed.csv`; rows without a preference tell a difficulty alone.

    Raises:
        DataError: it cannot be read, a column is missing, or a cell is no number.
    """
    rows: list[GamedRow] = []
    difficulties: dict[int, float] = {}
    for number, row in enumerate(_table(path), 2):
        index, preference, shorter, difficulty = _cells(row, path, number)
        if not isfinite(difficulty) or not index.is_integer():
            raise DataError(f"{path}, line {number}: index or instruction_difficulty is no number")
        difficulties.setdefault(int(index), difficulty)
        if isfinite(preference) and isfinite(shorter):
            rows.append(GamedRow(int(index), preference, shorter))
    if not rows:
        raise DataError(f"{path} holds no annotation of a gamed baseline")
    return GamedBaselines(tuple(rows), difficulties)


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path} has no column {', '.join(missing)}: give AlpacaEval's df_gamed.csv, from "
                    "the data set tatsu-lab/alpaca_eval of the hub"
                )
            return list(table)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _cells(row: dict[str, str], path: Path, number: int) -> list[float]:
    told = [row[name] or "" for name in _COLUMNS]
    try:
        return [float(cell) if cell.strip() else nan for cell in told]
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}") from error
