"""How reinforcement learning went, stage by stage: reward, held-out reward, KL, entropy, length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from selfimprove.remote import whole
from selfimprove.report.run_folder import RunFolder

_CURVES: Final = (
    ("reward", "Reward"),
    ("kl", "KL, nats a response"),
    ("entropy", "Entropy, nats a token"),
    ("completion_length", "Length, tokens"),
)
_APART: Final = ("sampling_kl", "KL of those who drew, nats a token")
"""Where another engine draws."""
_HELD_OUT: Final = "held_out_reward"
_KEPT: Final = (
    "best_step", "best_reward", "best_kl", "best_unfinished",
    "start_reward", "start_kl", "start_unfinished", "stopped",
)  # fmt: skip


def figures(run: RunFolder) -> list[dict[str, Any]] | None:
    """Return the curves of every stage; the held-out reward belongs to the first of them."""
    stages = []
    for stage in run.summary.curriculum:
        whole(run.path / stage.step, ("train_log.jsonl",))
        logged = _logged(run.path / stage.step / "train_log.jsonl")
        if logged:
            stages.append({
                **stage.model_dump(mode="json"),
                "curves": [_curve(name, title, logged) for name, title in _shown(logged)],
                "kept": _kept(run, stage.step),
            })  # fmt: skip
    return stages or None


def _logged(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _shown(logged: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    is_apart = any(_APART[0] in entry for entry in logged)
    return (*_CURVES, _APART) if is_apart else _CURVES


def _curve(name: str, title: str, logged: list[dict[str, Any]]) -> dict[str, Any]:
    """Return (step, value) points; those of one step of training stand at its end."""
    held = [(e["step"], e[_HELD_OUT]) for e in logged if _HELD_OUT in e] if name == "reward" else []
    points = [(e["step"], e[name]) for e in logged if name in e]
    values = [value for _, value in [*points, *held]]
    return {"name": name, "title": title, "points": points, "held_out": held,
            "low": min(values, default=0.0), "high": max(values, default=1.0),
            "steps": max((step for step, _ in [*points, *held]), default=1)}  # fmt: skip


def _kept(run: RunFolder, step: str) -> dict[str, Any]:
    record = next((s.record for s in run.steps if s.name == step), {})
    told = record.get("training") or record
    return {key: told.get(key) for key in _KEPT}
