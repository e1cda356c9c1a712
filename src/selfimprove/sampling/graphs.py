"""Runs steps: on a CUDA device each as one recorded graph, elsewhere as it is written.

A decoding step of a small model is a thousand kernels of microseconds, and Python cannot launch them
as fast as a GPU finishes them. Recorded once, all are launched by one call.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import final

import torch

__all__ = ["Graphs", "Recorder", "cause_of", "rung_over"]

_log = logging.getLogger(__name__)


def rung_over(wanted: int, most: int, *, least: int = 1, factor: int = 2) -> int:
    """Return the rung at or over `wanted`: `most`, divided by `factor` as often as that is enough.

    No rung is lower than `least`, unless `most` is.

    >>> [rung_over(n, 256, least=16, factor=4) for n in (1, 16, 17, 65, 256)]
    [16, 16, 64, 256, 256]
    """
    rung = most
    while rung // factor >= max(wanted, least):
        rung //= factor
    return rung


def cause_of(problem: RuntimeError) -> BaseException:
    """Return why a recording failed: what ends it tells no more than that it did."""
    return problem.__context__ or problem


@final
class Recorder:
    """Records work on a device: what it records lives in one memory pool, and on one stream.

    The stream is its own, since torch keys workspaces of products by it and gives those of a stream
    back with any graph recorded on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.records = device.type == "cuda"
        """Whether it can; whoever finds that it cannot says so here."""
        if self.records:
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()

    def run_aside(self, work: Callable[[], None]) -> None:
        """Do the work on the stream of the recordings: what a first run loads cannot be recorded."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Record the work without doing it.

        Raises:
            RuntimeError: it cannot be recorded; OutOfMemoryError: there was no room for it.
        """
        graph = torch.cuda.CUDAGraph()
        # What a collection frees meanwhile, events and pinned memory, may spoil the recording.
        collects = gc.isenabled()
        gc.disable()
        here = torch.cuda.current_stream(self._device)
        try:
            # A recording that fails leaves its own stream the current one, and its pool in use.
            with torch.cuda.device(self._device), torch.cuda.stream(here), torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):  # fmt: skip
                work()
        except RuntimeError as problem:
            with suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(here.device_index, self._pool)
            if isinstance(problem.__context__, torch.cuda.OutOfMemoryError):
                raise problem.__context__ from problem
            raise
        finally:
            if collects:
                gc.enable()
        return graph


@final
class Graphs:
    """Graphs of one family of steps, each under a key; all live and leave together.

    They share their memory, as no two run at once and none leaves anything in it: a step writes what
    it finds into buffers that were made before.
    """

    def __init__(self, device: torch.device) -> None:
        self._recorder = Recorder(device)
        self._recorded: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def run(self, key: Hashable, step: Callable[[], None], times: int) -> None:
        """Take `times` steps; steps of one key differ in what lies in their buffers alone."""
        if self._recorder.records and key not in self._recorded:
            self._recorder.run_aside(step)
            times -= 1
            self._record(key, step)
        graph = self._recorded.get(key)
        for _ in range(times):
            if graph is None:
                step()
            else:
                graph.replay()

    def _record(self, key: Hashable, step: Callable[[], None]) -> None:
        """Record a step without taking it; where it cannot be, no more is tried."""
        try:
            self._recorded[key] = self._recorder.record(step)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            _log.warning("decoding steps cannot be recorded as CUDA graphs: %s", cause_of(problem))
            self._recorder.records = False
