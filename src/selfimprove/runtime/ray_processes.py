"""Trains a step in workers of Ray Train, anywhere on the cluster that the run's replicas draw on.

The same processes that `processes` starts by torchrun, started by Ray instead: each replays the run up to
the step, and trains its share of it. Ray says which one each is, on which GPU, and joins them in a group.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypedDict

from selfimprove.config import Config
from selfimprove.errors import TrainingError
from selfimprove.runtime.processes import Order
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.ray_cluster import Cluster, imported

__all__ = ["RayProcesses"]

_log = logging.getLogger(__name__)

_AGAIN: Final = 2
"""Times that a training begins again from its newest checkpoint: what happens three times is no accident."""
_BOTH: Final = "cpu:gloo,cuda:nccl"
"""What is shared out may lie in the memory of the host, and what is told to all processes does."""


class _Share(TypedDict):
    """What each worker is told."""

    step: str
    folder: str
    """In which the run was started: a recipe may name its files from there."""


@dataclass(frozen=True, slots=True)
class RayProcesses:
    """How many, and of which run."""

    config: Config
    engine: EngineConfig
    count: int
    """On all nodes together."""

    def train(self, step: Path) -> dict[str, Any]:
        """Train the step of this folder and return what the training reports.

        Where a process is lost, all begin again, from the newest checkpoint.

        Raises:
            TrainingError: the training went wrong, or processes were lost again and again.
            EngineError: Ray is not there, or its cluster no longer answers.
        """
        order = Order.given(step.resolve(), self.config)
        cluster = Cluster(self.engine, self.count)
        try:
            needs = self._needs(cluster)
            went_wrong = _apart(lambda: _fit(order.step, self.count, needs))
        finally:
            cluster.leave()
        order.refuse_failures()
        if went_wrong is not None or not order.told.exists():
            raise TrainingError(
                f"{step.name}: the training did not get through in {1 + _AGAIN} attempts; a process may have "
                "been lost each time, for want of memory. Run the same command again to go on from the newest "
                f"checkpoint. Ray says: {went_wrong}"
            ) from went_wrong
        return order.done(self.count)

    def _needs(self, cluster: Cluster) -> dict[str, float]:
        """Return what Ray sets aside for each process: a GPU where there are any, else its share of cores."""
        threads = self.engine.threads or 1
        gpus = cluster.room("GPU")
        what, each = ("GPU", 1) if gpus else ("CPU", threads)
        if (room := cluster.room(what)) < self.count * each:
            _log.warning("--num-processes %d: the Ray cluster has %d %ss, and each process takes %d: waiting "
                         "for more nodes", self.count, room, what, each)  # fmt: skip
        return {"CPU": 1, "GPU": 1} if gpus else {"CPU": threads}


def _fit(step: Path, count: int, needs: dict[str, float]) -> None:
    """Let Ray start so many workers and wait for them; raises what Ray raises where one fails."""
    imported()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = "GPU" in needs
    # Ray's own notes; nothing of the training is in them.
    with TemporaryDirectory(dir=step, prefix="ray-") as notes:
        TorchTrainer(
            _trained_by_worker,
            train_loop_config=_Share(step=str(step), folder=str(Path.cwd())),
            scaling_config=ScalingConfig(
                num_workers=count, use_gpu=gpus, resources_per_worker=needs
            ),
            torch_config=TorchConfig(backend=_BOTH if gpus else "gloo"),
            run_config=RunConfig(
                name="training", storage_path=notes, failure_config=FailureConfig(_AGAIN)
            ),
        ).fit()


def _trained_by_worker(share: _Share) -> None:
    """Train this worker's share; where it raises, Ray ends the others, and all begin again.

    Raises:
        TrainingError: the step's folder is not seen here, or as it was written into that folder.
    """
    from selfimprove.runtime.worker import train_share

    step = Path(share["step"])
    if not step.is_dir():
        from ray.util import get_node_ip_address

        raise TrainingError(
            f"node {get_node_ip_address()} does not see {step}: runs must lie in a folder that all nodes see "
            "under one name, such as a network disk"
        )
    if Order(step).failures():  # it would go wrong again
        return
    if Path(share["folder"]).is_dir():
        os.chdir(share["folder"])
    if not train_share(step):
        raise TrainingError(f"see {step}/failure-*.json")


def _apart(task: Callable[[], None]) -> BaseException | None:
    """Do it in a thread, and return what it raised.

    In the main one Ray would take over what an interrupt means, for good.
    """
    raised: list[BaseException] = []

    def done() -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  whatever Ray raises
            raised.append(error)

    thread = threading.Thread(target=done, name="ray train", daemon=True)
    thread.start()
    thread.join()
    return raised[0] if raised else None
