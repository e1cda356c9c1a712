"""Training at the size of a real pretrained model: rows, and the race of the sides (`--size 135m`).

Three sides: ours; a plain loop over transformers' forward and backward; TRL in the best of its settings.
Where a side can be run in several ways, each gets a trial, and the fastest is measured. All take the
same number of tokens a step, about 2,048 (8 x 256), and the same fused AdamW.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import datasets
import torch
from transformers import AutoTokenizer, Trainer
from transformers.utils import logging as transformers_logging

import selfimprove.models.find as models
from selfimprove.seeds import rng

__all__ = [
    "STEP_TOKENS",
    "Row",
    "Side",
    "Timed",
    "add_options",
    "model_of",
    "race",
    "rows_a_step",
    "rows_of",
    "untimed_checkpoints",
]

STEP_TOKENS = 8 * 256


@dataclass(frozen=True)
class Row:
    """A question and what is said to it."""

    question: str
    answer: str


@dataclass(frozen=True)
class Timed:
    """One run of one side."""

    amount: int
    """What was trained on, in the unit of the benchmark."""
    seconds: float

    @property
    def rate(self) -> float:
        """So much a second."""
        return self.amount / self.seconds


Side = Callable[[int, Path], Timed]
"""From optimiser steps and an empty folder to what was measured."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a training benchmark can be told."""
    parser.add_argument("--size", choices=["1m", "135m"], default="1m",
                        help="135m: a real pretrained model, and a plain loop beside TRL [1m]")  # fmt: skip
    parser.add_argument(
        "--model", help="a name or folder [the size's own: a small one, or smollm2-135m]"
    )
    parser.add_argument(
        "--rows", type=Path, help="135m: GSM8K's train.jsonl [words of the vocabulary]"
    )
    parser.add_argument(
        "--only", default="", help="135m: ways whose name holds this, e.g. bf16 [all]"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps, one run")
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")


def model_of(options: argparse.Namespace, usual: str) -> Path:
    """Return the folder of the model that was named, or of the usual one."""
    return Path(models.locate(options.model or usual).path)


def rows_of(base: Path, file: Path | None, count: int) -> list[Row]:
    """Return rows of GSM8K, or of as many random words of the model's vocabulary."""
    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()[:count]
        told = [json.loads(line) for line in lines]
        return [Row(row["question"], row["answer"]) for row in told]
    known = AutoTokenizer.from_pretrained(base).get_vocab()
    # One token a word, nearly: those that a blank precedes, or a random model's own.
    words = sorted(w[1:] for w in known if w[0] == "Ġ" and w[1:].isascii() and w[1:].islower())
    words = words or sorted(w for w in known if w[1:].isdigit())
    draw = rng(0, "benchmark rows")

    def text(least: int, most: int) -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randint(least, most)))

    return [Row(text(35, 85), text(60, 185)) for _ in range(count)]


def rows_a_step(base: Path, texts: Sequence[str]) -> int:
    """Return how many such texts make `STEP_TOKENS` tokens."""
    ids = AutoTokenizer.from_pretrained(base)(list(texts))["input_ids"]
    return max(round(STEP_TOKENS / mean(map(len, ids))), 1)


@contextmanager
def untimed_checkpoints() -> Iterator[Callable[[], float]]:
    """Give the seconds that were spent on checkpoints: ours ends with one, from which it could go on."""
    spent: list[float] = []
    save = Trainer._save_checkpoint

    def timed(*given: Any, **more: Any) -> None:  # noqa: ANN401
        began = time.monotonic()
        save(*given, **more)
        spent.append(time.monotonic() - began)

    Trainer._save_checkpoint = timed
    try:
        yield lambda: sum(spent)
    finally:
        Trainer._save_checkpoint = save


def race(
    benchmark: str,
    unit: str,
    sides: Mapping[str, Mapping[str, Side]],
    steps: tuple[int, int, int],
    options: argparse.Namespace,
) -> None:
    """Run every side in every way, print each figure as it comes, and the result at the end.

    `steps` of a trial, of a measured run, and how many of those; a trial as long as the one run is the
    run. The first side is ours.
    """
    warnings.simplefilter("ignore")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    datasets.disable_progress_bars()
    trial, full, repetitions = steps
    sides = {name: _named(ways, options.only) for name, ways in sides.items()}
    say(f"{benchmark}, {torch.get_num_threads()} threads, {repetitions} runs of {full} steps")
    tried = {name: _tried(name, ways, trial, unit) for name, ways in sides.items()}
    best = {n: max(told, key=lambda way: told[way].rate) if told else next(iter(sides[n]))
            for n, told in tried.items()}  # fmt: skip
    enough = (trial, 1) == (full, repetitions)
    runs = {n: [told[best[n]]] if enough and told else [] for n, told in tried.items()}
    for _ in range(repetitions):
        for name, ways in sides.items():
            if len(runs[name]) == repetitions:
                continue
            runs[name].append(_run(ways[best[name]], full))
            say(f"  {name}, {best[name]}: {runs[name][-1].rate:,.2f} {unit}/s")
    rates = {name: median(run.rate for run in done) for name, done in runs.items()}
    first, *others = sides
    keep({
        "benchmark": f"{benchmark}, 135m", "threads": torch.get_num_threads(), "unit": f"{unit}/s",
        "step_tokens": STEP_TOKENS, "steps": full, "repetitions": repetitions,
        **{f"ratio_to_{name}": round(rates[first] / rates[name], 2) for name in others},
        "rates": {name: round(rate, 3) for name, rate in rates.items()},
        "ways": best, "only": options.only or None,
        "trials": {n: {way: round(run.rate, 3) for way, run in told.items()}
                   for n, told in tried.items() if told},
        "runs": {name: [asdict(run) for run in done] for name, done in runs.items()},
    }, options.json)  # fmt: skip


def _named(ways: Mapping[str, Side], wanted: str) -> Mapping[str, Side]:
    """Return the ways that were asked for; ours is one alone and always runs."""
    return {way: side for way, side in ways.items() if wanted in way} if len(ways) > 1 else ways


def _tried(name: str, ways: Mapping[str, Side], trial: int, unit: str) -> dict[str, Timed]:
    """Run each way once; one way alone needs no trial."""
    told: dict[str, Timed] = {}
    for way, side in ways.items() if len(ways) > 1 else ():
        told[way] = _run(side, trial)
        say(f"  {name}, {way}: {told[way].rate:,.2f} {unit}/s in a trial of {trial} steps")
    return told


def _run(side: Side, steps: int) -> Timed:
    with tempfile.TemporaryDirectory() as scratch:
        return side(steps, Path(scratch) / "run" / "model")
