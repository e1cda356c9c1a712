"""What is still to come: a dry run of the recipe, in a process of its own, as it loads far more than watching needs.

python -m selfimprove.watching.plan RUN    prints the steps as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from selfimprove.watching.state import Seen

__all__ = ["Ahead", "Plan", "Planned", "ahead"]

_MODULE: Final = "selfimprove.watching.plan"
_KINDS: Final = ("tokens_sampled", "tokens_trained")


class Planned(NamedTuple):
    """One step of the plan."""

    name: str
    tokens_sampled: int
    tokens_trained: int


class Ahead(NamedTuple):
    """What is left of a run."""

    steps: tuple[str, ...]
    seconds: float | None
    """As the steps so far took, measured by the plan's tokens; None: nothing was sampled, or trained, to go by."""


@final
class Plan:
    """The plan of one run, made while one looks on; empty until it is there, or if it cannot be made here."""

    def __init__(self, root: Path) -> None:
        self.steps: tuple[Planned, ...] = ()
        words = [sys.executable, "-m", _MODULE, str(root)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                         stdin=subprocess.DEVNULL)  # fmt: skip
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until it is there, but not longer."""
        self._thread.join(seconds)

    def close(self) -> None:
        """End what still makes it."""
        self._process.terminate()
        self._process.wait()

    def _take(self) -> None:
        out, _ = self._process.communicate()
        if self._process.returncode == 0:
            self.steps = tuple(Planned(**step) for step in json.loads(out))


def ahead(seen: Seen, plan: Sequence[Planned]) -> Ahead | None:
    """Return what is left of a run; None without a plan."""
    if not plan:
        return None
    done = {step.name: step.record for step in seen.steps if step.done}
    left = [step for step in plan if step.name not in done]
    parts = [_seconds(kind, plan, done) for kind in _KINDS]
    known = [seconds for seconds in parts if seconds is not None]
    whole = sum(known) if len(known) == len(parts) else None
    return Ahead(tuple(step.name for step in left), whole)


def _seconds(
    kind: str, plan: Sequence[Planned], done: Mapping[str, Mapping[str, Any]]
) -> float | None:
    """Return the time that is left for sampling, or for training: bounds compared with bounds."""
    took = sum(
        float(done[s.name].get("seconds") or 0) for s in plan if s.name in done and getattr(s, kind)
    )
    bound = sum(getattr(s, kind) for s in plan if s.name in done)
    left = sum(getattr(s, kind) for s in plan if s.name not in done)
    if not left:
        return 0.0
    return left * took / bound if bound and took else None


def _main(root: Path) -> None:
    from selfimprove.files import read_json
    from selfimprove.runtime.launch import config_of, run_method
    from selfimprove.runtime.rehearsal import Rehearsal

    path = root / "recipe.json"
    config = config_of(read_json(path), str(path))
    with closing(Rehearsal(root, engine=config.engine, seed=config.seed)) as run:
        run_method(config, run)
        steps = [Planned(s.name, s.tokens_sampled, s.tokens_trained)._asdict() for s in run.steps]
    sys.stdout.write(json.dumps(steps))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
