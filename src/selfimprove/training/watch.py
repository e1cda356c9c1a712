"""What a training shows and writes while it runs: a bar with the time left, and a JSONL log."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from selfimprove.errors import TrainingError

__all__ = ["Bar", "LogFile"]


@final
class LogFile(TrainerCallback):
    """Writes each log entry as a line, under the names that Hugging Face gives them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Begin with what the resumed checkpoint has logged."""
        if not state.is_world_process_zero:
            return
        lines = [json.dumps(entry) + "\n" for entry in state.log_history]
        self._path.write_text("".join(lines), encoding="utf-8")

    def on_log(
        self,
        args: Any,  # noqa: ANN401
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        logs: dict[str, float] | None = None,
        **rest: Any,  # noqa: ANN401
    ) -> None:
        """Append the entry.

        Raises:
            TrainingError: the loss is no number any more.
        """
        if not state.is_world_process_zero or not logs:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**logs, "step": state.global_step}) + "\n")
        if not math.isfinite(logs.get("loss", 0.0)):
            raise TrainingError(
                f"the loss is {logs['loss']} at step {state.global_step}: lower the learning rate of "
                "this training"
            )


@final
class Bar(TrainerCallback):
    """A progress bar on standard error; nothing when that is no terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Show the bar."""
        if not (sys.stderr.isatty() and state.is_world_process_zero):
            return
        self._progress = Progress(
            TextColumn("fine-tune {task.fields[loss]}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("left"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._progress.start()
        self._progress.add_task("", total=state.max_steps, completed=state.global_step, loss="")

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Move it."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=state.global_step)

    def on_log(
        self,
        args: Any,  # noqa: ANN401
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        logs: dict[str, float] | None = None,
        **rest: Any,  # noqa: ANN401
    ) -> None:
        """Name the newest loss."""
        if self._progress is not None and logs and "loss" in logs:
            shown = f"loss {logs['loss']:.3f}"
            self._progress.update(self._progress.task_ids[0], loss=shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Take it away."""
        if self._progress is not None:
            self._progress.stop()
