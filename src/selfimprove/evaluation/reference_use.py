"""Does a model that improves responses read the one it is given? Measures of it, all over prompts.

PIT conditions on a reference: r(x, y, y_ref) and y ~ M_PIT(y | x, y_ref). A gap reward of the form
f(x, y) - g(x, y_ref) pays the same for every reference, since the second term is one constant for all
candidates; and a model that knows the best response from x alone need not look. So:

- interaction: the gaps of n candidates over m references of a prompt, taken apart as in an analysis of
  variance without repetitions: sums of squares of candidates, of references, and of what neither
  explains. The last pays for reading the reference by itself; the first does where the reference tells
  which candidates are good.
- swap: two references a and b of one prompt, the same random numbers. Similarity (ROUGE-L) of each
  output to its own reference, less that to the other's. 0: it does not matter which one was given.
- copy excess: the same with the share of an output's runs of four words that are in the reference.
- keep: of the parts of a that are right (or, where nobody knows, of its sentences) and not in b, the
  share that is in the output of a, less the share that is in the output of b; and the other way round.
- information: log p(y | x, a) less the log of the mean of p(y | x, b) over the prompt's references b that
  are another text, in nats a response: what y tells of which one was given. 0 for a model that ignores it.
- placebo: the reward of the output, less that of an output made with another prompt's reference; and the
  same of its right parts, where they are known.

Intervals are of 95 %, over resampled prompts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from selfimprove.config import Config
from selfimprove.data.novelty import rouge_l, words_of
from selfimprove.evaluation.clusters import told
from selfimprove.evaluation.intervals import TAILS, resampled_sums

__all__ = ["Grid", "ReferenceUseConfig", "Shown", "information", "interaction", "sentences", "use"]

_RUN: Final = 4
"""Words of a run, where copies are counted."""
_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?]*")

Grid = Sequence[Sequence[float]]
"""Gaps of one prompt: a row a candidate, a column a reference."""


class ReferenceUseConfig(Config):
    """How it is measured whether M_PIT and R_PIT read the reference."""

    prompts: int = Field(default=32, ge=2)
    """Held-out prompts, the first ones."""
    responses: int = Field(default=8, ge=2)
    """Responses of M_P to each: the candidates and references of R_PIT, n x n."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What M_PIT wrote to one prompt, by what it was shown."""

    a: str
    """A response to the prompt."""
    b: str
    """Another one."""
    of_a: str
    """Written when `a` was the reference."""
    of_b: str
    right: tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]] | None = None
    """Parts of the four that are right, in this order; None: nobody knows, and their sentences count."""


def interaction(grids: Sequence[Grid]) -> dict[str, Any] | None:
    """Return the shares of candidates, references and their interaction in the squares of gaps.

    Args:
        grids: of each prompt, n x m with n and m at least 2.

    Returns:
        JSON data, each share with its interval; None where all gaps of every prompt are equal.
    """
    import numpy as np

    rows = np.array([_squares(grid) for grid in grids], dtype=float)
    if not len(rows) or not rows.sum():
        return None
    resampled = resampled_sums(rows, "interaction")
    shares = resampled / np.maximum(resampled.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    whole = rows.sum(axis=0) / rows.sum()
    return {
        name: {
            "value": float(whole[i]),
            "interval": [float(edge) for edge in np.percentile(shares[:, i], TAILS)],
            "n": len(rows),
        }
        for i, name in enumerate(("candidate", "reference", "interaction"))
    }


def _squares(grid: Grid) -> tuple[float, float, float]:
    """Return the sums of squares of rows, of columns and of the rest."""
    import numpy as np

    gaps = np.array(grid, dtype=float)
    of_rows = gaps.mean(axis=1, keepdims=True) - gaps.mean()
    of_columns = gaps.mean(axis=0, keepdims=True) - gaps.mean()
    rest = gaps - gaps.mean() - of_rows - of_columns
    n, m = gaps.shape
    return (
        float(m * (of_rows**2).sum()),
        float(n * (of_columns**2).sum()),
        float((rest**2).sum()),
    )


def information(own: Sequence[float], others: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Return by how much the own reference makes a text more probable than other references do.

    Args:
        own: log p(y | x, a) of each prompt's text, in nats.
        others: log p(y | x, b) of the same text, for each of the other references b.
    """
    gained = [[one - _log_mean(rest)] for one, rest in zip(own, others, strict=True) if rest]
    return told(gained, difference=True)


def _log_mean(logs: Sequence[float]) -> float:
    most = max(logs)
    return most + math.log(math.fsum(math.exp(one - most) for one in logs) / len(logs))


def use(shown: Sequence[Shown]) -> dict[str, Any]:
    """Return swap, copy excess, keep and how many outputs are the same, as JSON data with intervals.

    Prompts whose two references are the same text tell nothing, and are left out.
    """
    apart = [one for one in shown if one.a != one.b]
    return {
        "prompts": len(shown),
        "different": len(apart),
        "same_response": told([[float(one.of_a == one.of_b)] for one in apart]),
        "swap": told([[_own_less_other(one, _similarity)] for one in apart], difference=True),
        "copy_excess": told([[_own_less_other(one, _copied)] for one in apart], difference=True),
        "kept": told([[p[0] for p in _parts(one)] for one in apart]),
        "kept_without": told([[p[1] for p in _parts(one)] for one in apart]),
        "keep_gap": told([[p[0] - p[1] for p in _parts(one)] for one in apart], difference=True),
        "parts": "sentences" if any(one.right is None for one in shown) else "right parts",
    }


def _own_less_other(one: Shown, likeness: Callable[[str, str], float]) -> float:
    own = likeness(one.of_a, one.a) + likeness(one.of_b, one.b)
    other = likeness(one.of_a, one.b) + likeness(one.of_b, one.a)
    return (own - other) / 2


def _similarity(text: str, reference: str) -> float:
    return rouge_l(words_of(text), words_of(reference))


def _copied(text: str, reference: str) -> float:
    """Return the share of a text's runs of words that a reference holds, 0 where it has none."""
    runs, held = _runs(text), set(_runs(reference))
    return sum(run in held for run in runs) / len(runs) if runs else 0.0


def _runs(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [words[i : i + _RUN] for i in range(len(words) - _RUN + 1)]


def _parts(one: Shown) -> list[tuple[float, float]]:
    """Return, for each part that one reference alone has, whether its output has it, and the other's."""
    texts = (one.a, one.b, one.of_a, one.of_b)
    in_a, in_b, in_of_a, in_of_b = one.right or tuple(sentences(text) for text in texts)
    return [
        *((float(part in in_of_a), float(part in in_of_b)) for part in sorted(in_a - in_b)),
        *((float(part in in_of_b), float(part in in_of_a)) for part in sorted(in_b - in_a)),
    ]


def sentences(text: str) -> frozenset[str]:
    """Return the sentences of a text, without case and spacing.

    >>> sorted(sentences("Owls hunt. They  hunt at night!"))
    ['owls hunt.', 'they hunt at night!']
    """
    found = (" ".join(part.lower().split()) for part in _SENTENCE.findall(text))
    return frozenset(part for part in found if part)
