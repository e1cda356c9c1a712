"""Preference training: our DPO against TRL's DPOTrainer with its defaults, side by side.

Same model, same pairs in the same order, same learning rate, beta and effective batch, one epoch.
TRL runs twice, as it comes (bfloat16, which a CPU must be told) and in float32 with its reference
log-probabilities computed beforehand, as ours are; the faster one counts.

    python benchmarks/dpo.py [--quick] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.dpo_config import DPOConfig as TrlConfig
from trl.trainer.dpo_trainer import DPOTrainer

from selfimprove.seeds import rng
from selfimprove.tiny.instructions import instructions
from selfimprove.tiny.oracle import score
from selfimprove.tiny.seeds_of_world import draft
from selfimprove.tiny.shipped import folder as shipped
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.types import Message, Pair

_RATE = 2e-5
_BATCH = 16
_BETA = 0.1
_ACCURACY_TOLERANCE = 0.02

Side = Callable[[Path, Sequence[Pair], Path], dict[str, Any]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, one run")
    parser.add_argument("--model", type=Path, help="a folder [the shipped tiny model]")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    count, runs = (128, 1) if chosen.quick else (1024, 3)
    with tempfile.TemporaryDirectory() as scratch:
        base = chosen.model or shipped("tiny")
        pairs, held_out = _pairs("train", count), _pairs("dev", 128)
        sides: dict[str, Side] = {"ours": _ours, "trl": _trl, "trl float32": _trl_float32}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for run in range(runs):
            for name, side in sides.items():
                out = Path(scratch) / f"{name}-{run}"
                result = side(base, pairs, out)
                measured[name].append({**result, "held_out": _held_out(base, out, held_out)})
        _report(measured, runs, len(pairs), _reference_error(base, pairs, Path(scratch)))


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
) -> None:
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
    line = {
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
    print(json.dumps(line))


def _ours(base: Path, pairs: Sequence[Pair], out: Path) -> dict[str, Any]:
    config = DpoConfig(learning_rate=_RATE, batch_size=_BATCH, beta=_BETA, warmup_frac=0)
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
    trainer.train()
    trainer.save_model(str(out))
    seconds = time.monotonic() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "first_loss": losses[0]}


def _their_trainer(base: Path, pairs: Sequence[Pair], out: Path, **more: Any) -> DPOTrainer:  # noqa: ANN401
    order = list(range(len(pairs)))
    rng(0, "dpo order", 0).shuffle(order)
    settings = TrlConfig(
        output_dir=str(out),
        learning_rate=_RATE,
        beta=_BETA,
        gradient_accumulation_steps=_BATCH // 8,
        num_train_epochs=1,
        train_sampling_strategy="sequential",  # the order of our side
        logging_first_step=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        model_init_kwargs={"dtype": "float32"},
        **more,
    )
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
