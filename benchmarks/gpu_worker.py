"""The process in which the parts of `gpu.py` run: one that fails, hangs or dies loses itself alone."""

from __future__ import annotations

import gc
import os
import signal
import time
import traceback
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pkgutil import resolve_name
from typing import Any

from gpu_parts import Part, Setting

__all__ = ["Worker"]

# A process that starts anew imports torch and transformers first.
_START_S = 40
_GOODBYE_S = 5
_LOOK_S = 0.5


class Worker:
    """Runs parts in one process, and in a new one after a part that failed."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._running: tuple[BaseProcess, Connection] | None = None

    def run(self, part: Part, seconds: float) -> dict[str, Any]:
        """Return what the part found, or `failed`: why it found nothing."""
        limit = seconds + (0 if self._running else _START_S)
        process, pipe = self._running = self._running or self._started()
        try:
            pipe.send(part)
            told = _answer(process, pipe, limit) or {"failed": f"given up after {seconds:.0f} s"}
        except (EOFError, OSError):  # nobody is at the other end
            process.join(_GOODBYE_S)
            told = {"failed": f"its process ended with exit code {process.exitcode}"}
        if "failed" in told:
            self.end(at_once=True)
        return told

    def _started(self) -> tuple[BaseProcess, Connection]:
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_serve, args=(theirs, self._setting))
        process.start()
        theirs.close()
        return process, ours

    def end(self, *, at_once: bool = False) -> None:
        """End the process and all that it started; it is given a moment to end by itself, or not."""
        if self._running is None:
            return
        process, pipe = self._running
        self._running = None
        pipe.close()
        process.join(0 if at_once else _GOODBYE_S)
        with suppress(ProcessLookupError):  # of its group none is left, or it leads none yet
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join(_GOODBYE_S)  # one that hangs in a driver may outlive even that


def _answer(process: BaseProcess, pipe: Connection, seconds: float) -> dict[str, Any] | None:
    """Return what comes in so many seconds.

    Raises:
        EOFError: the process is gone.
    """
    over = time.monotonic() + seconds
    while (left := over - time.monotonic()) > 0:
        if pipe.poll(min(left, _LOOK_S)):
            told: dict[str, Any] = pipe.recv()
            return told
        if not process.is_alive():  # what it began may hold the pipe open
            raise EOFError
    return None


def _serve(pipe: Connection, setting: Setting) -> None:
    os.setsid()
    if setting.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    while True:
        try:
            part: Part = pipe.recv()
        except EOFError:
            return
        pipe.send(_measured(part, setting))


def _measured(part: Part, setting: Setting) -> dict[str, Any]:
    began = time.monotonic()
    try:
        told: dict[str, Any] = resolve_name(part.code)(setting, part.model)
    except (Exception, SystemExit) as error:  # noqa: BLE001  what failed is a result, too
        told = {"failed": f"{type(error).__name__}: {error}"[:2000],
                "where": traceback.format_exc(limit=-4)}  # fmt: skip
    told["part_seconds"] = round(time.monotonic() - began, 2)
    return told | (_memory() if setting.device == "cuda" else {})


def _memory() -> dict[str, Any]:
    """Return the most that was held since this was asked last, and what is left held."""
    import torch

    peak = torch.cuda.max_memory_allocated()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return {"peak_memory_gib": _gib(peak), "memory_left_gib": _gib(torch.cuda.memory_allocated())}


def _gib(count: int) -> float:
    return round(count / 2**30, 2)
