"""AlpacaEval's files: model outputs, read and written, and annotators' preferences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import DataError
from selfimprove.files import make_folder, write_replacing
from selfimprove.types import FinishReason, Outcome

__all__ = ["ModelOutput", "read_outputs", "read_preferences", "write_outputs"]

_TIES: Final = (0, 1.5)


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One row of `model_outputs.json`."""

    dataset: str
    instruction: str
    output: str
    generator: str
    """The model that answered."""
    finish: FinishReason = "stop"
    """How a response ended that was drawn here; a file does not say."""


def read_outputs(path: Path) -> list[ModelOutput]:
    """Read a `model_outputs.json`; an empty output is one, and loses.

    Raises:
        DataError: it cannot be read, or a row lacks instruction or output.
    """
    return [
        ModelOutput(
            str(row.get("dataset") or ""),
            _text(row, "instruction", path, number),
            _text(row, "output", path, number),
            str(row.get("generator") or path.stem),
        )
        for number, row in enumerate(_rows(path), 1)
    ]


def write_outputs(path: Path, outputs: Sequence[ModelOutput]) -> None:
    """Write rows to the byte as AlpacaEval's own files are: a file that was read is written back.

    Raises:
        DiskFullError: there is no room left.
    """
    rows = [
        {"dataset": o.dataset, "instruction": o.instruction, "output": o.output,
         "generator": o.generator}
        for o in outputs
    ]  # fmt: skip
    make_folder(path.parent)
    text = json.dumps(rows, indent=2, separators=(",", ":"))
    # pandas wrote the published files, and pandas escapes slashes; a slash stands in texts alone.
    write_replacing(path, text.replace("/", "\\/").encode())


def read_preferences(path: Path) -> tuple[list[Outcome], str, str]:
    """Read annotations; the first system is `output_2`, the evaluated model, against `output_1`.

    `preference` is 1 or 2 (0 or 1.5: a draw), or a float from 1 to 2 (how much of the win goes to
    `output_2`), or null (not judged). Rows of one instruction, by several annotators, share a prompt.

    Returns:
        the outcomes, the name of the evaluated model and that of its baseline.

    Raises:
        DataError: it cannot be read, a preference is none of these, or more than two systems meet.
    """
    rows = _rows(path)
    outcomes = []
    prompts: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        prompt_id = prompts.setdefault(str(row.get("instruction", number)), str(number))
        outcomes.append(_outcome(row, prompt_id, path, number))
    return outcomes, _system(rows, "generator_2", path), _system(rows, "generator_1", path)


def _system(rows: Sequence[dict[str, Any]], side: str, path: Path) -> str:
    names = {str(row.get(side) or side) for row in rows}
    if len(names) > 1:
        raise DataError(
            f"{path} holds several systems as {side} ({', '.join(sorted(names))}): give a file of two "
            "systems alone"
        )
    return names.pop()


def _outcome(row: dict[str, Any], prompt_id: str, path: Path, number: int) -> Outcome:
    preference = row.get("preference")
    known = isinstance(preference, int | float) and not isinstance(preference, bool)
    if preference is not None and not (known and (preference == 0 or 1 <= preference <= 2)):
        raise DataError(f"{path}, row {number}: preference {preference!r} is not within 1 to 2")
    told = None if preference is None else 0.5 if preference in _TIES else float(preference) - 1
    lengths = len(_text(row, "output_2", path, number)), len(_text(row, "output_1", path, number))
    return Outcome(str(number), prompt_id, told, None if known else "no preference", *lengths)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON file: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise DataError(f"{path} holds no list of rows, as AlpacaEval's files do")
    return rows


def _text(row: dict[str, Any], name: str, path: Path, number: int) -> str:
    found = row.get(name)
    if not isinstance(found, str):
        raise DataError(f"{path}, row {number}: has no text {name!r}; found {', '.join(row)}")
    return found
