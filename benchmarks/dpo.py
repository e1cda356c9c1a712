"""Preference training: our DPO against TRL's DPOTrainer with its defaults, side by side.

Same model, same pairs in the same order, same learning rate, beta and effective batch, one epoch.
TRL runs twice, as it comes (bfloat16, which a CPU must be told) and in float32 with its reference
log-probabilities computed beforehand, as ours are; the faster one counts.

    python benchmarks/dpo.py [--quick] [--model FOLDER]
    python benchmarks/dpo.py --size 135m [--quick] [--model FOLDER_OR_NAME] [--rows train.jsonl]

At 135m a plain loop over transformers' forward and backward stands beside, and TRL runs without gradient
checkpointing in both precisions (this TRL has no padding-free DPO). Timed is the whole call: loading, the
reference's log-probabilities, training, writing, less the checkpoint that ours leaves to go on from.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from datasets import Dataset
from plain_loop import Loop
from real_size import (
    Side,
    Timed,
    add_options,
    model_of,
    race,
    rows_a_step,
    rows_of,
    untimed_checkpoints,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig as TrlConfig
from trl.trainer.dpo_trainer import DPOTrainer

from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.seeds_of_world import draft
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.types import Message, Pair

_RATE = 2e-5
_BATCH = 16
_BETA = 0.1
_ACCURACY_TOLERANCE = 0.02

SmallSide = Callable[[Path, Sequence[Pair], Path], dict[str, Any]]


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
    count, runs = (128, 1) if chosen.quick else (1024, 3)
    with tempfile.TemporaryDirectory() as scratch:
        base = model_of(chosen, "tiny")
        pairs, held_out = _pairs("train", count), _pairs("dev", 128)
        sides: dict[str, SmallSide] = {"ours": _ours, "trl": _trl, "trl float32": _trl_float32}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for run in range(runs):
            for name, side in sides.items():
                out = Path(scratch) / f"{name}-{run}"
                result = side(base, pairs, out)
                say(f"  {name}: {len(pairs) / result['seconds']:,.1f} pairs/s")
                measured[name].append({**result, "held_out": _held_out(base, out, held_out)})
        error = _reference_error(base, pairs, Path(scratch))
        keep(_report(measured, runs, len(pairs), error), chosen.json)


def _pairs(split: str, count: int) -> list[Pair]:
    """Pairs of drafts of the tiny world, told apart by its oracle."""
    stream = rng(0, "benchmark dpo", split)
    pairs = []
    for asked in instructions(split, 300 if split == "dev" else 1900):  # type: ignore[arg-type]
        drafts = sorted(
            (draft(asked, stream) for _ in range(2)), key=lambda text: score(asked.text, text)
        )
        if score(asked.text, drafts[0]) < score(asked.text, drafts[1]):
            pairs.append(Pair((Message("user", asked.text),), drafts[1], drafts[0]))
    return pairs[:count]


def _report(
    measured: dict[str, list[dict[str, Any]]], runs: int, pairs: int, reference_error: float
) -> dict[str, Any]:
    median = {
        name: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for name, results in measured.items()
    }
    print(f"{pairs} pairs, {runs} runs, {torch.get_num_threads()} threads; medians")
    print(f"{'':12} {'pairs/s':>8} {'seconds':>8} {'first loss':>10} {'held-out accuracy':>18}")
    for name, m in median.items():
        print(
            f"{name:12} {pairs / m['seconds']:8.1f} {m['seconds']:8.2f} {m['first_loss']:10.5f} "
            f"{m['held_out']:18.3f}"
        )
    rival = min(("trl", "trl float32"), key=lambda name: median[name]["seconds"])
    ours, theirs = median["ours"], median[rival]
    return {
        "benchmark": "dpo",
        "ratio": round(theirs["seconds"] / ours["seconds"], 3),
        "ratio_to_defaults": round(median["trl"]["seconds"] / ours["seconds"], 3),
        "rival": rival,
        "runs": runs,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "seconds": {name: [round(r["seconds"], 3) for r in measured[name]] for name in measured},
        "first_loss": {name: m["first_loss"] for name, m in median.items()},
        "first_loss_is_ln_2": abs(ours["first_loss"] - math.log(2)) < 1e-4,
        "largest_reference_difference": reference_error,
        "reference_equal": reference_error < 1e-3,
        "held_out_accuracy": {name: m["held_out"] for name, m in median.items()},
        "held_out_no_worse": ours["held_out"] > theirs["held_out"] - _ACCURACY_TOLERANCE,
    }


def _ours(base: Path, pairs: Sequence[Pair], out: Path, batch: int = _BATCH) -> dict[str, Any]:
    config = DpoConfig(learning_rate=_RATE, batch_size=batch, beta=_BETA, warmup_frac=0)
    done = train_dpo(
        base, pairs, config, out=out, checkpoints=out.with_suffix(".checkpoints"), seed=0
    )
    # All of it: loading, tokenising, the reference, training, writing.
    return {"seconds": done.seconds, "first_loss": done.first_loss}


def _trl(base: Path, pairs: Sequence[Pair], out: Path) -> dict[str, Any]:
    return _theirs(base, pairs, out)


def _trl_float32(base: Path, pairs: Sequence[Pair], out: Path) -> dict[str, Any]:
    return _theirs(base, pairs, out, bf16=False, precompute_ref_log_probs=True)


def _theirs(base: Path, pairs: Sequence[Pair], out: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    started = time.monotonic()
    trainer = _their_trainer(base, pairs, out, **more)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))
    seconds = time.monotonic() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "first_loss": losses[0]}


def _their_trainer(base: Path, pairs: Sequence[Pair], out: Path, **more: Any) -> DPOTrainer:  # noqa: ANN401
    order = list(range(len(pairs)))
    rng(0, "dpo order", 0).shuffle(order)
    usual = {
        "output_dir": str(out),
        "learning_rate": _RATE,
        "beta": _BETA,
        "gradient_accumulation_steps": _BATCH // 8,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",  # the order of our side
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "model_init_kwargs": {"dtype": "float32"},
    }
    settings = TrlConfig(**{**usual, **more})
    rows = Dataset.from_list([_row(pairs[i]) for i in order])
    return DPOTrainer(model=str(base), args=settings, train_dataset=rows)


def _row(pair: Pair) -> dict[str, Any]:
    asked = [{"role": m.role, "content": m.content} for m in pair.prompt if isinstance(m, Message)]
    said = ([{"role": "assistant", "content": text}] for text in (pair.chosen, pair.rejected))
    return {"prompt": asked, **dict(zip(("chosen", "rejected"), said, strict=True))}


def _reference_error(base: Path, pairs: Sequence[Pair], scratch: Path) -> float:
    """Return the largest difference of the reference log-probabilities of both sides, in nats."""
    trainer = _their_trainer(base, pairs, scratch / "reference", bf16=False,
                             precompute_ref_log_probs=True)  # fmt: skip
    order = list(range(len(pairs)))
    rng(0, "dpo order", 0).shuffle(order)
    names = ("ref_chosen_logps", "ref_rejected_logps")
    theirs = torch.tensor([list(trainer.train_dataset[name]) for name in names]).T
    (kept,) = (scratch / "ours-0.checkpoints").glob("reference-*.safetensors")
    return float((load_file(kept)["log_probs"][order] - theirs).abs().max())


# At the size of a real model.


def _real_size(chosen: argparse.Namespace) -> None:
    base = model_of(chosen, "smollm2-135m")
    rows = rows_of(base, chosen.rows, 200)
    # The rejected answer is that to the next question.
    pairs = [
        Pair((Message("user", row.question),), row.answer, other.answer)
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
    ]
    both = [f"{p.prompt[0].content}{said}" for p in pairs for said in (p.chosen, p.rejected)]
    batch = max(rows_a_step(base, both) // 2, 1)

    def ours(steps: int, out: Path) -> Timed:
        with untimed_checkpoints() as spent:
            told = _ours(base, pairs[: steps * batch], out, batch)
        return Timed(steps * batch, told["seconds"] - spent())

    def plain(half: bool) -> Side:
        def run(steps: int, out: Path) -> Timed:
            began = time.monotonic()
            loop = Loop(base, _RATE, half)
            loop.dpo(base, _batches(base, pairs[: steps * batch], batch), _BETA)
            loop.model.save_pretrained(out)
            return Timed(steps * batch, time.monotonic() - began)

        return run

    def trl(**more: Any) -> Side:  # noqa: ANN401
        def run(steps: int, out: Path) -> Timed:
            settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 1,
                        "gradient_checkpointing": False, **more}  # fmt: skip
            told = _theirs(base, pairs[: steps * batch], out, **settings)
            return Timed(steps * batch, told["seconds"])

        return run

    race("dpo", "pairs", {
        "ours": {"auto": ours},
        "plain_loop": {"bf16": plain(True), "fp32": plain(False)},
        "trl": {"bf16": trl(bf16=True), "fp32": trl(bf16=False),
                "bf16, reference beforehand": trl(bf16=True, precompute_ref_log_probs=True)},
    }, (1, 3, 1) if chosen.quick else (2, 10, 3), chosen)  # fmt: skip


def _batches(base: Path, pairs: Sequence[Pair], size: int) -> list[list[tuple[list[int], int]]]:
    """Tokens and length of the prompt of every row, the chosen ones of a batch first."""
    tokenizer = AutoTokenizer.from_pretrained(base)

    def row(pair: Pair, said: str) -> tuple[list[int], int]:
        asked = tokenizer.apply_chat_template(
            _row(pair)["prompt"], tokenize=False, add_generation_prompt=True
        )
        prompt, text = tokenizer([asked, asked + said + tokenizer.eos_token])["input_ids"]
        return text, len(prompt)

    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [[row(p, p.chosen) for p in g] + [row(p, p.rejected) for p in g] for g in groups]


@torch.inference_mode()
def _held_out(base: Path, folder: Path, pairs: Sequence[Pair]) -> float:
    """Share of held-out pairs whose chosen response gained more probability, by transformers."""
    models = [
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32).eval() for f in (base, folder)
    ]
    tokenizer = AutoTokenizer.from_pretrained(base)
    right = 0
    for pair in pairs:
        chat = _row(pair)["prompt"]
        asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        before = len(tokenizer(asked)["input_ids"])
        gains = []
        for text in (pair.chosen, pair.rejected):
            ids = torch.tensor([tokenizer(f"{asked}{text}{tokenizer.eos_token}")["input_ids"]])
            told = [_sum(model, ids, before) for model in models]
            gains.append(told[1] - told[0])
        right += gains[0] > gains[1]
    return right / len(pairs)


def _sum(model: Any, ids: torch.Tensor, before: int) -> float:  # noqa: ANN401
    told = model(ids).logits.log_softmax(-1)[0, before - 1 : -1]
    return float(told.gather(1, ids[0, before:, None]).sum())


if __name__ == "__main__":
    main()
