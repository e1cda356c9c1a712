"""Whether responses keep their instructions: strictly, and loosely, by prompt and by instruction.

Loosely an instruction is kept if one of eight readings of the response keeps it: with and without its
first line, its last line and its asterisks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from selfimprove.errors import DataError
from selfimprove.evaluation.ifeval.checks import KINDS
from selfimprove.evaluation.ifeval.rows import InstructedPrompt, Instruction
from selfimprove.evaluation.intervals import TAILS, mean, paired, resampled_sums

__all__ = ["READINGS", "Checked", "Reading", "check", "difference", "figures"]

Reading: TypeAlias = Literal["strict", "loose"]
READINGS: Final[tuple[Reading, ...]] = ("strict", "loose")


@dataclass(frozen=True, slots=True)
class Checked:
    """One response, instruction by instruction."""

    prompt: InstructedPrompt
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]

    def kept(self, reading: Reading) -> tuple[bool, ...]:
        """Return which instructions were kept."""
        return self.strict if reading == "strict" else self.loose


def check(prompt: InstructedPrompt, response: str) -> Checked:
    """Check a response; an empty one keeps no instruction.

    Raises:
        ConfigError: an instruction is about the language, and its detector is not installed.
    """
    strict = tuple(_keeps(response, i) for i in prompt.instructions)
    readings = _readings(response)
    loose = tuple(
        kept or any(_keeps(text, i) for text in readings)
        for kept, i in zip(strict, prompt.instructions, strict=True)
    )
    return Checked(prompt, strict, loose)


def _keeps(text: str, instruction: Instruction) -> bool:
    return bool(text.strip()) and KINDS[instruction.kind].follows(text, instruction.arguments)


def _readings(response: str) -> list[str]:
    """Return the seven readings beside the response itself."""
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [*cut, *(text.replace("*", "") for text in (response, *cut))]


def figures(checked: Sequence[Checked], unscored: int) -> dict[str, Any]:
    """Return the four accuracies with intervals, and each kind of instruction, as JSON data.

    Intervals resample prompts: instructions of one prompt are kept or broken together.

    Args:
        checked: responses.
        unscored: prompts that got none.

    Raises:
        DataError: nothing was checked.
    """
    if not checked:
        raise DataError("no response was checked: there is no accuracy")
    return {
        "prompts": len(checked),
        "instructions": sum(len(c.strict) for c in checked),
        "unscored": unscored,
        "prompt": {r: _of_prompts(checked, r) for r in READINGS},
        "instruction": {r: _of_instructions(checked, r) for r in READINGS},
        "kinds": _of_kinds(checked),
    }


def _of_prompts(checked: Sequence[Checked], reading: Reading) -> dict[str, Any]:
    told = mean([float(all(c.kept(reading))) for c in checked])
    return {"value": told.value, "interval": [told.low, told.high], "n": told.n}


def _of_instructions(checked: Sequence[Checked], reading: Reading) -> dict[str, Any]:
    import numpy as np

    rows = np.array([(sum(c.kept(reading)), len(c.strict)) for c in checked], dtype=float)
    kept, of = rows.sum(axis=0)
    sums = resampled_sums(rows, "ifeval")
    low, high = np.percentile(sums[:, 0] / sums[:, 1], TAILS)
    return {"value": float(kept / of), "interval": [float(low), float(high)], "n": int(of)}


def _of_kinds(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    kept: dict[str, list[tuple[bool, bool]]] = {}
    for one in checked:
        for i, *both in zip(one.prompt.instructions, one.strict, one.loose, strict=True):
            kept.setdefault(i.kind, []).append((both[0], both[1]))
    return [
        {"kind": kind, "n": len(found), "strict": sum(s for s, _ in found) / len(found),
         "loose": sum(loose for _, loose in found) / len(found)}
        for kind, found in sorted(kept.items())
    ]  # fmt: skip


def difference(before: Sequence[Checked], after: Sequence[Checked]) -> dict[str, Any]:
    """Return after minus before by prompt, over the prompts that both answered, as JSON data.

    Raises:
        DataError: they answered no prompt in common.
    """
    ours, theirs = ({c.prompt.key: c for c in side} for side in (after, before))
    both = [key for key in theirs if key in ours]
    if not both:
        raise DataError("the two systems have no prompt in common and cannot be paired")
    return {r: _paired([theirs[k] for k in both], [ours[k] for k in both], r) for r in READINGS}


def _paired(
    before: Sequence[Checked], after: Sequence[Checked], reading: Reading
) -> dict[str, Any]:
    told = paired(*([float(all(c.kept(reading))) for c in side] for side in (before, after)))
    return {"difference": told.difference, "interval": [told.low, told.high], "wins": told.wins,
            "losses": told.losses, "ties": told.ties, "n": len(after)}  # fmt: skip
