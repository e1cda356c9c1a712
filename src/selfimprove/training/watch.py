"""What a training shows and writes while it runs: a bar with the time left, and a JSONL log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, final

from tqdm import tqdm
from transformers import TrainerCallback

from selfimprove.errors import TrainingError
from selfimprove.files import write_json
from selfimprove.progress import bar, begun

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
        write_json(
            begun(self._path.parent),
            {"total": state.max_steps, "of": "steps", "done": state.global_step},
        )
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

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Say that no more is to come."""
        if state.is_world_process_zero:
            begun(self._path.parent).unlink(missing_ok=True)


@final
class Bar(TrainerCallback):
    """A progress bar with the newest loss; nothing when nobody watches."""

    def __init__(self) -> None:
        self._shown: tqdm[None] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Show the bar."""
        if state.is_world_process_zero:
            self._shown = bar("fine-tune", state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Move it."""
        if self._shown is not None:
            self._shown.update()

    def on_log(
        self,
        args: Any,  # noqa: ANN401
        state: Any,  # noqa: ANN401
        control: Any,  # noqa: ANN401
        logs: dict[str, float] | None = None,
        **rest: Any,  # noqa: ANN401
    ) -> None:
        """Name the newest loss."""
        if self._shown is not None and logs and "loss" in logs:
            self._shown.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ANN401
        """Take it away."""
        if self._shown is not None:
            self._shown.close()
