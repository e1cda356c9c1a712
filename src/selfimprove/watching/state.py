"""What a run's folder says of the run now."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from selfimprove.errors import DataError
from selfimprove.progress import begun

__all__ = ["LogEntry", "Seen", "SeenStep", "State", "look"]

State: TypeAlias = Literal["running", "finished", "stopped", "unknown"]
LogEntry: TypeAlias = dict[str, float]

_COSTS: Final = ("rows", "seconds", "tokens_sampled", "tokens_trained")


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One step, done or being made."""

    name: str
    done: bool
    record: dict[str, Any]
    """`done.json`, or the sums of the shards that are there."""
    made: int = 0
    """Shards, or steps of training."""
    total: int | None = None
    """Of them; None: not known."""
    of: str = ""
    seconds_left: float | None = None
    elapsed: float = 0.0
    """Seconds since the step began, this time."""

    @property
    def tokens_per_second(self) -> float | None:
        """Sampled or trained."""
        seconds = self.record.get("seconds")
        tokens = (self.record.get("tokens_sampled") or 0) + (self.record.get("tokens_trained") or 0)
        return tokens / seconds if tokens and seconds else None


@dataclass(frozen=True, slots=True)
class Seen:
    """A run at one moment."""

    root: Path
    recipe: dict[str, Any]
    state: State
    """unknown: another machine holds it, and its folder does not say whether it lives."""
    holder: str
    """Process and machine that hold, or held, the run."""
    silent: float
    """Seconds since something was last written."""
    steps: tuple[SeenStep, ...]
    """Done ones in the order in which they ended, then those that were begun."""
    log: tuple[LogEntry, ...]
    """Of the newest training."""
    log_step: str
    summary: dict[str, Any]

    @property
    def has_finished(self) -> bool:
        """Whether nothing more comes."""
        return self.state == "finished"

    @property
    def current(self) -> SeenStep | None:
        """The step that is being made, or was when the run ended."""
        open_steps = [step for step in self.steps if not step.done]
        return open_steps[-1] if open_steps and not self.has_finished else None


def look(root: Path) -> Seen:
    """Read a run's folder, which may change meanwhile.

    Raises:
        DataError: there is no run in it.
    """
    folders = sorted((p.parent for p in root.glob("*/step.json")), key=_when)
    recipe = _read(root / "recipe.json")
    if not folders and not recipe:
        raise DataError(
            f"there is no run in {root}: give the folder that `selfimprove run --out` wrote, or will write"
        )
    newest = max((p.stat().st_mtime for p in _written(root, folders)), default=0.0)
    holder, state = _state(root)
    steps = tuple(_step(folder) for folder in folders)
    log, log_step = _log(folders)
    return Seen(
        root=root,
        recipe=recipe,
        state=state,
        holder=holder,
        silent=max(0.0, time.time() - newest),
        steps=tuple(sorted(steps, key=lambda step: not step.done)),
        log=log,
        log_step=log_step,
        summary=_read(root / "summary.json"),
    )


def _when(folder: Path) -> float:
    done = folder / "done.json"
    return (done if done.exists() else folder / "step.json").stat().st_mtime


def _written(root: Path, folders: list[Path]) -> list[Path]:
    own = [p for p in (root / "recipe.json", root / "finished.json") if p.exists()]
    return own + [p for folder in folders[-3:] for p in folder.iterdir()]


def _state(root: Path) -> tuple[str, State]:
    """Say who holds the run and whether it goes on."""
    lock = root / "lock"
    holder = lock.read_text(encoding="utf-8").strip() if lock.exists() else ""
    process, _, machine = holder.partition(" on ")
    if machine and machine != socket.gethostname():
        return holder, "finished" if (root / "finished.json").exists() else "unknown"
    if process.isdecimal() and _holds(int(process), lock):
        return holder, "running"
    return holder, "finished" if (root / "finished.json").exists() else "stopped"


def _holds(process: int, lock: Path) -> bool:
    """Tell whether a living process has the lock open: its number alone may be another's by now."""
    files = Path(f"/proc/{process}/fd")
    try:
        return any(os.path.realpath(file) == os.path.realpath(lock) for file in files.iterdir())
    except PermissionError:
        return True  # it lives, and is somebody else's
    except OSError:
        return not Path("/proc").is_dir() and _lives(process)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _step(folder: Path) -> SeenStep:
    done = _read(folder / "done.json")
    if done:
        return SeenStep(folder.name, done=True, record=done)
    plan = _read(begun(folder))
    if plan.get("of") == "steps":
        return _training(folder, plan)
    sidecars = [_read(path) for path in sorted(folder.glob("shard-*.json"))]
    sums = {key: sum(told.get(key) or 0 for told in sidecars) for key in _COSTS}
    made, total = len(sidecars), plan.get("total")
    new = made - int(plan.get("done") or 0)
    elapsed = _since(begun(folder) if plan else folder / "step.json")
    left = elapsed / new * (total - made) if total and new > 0 else None
    return SeenStep(folder.name, False, sums, made, total, "shards", left, elapsed)


def _training(folder: Path, plan: dict[str, Any]) -> SeenStep:
    entries = _entries(folder / "train_log.jsonl")
    made = int(max((entry["step"] for entry in entries if "step" in entry), default=0))
    elapsed = _since(begun(folder))
    new, total = made - int(plan.get("done") or 0), int(plan["total"])
    left = elapsed / new * (total - made) if new > 0 else None
    return SeenStep(folder.name, False, {}, made, total, "steps", left, elapsed)


def _since(path: Path) -> float:
    """Return seconds since a file was written; 0 where it went away meanwhile."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def _log(folders: list[Path]) -> tuple[tuple[LogEntry, ...], str]:
    logs = [path for folder in folders if (path := folder / "train_log.jsonl").exists()]
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    return (tuple(_entries(newest)), newest.parent.name) if newest else ((), "")


def _entries(path: Path) -> list[LogEntry]:
    """Return a log's whole lines, their numbers alone."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    return [{name: value for name, value in json.loads(line).items() if isinstance(value, int | float)}
            for line in whole]  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's content; nothing where it is not there, or not whole yet."""
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held
