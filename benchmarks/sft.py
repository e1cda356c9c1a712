"""Supervised fine-tuning: our trainer against TRL's SFTTrainer with its defaults, side by side.

Same model, same rows in the same order, same learning rate and effective batch, one epoch. TRL runs
twice, as it comes (bfloat16, which a CPU must be told) and in float32; the faster one counts.

    python benchmarks/sft.py [--quick] [--model FOLDER]
    python benchmarks/sft.py --size 135m [--quick] [--model FOLDER_OR_NAME] [--rows train.jsonl]

At 135m a plain loop over transformers' forward and backward stands beside, on dense blocks of 8 x 256
tokens; TRL runs without gradient checkpointing, in both precisions, padded, padding-free and packed,
and the fastest counts. Timed is the training alone, without loading, tokenising and writing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from datasets import Dataset
from plain_loop import Loop
from random_models import random_model
from real_size import (
    STEP_TOKENS,
    Side,
    Timed,
    add_options,
    model_of,
    race,
    rows_a_step,
    rows_of,
    untimed_checkpoints,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig as TrlConfig
from trl.trainer.sft_trainer import SFTTrainer

from selfimprove.seeds import rng
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example

_WORDS = 1021
_RATE = 1e-3
_BATCH = 64
_HELD_OUT_TOLERANCE = 0.02  # nats; both sides do the same arithmetic in another order

SmallSide = Callable[[Path, Sequence[Example], Path], dict[str, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_options(parser)
    chosen = parser.parse_args()
    if chosen.size == "135m":
        _real_size(chosen)
    else:
        _small_size(chosen)


def _small_size(chosen: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    rows, runs = (256, 1) if chosen.quick else (2048, 3)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "base"
        base = model_of(chosen, "") if chosen.model else random_model(made, "1m")
        examples, held_out = _workload(rows), _workload(128, name="held out")
        sides: dict[str, SmallSide] = {"ours": _ours, "trl": _trl, "trl float32": _trl_float32}
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for run in range(runs):
            for name, side in sides.items():
                out = Path(scratch) / f"{name}-{run}"
                result = side(base, examples, out)
                say(f"  {name}: {result['tokens'] / result['seconds']:,.0f} tokens/s")
                measured[name].append({**result, "held_out": _held_out(out, held_out)})
        _report(measured, runs, rows, chosen.json)


def _report(
    measured: dict[str, list[dict[str, float]]], runs: int, rows: int, out: Path | None
) -> None:
    median = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in measured.items()
    }
    print(f"{rows} rows, {runs} runs, {torch.get_num_threads()} threads; medians")
    print(f"{'':12} {'tokens/s':>9} {'seconds':>8} {'first loss':>10} {'final':>7} {'held out':>8}")
    for name, m in median.items():
        print(
            f"{name:12} {m['tokens'] / m['seconds']:9,.0f} {m['seconds']:8.2f} "
            f"{m['first_loss']:10.5f} {m['final_loss']:7.4f} {m['held_out']:8.5f}"
        )
    rival = min(("trl", "trl float32"), key=lambda n: median[n]["seconds"] / median[n]["tokens"])
    ours, theirs = median["ours"], median[rival]
    ratio = (theirs["seconds"] / theirs["tokens"]) / (ours["seconds"] / ours["tokens"])
    default = median["trl"]["seconds"] / ours["seconds"] * ours["tokens"] / median["trl"]["tokens"]
    line = {
        "benchmark": "sft",
        "ratio": round(ratio, 3),
        "ratio_to_defaults": round(default, 3),
        "rival": rival,
        "runs": runs,
        "threads": torch.get_num_threads(),
        "ours_tokens_per_s": round(ours["tokens"] / ours["seconds"]),
        "theirs_tokens_per_s": round(theirs["tokens"] / theirs["seconds"]),
        "seconds": {name: [round(r["seconds"], 3) for r in measured[name]] for name in measured},
        "first_loss": {name: m["first_loss"] for name, m in median.items()},
        "held_out_loss": {name: m["held_out"] for name, m in median.items()},
        "same_tokens": ours["tokens"] == theirs["tokens"],
        "first_loss_equal": abs(ours["first_loss"] - theirs["first_loss"]) < 1e-3,
        "held_out_no_worse": ours["held_out"] < theirs["held_out"] + _HELD_OUT_TOLERANCE,
    }
    keep(line, out)


def _ours(
    base: Path, examples: Sequence[Example], out: Path, batch: int = _BATCH
) -> dict[str, float]:
    config = SftConfig(learning_rate=_RATE, batch_size=batch, warmup_frac=0)
    done = train_sft(
        base, examples, config, out=out, checkpoints=out.with_suffix(".checkpoints"), seed=0
    )
    entries = (out.parent / "train_log.jsonl").read_text().splitlines()
    return {
        "seconds": json.loads(entries[-1])["train_runtime"],
        "tokens": done.tokens,
        "first_loss": done.first_loss,
        "final_loss": done.final_loss,
    }


def _trl(base: Path, examples: Sequence[Example], out: Path) -> dict[str, float]:
    return _theirs(base, examples, out)


def _trl_float32(base: Path, examples: Sequence[Example], out: Path) -> dict[str, float]:
    return _theirs(base, examples, out, bf16=False)


def _theirs(base: Path, examples: Sequence[Example], out: Path, **more: Any) -> dict[str, float]:  # noqa: ANN401
    order = list(range(len(examples)))
    rng(0, "sft order", 0).shuffle(order)
    rows = [{"prompt": examples[i].prompt, "completion": examples[i].completion} for i in order]
    usual = {
        "output_dir": str(out),
        "learning_rate": _RATE,
        "gradient_accumulation_steps": _BATCH // 8,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",  # the order of our side
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
    }
    settings = TrlConfig(**{**usual, **more})
    trainer = SFTTrainer(model=str(base), args=settings, train_dataset=Dataset.from_list(rows))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    summary = trainer.state.log_history[-1]
    return {
        "seconds": summary["train_runtime"],
        "tokens": trainer._total_train_tokens,
        "first_loss": losses[0],
        "final_loss": losses[-1],
    }


@torch.inference_mode()
def _held_out(folder: Path, examples: Sequence[Example]) -> float:
    """Mean loss of completion tokens, row by row, by transformers' own loss."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total = count = 0.0
    for example in examples:
        prompt = tokenizer(example.prompt)["input_ids"]
        completion = tokenizer(example.completion)["input_ids"] + [tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(prompt) + completion])
        loss = model(input_ids=torch.tensor([prompt + completion]), labels=labels).loss
        total += loss.item() * len(completion)
        count += len(completion)
    return total / count


