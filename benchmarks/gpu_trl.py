"""TRL's SFTTrainer on the same rows: packed, in bfloat16, with liger-kernel where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

from gpu_models import cost_of, folder_of
from gpu_parts import Setting
from machine import say

# isort: split
from datasets import Dataset
from gpu_clock import Clock, clocked
from gpu_training import examples, lengths, places, sft_config
from transformers.trainer_callback import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from selfimprove.training.order import in_order
from selfimprove.types import Example

__all__ = ["sft"]

_PACKINGS = ("bfd", "wrapped")
"""Whole rows, the longest first, parted by their positions; or blocks cut anywhere, which see what
stands before them. So losses are not those of our rows, in either."""


def sft(setting: Setting, name: str) -> dict[str, Any]:
    """Time both packings, in steps of as many tokens as ours have; the faster one counts."""
    base = folder_of(setting, name)
    rows = examples(setting, base)
    width = 512 if setting.tiny else 1024
    counts = lengths(base, [f"{row.prompt}{row.completion}" for row in rows])
    batch = max(round(setting.rows_a_step * mean(counts) / width), 1)
    ways = {}
    for packing in _PACKINGS[:1] if setting.quick else _PACKINGS:
        clock = _trained(setting, base, rows, {"packing_strategy": packing, "max_length": width,
                                               "per_device_train_batch_size": batch})  # fmt: skip
        ways[packing] = {
            "tokens_per_s": round(clock.counted / clock.seconds, 1),
            "tokens": clock.counted,
            "steps": clock.steps,
            "seconds": round(clock.seconds, 3),
            "losses": [[e["num_tokens"], e["loss"]] for e in clock.logs if "loss" in e],
        }
        say(f"  TRL, {packing}: {ways[packing]['tokens_per_s']:,.0f} tokens/s")
    best = max(ways, key=lambda way: ways[way]["tokens_per_s"])
    flops = 3 * sum(map(cost_of(base).row, counts)) / sum(counts)
    return {"tokens_per_s": ways[best]["tokens_per_s"], "flops_per_token": flops, "best": best,
            "liger": _has_liger(), "step_tokens": batch * width, "ways": ways}  # fmt: skip


def _has_liger() -> bool:
    return find_spec("liger_kernel") is not None


def _trained(
    setting: Setting, base: Path, examples: Sequence[Example], how: dict[str, Any]
) -> Clock:
    ours = sft_config(setting)
    order, _ = in_order(len(examples), ours, 0, "sft order")
    rows = [{"prompt": examples[n].prompt, "completion": examples[n].completion}
            for n in order[: len(examples)]]  # fmt: skip
    settings = SFTConfig(
        output_dir=str(places(setting)["out"]), learning_rate=ours.learning_rate,
        gradient_accumulation_steps=1, gradient_checkpointing=False, packing=True,
        max_steps=ours.max_steps, lr_scheduler_type="constant", logging_first_step=True,
        logging_steps=10, train_sampling_strategy="sequential", report_to="none",
        disable_tqdm=True, save_strategy="no", bf16=True, use_cpu=setting.device == "cpu",
        use_liger_kernel=_has_liger(), model_init_kwargs={"dtype": "float32"}, seed=0, **how,
    )  # fmt: skip
    with clocked(setting) as clock:
        trainer = SFTTrainer(model=str(base), args=settings, train_dataset=Dataset.from_list(rows))
        clock.count = lambda: int(trainer._total_train_tokens)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock
