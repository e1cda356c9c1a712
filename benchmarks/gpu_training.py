"""Our training, step by step: SFT, preferences, both reward models. Written is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from gpu_models import Cost, cost_of, folder_of
from gpu_parts import Setting
from machine import say

# isort: split
from gpu_clock import Clock, clocked, throughput
from real_size import Row, rows_of
from transformers import AutoTokenizer

from selfimprove.data.improvement_prompts import improvement_template, rendered
from selfimprove.data.preferences import Preference
from selfimprove.training.dpo import DpoConfig, train_dpo
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example, Message, Pair

__all__ = [
    "dpo",
    "examples",
    "gap_reward",
    "lengths",
    "places",
    "reward",
    "sft",
    "sft_config",
]

_RATE = 2e-5
_STEPS = 10_000  # far more than are timed
_FORWARD, _FORWARD_AND_BACKWARD = 1, 3


def sft(setting: Setting, name: str) -> dict[str, Any]:
    """Fine-tune on GSM8K's rows, or on random words."""
    base = folder_of(setting, name)
    rows = examples(setting, base)
    read = [[n] for n in lengths(base, [f"{row.prompt}{row.completion}" for row in rows])]
    with clocked(setting) as clock:
        train_sft(base, rows, sft_config(setting), seed=0, **places(setting))
    told = _told(clock, read, cost_of(base), _FORWARD_AND_BACKWARD)
    total = [0, *accumulate(read[number][0] for number in clock.order)]
    told["losses"] = [[total[step * clock.batch], loss] for step, loss in told["losses"]]
    return told


def examples(setting: Setting, base: Path) -> list[Example]:
    """Return 4,000 rows."""
    rows = _rows(setting, base, 4000)
    return [Example(f"Question: {row.question}\nAnswer:", f" {row.answer}") for row in rows]


def sft_config(setting: Setting) -> SftConfig:
    """Return how both sides fine-tune."""
    return SftConfig(learning_rate=_RATE, batch_size=setting.rows_a_step, max_steps=_STEPS, schedule="constant",
                     warmup_frac=0, save_every=_STEPS)  # fmt: skip


def dpo(setting: Setting, name: str) -> dict[str, Any]:
    """Prefer; the reference's pass, made before the first step, counts as each pair's share of it."""
    base = folder_of(setting, name)
    pairs = [Pair(row.question, row.answer, other) for row, other in _answered(setting, base, 320)]
    read = _two(base, [(p.prompt, p.chosen, p.rejected) for p in pairs])
    config = DpoConfig(learning_rate=_RATE, batch_size=setting.rows_a_step // 2, max_steps=_STEPS,
                       schedule="constant", warmup_frac=0, save_every=_STEPS)  # fmt: skip
    with clocked(setting) as clock:
        train_dpo(base, pairs, config, seed=0, **places(setting))
    told = _told(clock, read, cost_of(base), _FORWARD_AND_BACKWARD + _FORWARD)
    told |= {"steps_tokens_per_s": told["tokens_per_s"], "reference_s": round(clock.before_s, 3),
             "reference_tokens_per_s": round(sum(map(sum, read)) / clock.before_s, 1)}  # fmt: skip
    a_token = 1 / told["steps_tokens_per_s"] + 1 / told["reference_tokens_per_s"]
    told["tokens_per_s"] = round(1 / a_token, 1)
    say(f"  with the reference's pass: {told['tokens_per_s']:,.0f} tokens/s")
    return told


def reward(setting: Setting, name: str) -> dict[str, Any]:
    """Train the plain reward model: two rows a preference."""
    base = folder_of(setting, name)
    told = _preferences(setting, base)
    read = _two(base, [(p.prompt[0].content, p.chosen, p.rejected) for p in told])
    with clocked(setting) as clock:
        train_reward(base, told, _reward_config(setting), seed=0, chat=False, **places(setting))
    return _told(clock, read, cost_of(base, scores=True), _FORWARD_AND_BACKWARD)


def gap_reward(setting: Setting, name: str) -> dict[str, Any]:
    """Train the gap reward model: four rows a preference."""
    base, words = folder_of(setting, name), improvement_template("v1")
    told = _preferences(setting, base)
    texts = [
        f"{rendered(words, p.prompt, reference)[-1].content} {candidate}"
        for p in told
        for reference in (p.chosen, p.rejected)
        for candidate in (p.chosen, p.rejected)
    ]
    counts = lengths(base, texts)
    read = [counts[4 * n : 4 * n + 4] for n in range(len(told))]
    with clocked(setting) as clock:
        train_gap_reward(base, told, _reward_config(setting), seed=0, chat=False, template=words,
                         **places(setting))  # fmt: skip
    return _told(clock, read, cost_of(base, scores=True), _FORWARD_AND_BACKWARD)


def _reward_config(setting: Setting) -> RewardConfig:
    return RewardConfig(learning_rate=_RATE, batch_size=setting.rows_a_step // 2, max_steps=_STEPS,
                        schedule="constant", warmup_frac=0, save_every=_STEPS)  # fmt: skip


def _told(clock: Clock, read: Sequence[Sequence[int]], cost: Cost, passes: float) -> dict[str, Any]:
    told = throughput(clock, read, cost, passes)
    say(f"  {told['tokens_per_s']:,.0f} tokens/s over {clock.steps} steps")
    return told


def _rows(setting: Setting, base: Path, count: int) -> list[Row]:
    return rows_of(base, setting.rows, 64 if setting.tiny else count)


def _answered(setting: Setting, base: Path, count: int) -> list[tuple[Row, str]]:
    """Return rows, each with the answer to the next one: what is not preferred."""
    rows = _rows(setting, base, count)
    return [(row, other.answer) for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)]


def _preferences(setting: Setting, base: Path) -> list[Preference]:
    return [
        Preference(str(n), "made", (Message("user", row.question),), row.answer, other)
        for n, (row, other) in enumerate(_answered(setting, base, 320))
    ]


def _two(base: Path, told: Sequence[tuple[Any, str, str]]) -> list[list[int]]:
    counts = lengths(base, [f"{asked} {text}" for asked, *said in told for text in said])
    return [counts[2 * n : 2 * n + 2] for n in range(len(told))]


def lengths(base: Path, texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, the end token included."""
    tokenizer: Callable[..., Any] = AutoTokenizer.from_pretrained(base)
    return [len(ids) + 1 for ids in tokenizer(list(texts))["input_ids"]]


def places(setting: Setting) -> dict[str, Path]:
    """Return where a training would write, and would find what another one left."""
    taken = len(list(setting.scratch.glob("training-*")))
    room = setting.scratch / f"training-{taken}"
    room.mkdir()
    return {"out": room / "model", "checkpoints": room / "checkpoints"}