def _workload(rows: int, name: str = "train") -> list[Example]:
    """Rows as LMSI writes them: three in eight begin with one of six few-shot prefixes.

    A completion repeats words of its prompt in order, so that there is something to learn.
    """
    draw = rng(0, "benchmark sft prefixes")
    prefixes = [_words(draw, draw.randint(180, 300)) for _ in range(6)]
    draw = rng(0, "benchmark sft", name)
    examples = []
    for i in range(rows):
        question = _words(draw, draw.randint(100, 120) if i % 8 >= 3 else draw.randint(60, 100))
        shown = [*draw.choice(prefixes), *question] if i % 8 < 3 else question
        start = draw.randrange(len(question) - 40)
        completion = question[start : start + draw.randint(25, 40)]
        examples.append(Example(" ".join(shown), " " + " ".join(completion)))
    return examples


# At the size of a real model.


def _real_size(chosen: argparse.Namespace) -> None:
    base = model_of(chosen, "smollm2-135m")
    rows = rows_of(base, chosen.rows, 400)
    examples = [Example(f"Question: {r.question}\nAnswer:", f" {r.answer}") for r in rows]
    batch = rows_a_step(base, [e.prompt + e.completion for e in examples])

    def ours(steps: int, out: Path) -> Timed:
        with untimed_checkpoints() as spent:
            told = _ours(base, examples[: steps * batch], out, batch)
        return Timed(round(told["tokens"]), told["seconds"] - spent())

    def plain(half: bool) -> Side:
        def run(steps: int, out: Path) -> Timed:
            return Loop(base, _RATE, half).sft(_blocks(base, examples, steps))

        return run

    def trl(**more: Any) -> Side:  # noqa: ANN401
        def run(steps: int, out: Path) -> Timed:
            per_step = batch if not more.get("packing") else 8
            settings = {"per_device_train_batch_size": per_step, "gradient_accumulation_steps": 1,
                        "gradient_checkpointing": False, "max_steps": steps, **more}  # fmt: skip
            told = _theirs(base, examples[: (steps + 1) * batch], out, **settings)
            return Timed(round(told["tokens"]), told["seconds"])

        return run

    layouts: dict[str, dict[str, Any]] = {
        "padded": {}, "padding-free": {"padding_free": True, "max_length": None},
        "packed": {"packing": True, "packing_strategy": "wrapped", "max_length": 256},
    }  # fmt: skip
    race("sft", "tokens", {
        "ours": {"auto": ours},
        "plain_loop": {"bf16": plain(True), "fp32": plain(False)},
        "trl": {f"{name}, {layout}": trl(bf16=half, **how) for name, half in
                (("bf16", True), ("fp32", False)) for layout, how in layouts.items()},
    }, (1, 3, 1) if chosen.quick else (2, 10, 3), chosen)  # fmt: skip


def _blocks(base: Path, examples: Sequence[Example], steps: int) -> list[torch.Tensor]:
    """One text behind the other, cut into blocks of 256 tokens, 8 a step: nothing is padded."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [e.prompt + e.completion + tokenizer.eos_token for e in examples]
    ids = [token for row in tokenizer(texts)["input_ids"] for token in row]
    if len(ids) < steps * STEP_TOKENS:
        raise SystemExit(f"{len(ids)} tokens of text are too few for {steps} steps")
    return list(torch.tensor(ids[: steps * STEP_TOKENS]).view(steps, 8, 256))


def _words(draw: Any, count: int) -> list[str]:  # noqa: ANN401
    return [f"w{3 + int(_WORDS * draw.random() ** 3)}" for _ in range(count)]


if __name__ == "__main__":
    main()
