"""Reinforcement learning: our policy gradient against TRL's RLOOTrainer, which draws by `generate`.

The task is PIT's first round: improve a response, rewarded by a gap reward model that both sides call
in the same way. Same model, prompts, batch, draws a prompt, length limit, learning rate, schedule and
KL; each side with several seeds, so that the course of the rewards can be compared beside their
spread. TRL runs in float32, which is its faster setting on a CPU.

    python benchmarks/rl.py [--quick] [--model FOLDER]
    python benchmarks/rl.py --size 135m [--quick] [--model FOLDER_OR_NAME] [--rows train.jsonl]

At 135m a plain loop stands beside (`generate` from a copy in the precision of the arithmetic, one forward
of the reference, forward and backward of the policy), TRL runs without gradient checkpointing in both
precisions, and the reward is a rule that costs nothing. Timed are the steps alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from datasets import Dataset
from plain_loop import Loop, padded
from real_size import Side, Timed, add_options, model_of, race, rows_of, untimed_checkpoints
from transformers import AutoTokenizer
from transformers.trainer_callback import PrinterCallback
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from selfimprove.data.improvement_prompts import improvement_template, rendered
from selfimprove.data.preferences import Preference, read_preferences
from selfimprove.data.sources import Source
from selfimprove.judges.gap import GapScorer
from selfimprove.judges.reward_rows import Improved
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example, Message, Prompt

_RATE, _BETA, _BATCH, _DRAWS, _TOKENS = 3e-4, 0.1, 24, 4, 64
_ENGINE = EngineConfig(chat=True)
_LAST = 5  # steps whose mean reward is compared


@dataclass(frozen=True)
class Task:
    """A response to be improved."""

    turns: tuple[Message, ...]
    prompt: tuple[Message, ...]
    reference: str


@dataclass(frozen=True)
class Setting:
    """What both sides are given."""

    start: Path
    gaps: GapScorer
    tasks: Sequence[Task]
    steps: int


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
    steps, seeds = (3, 1) if chosen.quick else (25, 3)
    with tempfile.TemporaryDirectory() as scratch:
        setting = _setting(model_of(chosen, "tiny"), steps, Path(scratch))
        sides = {"ours": _ours, "trl": _trl}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for seed in range(seeds):
            for name, side in sides.items():
                measured[name].append(side(setting, Path(scratch) / f"{name}-{seed}", seed))
                say(f"  {name}: {steps / measured[name][-1]['seconds']:.3f} steps/s")
        keep(_report(measured, steps), chosen.json)


def _setting(base: Path, steps: int, scratch: Path) -> Setting:
    told: list[Preference] = list(
        read_preferences([Source(source="train", format="tiny", limit=1800)], 0).rows
    )
    words = improvement_template("v1")
    examples = [Example(rendered(words, p.prompt, p.rejected), p.chosen) for p in told[:600]]
    start, gaps = scratch / "start", scratch / "gaps"
    train_sft(base, examples, SftConfig(learning_rate=5e-4), out=start, checkpoints=scratch / "a",
              seed=0)  # fmt: skip
    train_gap_reward(base, told[600:1200], RewardConfig(learning_rate=1e-3), out=gaps,
                     checkpoints=scratch / "b", seed=0, chat=True, template=words)  # fmt: skip
    tasks = [Task(rendered(words, p.prompt, p.rejected), p.prompt, p.rejected) for p in told[1200:]]
    return Setting(start, GapScorer(gaps, _ENGINE), tasks[: steps * _BATCH], steps)


def _ours(setting: Setting, out: Path, seed: int) -> dict[str, Any]:
    of = {str(n): task for n, task in enumerate(setting.tasks)}
    config = PolicyGradientConfig(
        learning_rate=_RATE, batch_size=_BATCH, n=_DRAWS, beta=_BETA, max_steps=setting.steps,
        warmup_frac=0, try_every=10_000, save_every=10_000,
    )  # fmt: skip

    def reward(
        keys: Sequence[str], texts: Sequence[str], finished: Sequence[bool]
    ) -> list[float | None]:
        return _gaps(setting, [of[key] for key in keys], texts, finished)

    prompts = [Prompt(key, task.turns) for key, task in of.items()]
    began = time.monotonic()
    # One held-out prompt, as ours chooses the best policy and TRL's does not.
    train_policy(setting.start, prompts, reward, config, _ENGINE, reference=setting.start,
                 held_out=prompts[:1], max_tokens=_TOKENS, out=out / "model",
                 checkpoints=out / "checkpoints", seed=seed)  # fmt: skip
    seconds = time.monotonic() - began
    lines = (out / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [entry for entry in map(json.loads, lines) if "reward" in entry]
    last = logged[-1]
    # A token, as TRL tells it.
    return {"seconds": seconds, "rewards": [e["reward"] for e in logged],
            "kl": last["kl"] / last["completion_length"]}  # fmt: skip


def _gaps(
    setting: Setting, tasks: Sequence[Task], texts: Sequence[str], finished: Sequence[bool]
) -> list[float | None]:
    told = zip(tasks, texts, finished, strict=True)
    return setting.gaps.told(
        [Improved("", 0, t.prompt, text, t.reference, done) for t, text, done in told]
    ).scores


def _trl(setting: Setting, out: Path, seed: int) -> dict[str, Any]:
    def reward(
        completions: list[Any],
        number: list[int],
        completion_ids: list[list[int]],
        **_: Any,  # noqa: ANN401
    ) -> list[float | None]:
        texts = [said[0]["content"].strip() for said in completions]
        finished = [len(ids) < _TOKENS for ids in completion_ids]
        return _gaps(setting, [setting.tasks[n] for n in number], texts, finished)

    rows = [
        {"prompt": [{"role": m.role, "content": m.content} for m in t.turns], "number": n}
        for n, t in enumerate(setting.tasks)
    ]
    settings = RLOOConfig(
        output_dir=str(out), learning_rate=_RATE, beta=_BETA, num_generations=_DRAWS,
        per_device_train_batch_size=_BATCH * _DRAWS, gradient_accumulation_steps=1,
        max_completion_length=_TOKENS, max_steps=setting.steps, temperature=1.0,
        normalize_advantages=True, lr_scheduler_type="linear", logging_steps=1, report_to="none",
        disable_tqdm=True, save_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=False,
        model_init_kwargs={"dtype": "float32"}, seed=seed,
    )  # fmt: skip
    began = time.monotonic()
    trainer = RLOOTrainer(model=str(setting.start), reward_funcs=reward, args=settings,
                          train_dataset=Dataset.from_list(rows))  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))
    seconds = time.monotonic() - began
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {"seconds": seconds, "rewards": [e["rewards/reward/mean"] for e in logged],
            "kl": logged[-1]["kl"]}  # fmt: skip


def _report(measured: dict[str, list[dict[str, Any]]], steps: int) -> dict[str, Any]:
    print(f"{steps} steps of {_BATCH} prompts x {_DRAWS} draws, {torch.get_num_threads()} threads")
    print(
        f"{'':6} {'steps/s':>8} {'seconds':>8} {'first reward':>13} {'last rewards':>13} {'KL a token':>11}"
    )
    told = {}
    for name, runs in measured.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        last = [statistics.fmean(run["rewards"][-_LAST:]) for run in runs]
        told[name] = {
            "seconds": round(seconds, 2),
            "steps_per_second": round(steps / seconds, 3),
            "first_reward": round(statistics.fmean(run["rewards"][0] for run in runs), 4),
            "last_rewards": [round(value, 4) for value in last],
            "kl": round(statistics.fmean(run["kl"] for run in runs), 4),
            "course": [round(statistics.fmean(v), 3) for v in
                       zip(*(run["rewards"] for run in runs), strict=True)],
        }  # fmt: skip
        print(f"{name:6} {steps / seconds:8.3f} {seconds:8.1f} {told[name]['first_reward']:13.3f} "
              f"{statistics.fmean(last):13.3f} {told[name]['kl']:11.4f}")  # fmt: skip
    ours, theirs = (told[name]["last_rewards"] for name in ("ours", "trl"))
    return {
        "benchmark": "rl",
        "ratio": round(told["trl"]["seconds"] / told["ours"]["seconds"], 3),
        "steps": steps,
        "threads": torch.get_num_threads(),
        "last_rewards_difference": round(statistics.fmean(ours) - statistics.fmean(theirs), 4),
        "spread_over_seeds": [round(statistics.stdev(v), 4) if len(v) > 1 else None
                              for v in (ours, theirs)],
        **told,
    }  # fmt: skip


# At the size of a real model: 8 prompts a step.

_ASKED = "Answer in one short sentence. "
_PROMPTS, _REAL_RATE = 8, 1e-5


def _distinct(texts: Sequence[str]) -> list[float]:
    """Return the share of different words in each text: a reward that costs nothing."""
    return [len({*text.split()}) / max(len(text.split()), 1) for text in texts]


def _real_size(chosen: argparse.Namespace) -> None:
    base = model_of(chosen, "smollm2-135m")
    asked = [(Message("user", _ASKED + r.question),) for r in rows_of(base, chosen.rows, 200)]
    tokenizer = AutoTokenizer.from_pretrained(base)
    how = {"draws": _DRAWS, "tokens": _TOKENS, "beta": _BETA, "end": tokenizer.eos_token_id}

    def worth(new: torch.Tensor) -> torch.Tensor:
        return torch.tensor(_distinct(tokenizer.batch_decode(new, skip_special_tokens=True)))

    def ours(steps: int, out: Path) -> Timed:
        prompts = [Prompt(str(n), turns) for n, turns in enumerate(asked[: steps * _PROMPTS + 1])]
        config = PolicyGradientConfig(
            learning_rate=_REAL_RATE, batch_size=_PROMPTS, n=_DRAWS, beta=_BETA, max_steps=steps,
            warmup_frac=0, try_every=10_000, save_every=10_000,
        )  # fmt: skip
        with untimed_checkpoints() as spent:
            train_policy(base, prompts[1:], lambda keys, texts, finished: _distinct(texts), config, _ENGINE,
                         reference=base, held_out=prompts[:1], max_tokens=_TOKENS, out=out,
                         checkpoints=out.with_suffix(".checkpoints"), seed=0)  # fmt: skip
        lines = (out.parent / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
        (seconds,) = (
            told["train_runtime"] for told in map(json.loads, lines) if "train_runtime" in told
        )
        return Timed(steps * _PROMPTS * _DRAWS, seconds - spent())

    def plain(half: bool) -> Side:
        def run(steps: int, out: Path) -> Timed:
            batches = [padded(ids, "left") for ids in _batches(tokenizer, asked, steps)]
            return Loop(base, _REAL_RATE, half).rl(
                base, *zip(*batches, strict=True), reward=worth, how=how
            )

        return run

    def trl(half: bool) -> Side:
        def run(steps: int, out: Path) -> Timed:
            seconds = _their_real_size(base, asked[: steps * _PROMPTS], steps, half, out)
            return Timed(steps * _PROMPTS * _DRAWS, seconds)

        return run

    race("rl", "draws", {
        "ours": {"auto": ours},
        "plain_loop": {"bf16": plain(True), "fp32": plain(False)},
        "trl": {"bf16": trl(True), "fp32": trl(False)},
    }, (1, 1, 1) if chosen.quick else (1, 3, 3), chosen)  # fmt: skip


def _batches(
    tokenizer: Any,  # noqa: ANN401
    asked: Sequence[tuple[Message, ...]],
    steps: int,
) -> list[list[list[int]]]:
    chats = [[{"role": m.role, "content": m.content} for m in turns] for turns in asked]
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(texts)["input_ids"]
    return [ids[i * _PROMPTS : (i + 1) * _PROMPTS] for i in range(steps)]


def _their_real_size(
    base: Path, asked: Sequence[tuple[Message, ...]], steps: int, half: bool, out: Path
) -> float:
    def reward(completions: list[Any], **_: Any) -> list[float]:  # noqa: ANN401
        return _distinct([said[0]["content"] for said in completions])

    settings = RLOOConfig(
        output_dir=str(out), learning_rate=_REAL_RATE, beta=_BETA, num_generations=_DRAWS,
        per_device_train_batch_size=_PROMPTS * _DRAWS, gradient_accumulation_steps=1,
        max_completion_length=_TOKENS, max_steps=steps, temperature=1.0, normalize_advantages=True,
        lr_scheduler_type="linear", logging_steps=1, report_to="none", disable_tqdm=True,
        save_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=half,
        gradient_checkpointing=False, model_init_kwargs={"dtype": "float32"}, seed=0,
    )  # fmt: skip
    chats = [{"prompt": [{"role": m.role, "content": m.content} for m in turns]} for turns in asked]
    trainer = RLOOTrainer(model=str(base), reward_funcs=reward, args=settings,
                          train_dataset=Dataset.from_list(chats))  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return float(trainer.state.log_history[-1]["train_runtime"])


if __name__ == "__main__":
    main()
