"""A run whose trainings take several machines: one runs it, the others stand by for its training steps.

Every machine is started by the same line of torchrun (or `accelerate launch`), which tells each of its
processes which one it is. The first process of the first machine is the run. The first one of every
other machine waits for orders over a store of torch's, which ends with the run; all others leave at once.
The run's folder must be on a disk that all machines see.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from selfimprove.errors import ConfigError, TrainingError

__all__ = ["Machines", "launch_line", "leave_torchrun"]

_TOLD: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK",
                "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR",
                "MASTER_PORT")  # fmt: skip
_PORT: Final = 29_500  # torchrun's own default
_LONGEST_WAIT: Final = timedelta(days=30)  # between two trainings of a run
_SEEN_WITHIN: Final = 120.0  # seconds that a shared disk may take to show a file


@dataclass(frozen=True, slots=True)
class Machines:
    """Those of one run, as this process of one of them sees them."""

    count: int
    here: int
    """Number of this machine; the run is on number 0."""
    processes: int
    """That train, on each machine."""
    address: str = "127.0.0.1"
    """Of machine 0."""
    port: int = _PORT + 1
    _store: list[Any] = field(default_factory=list)
    _orders: list[None] = field(default_factory=list)

    @property
    def all_processes(self) -> int:
        """That train, on all machines together."""
        return self.count * self.processes

    def order(self, step: Path) -> list[str]:
        """Tell the other machines to train a step; return torchrun's words for this one."""
        port = _free_port()
        self._tell({"step": str(step.resolve()), "port": port})
        return self._words(port)

    def end(self) -> None:
        """Tell the other machines that there will be no more."""
        self._tell({})

    def stand_by(
        self, train: Callable[[Sequence[str], Path], int], announce: Callable[[str], None]
    ) -> None:
        """Take part in every training that the run on machine 0 orders, until there are no more.

        Args:
            train: starts these words of torchrun for a step, waits and returns its status.
            announce: is told what this machine does.

        Raises:
            TrainingError: machine 0 was lost, or what it wrote is not seen here.
        """
        announce(f"machine {self.here} of {self.count} stands by for the run on {self.address}")
        while told := self._next():
            step = Path(told["step"])
            _wait_for(step / "order.json")
            announce(f"{step.name}: {self.processes} processes of this machine take part")
            if train(self._words(told["port"]), step):
                raise TrainingError(
                    f"{step.name}: a process of machine {self.here} was lost, see above"
                )

    def _words(self, port: int) -> list[str]:
        return ["--nnodes", str(self.count), "--node_rank", str(self.here), "--master_addr",
                self.address, "--master_port", str(port),
                "--nproc_per_node", str(self.processes)]  # fmt: skip

    def _tell(self, order: dict[str, Any]) -> None:
        self._open().set(f"order-{len(self._orders)}", json.dumps(order))
        self._orders.append(None)

    def _next(self) -> dict[str, Any]:
        from torch.distributed import DistError

        key = f"order-{len(self._orders)}"
        self._orders.append(None)
        try:
            store = self._open()
            store.wait([key], _LONGEST_WAIT)
            told: dict[str, Any] = json.loads(store.get(key))
        except (DistError, RuntimeError) as error:
            raise TrainingError(
                f"the run on {self.address} is gone: start the same line on all machines again to go on"
            ) from error
        return told

    def _open(self) -> Any:  # noqa: ANN401  torch's store
        if not self._store:
            from torch.distributed import TCPStore  # type: ignore[attr-defined]

            first = self.here == 0
            self._store.append(
                TCPStore(
                    self.address,
                    self.port,
                    None,
                    first,
                    timedelta(minutes=10),
                    wait_for_workers=False,
                )
            )
        return self._store[0]


def leave_torchrun() -> Machines | None:
    """Return the machines that torchrun names in the environment; None: it did not start this process.

    What it says there is taken away: the run itself is no part of a training.

    Raises:
        SystemExit: with 0, as this is not the first process of its machine.
    """
    env = {name: os.environ.pop(name) for name in _TOLD if name in os.environ}
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]
    if "RANK" not in env or "WORLD_SIZE" not in env:
        os.environ.update(env)
        return None
    if int(env.get("LOCAL_RANK", "0")):
        sys.exit(0)
    each = int(env.get("LOCAL_WORLD_SIZE", "1"))
    rank, whole = int(env["RANK"]), int(env["WORLD_SIZE"])
    if whole % each:
        raise ConfigError(f"{whole} processes do not divide evenly: start {each} on every machine")
    return Machines(whole // each, rank // each, each, env.get("MASTER_ADDR", "127.0.0.1"),
                    int(env.get("MASTER_PORT", _PORT)) + 1)  # fmt: skip


def launch_line(nodes: int, processes: int, words: Sequence[str]) -> str:
    """Return the line to start on each of several machines.

    >>> print(launch_line(2, 8, ["run", "pit-paper", "--out", "/shared/pit"]))
    torchrun --nnodes 2 --nproc_per_node 8 --node_rank NUMBER --master_addr FIRST_MACHINE \
--master_port 29500 -m selfimprove run pit-paper --out /shared/pit
    """
    return (f"torchrun --nnodes {nodes} --nproc_per_node {processes} --node_rank NUMBER "
            f"--master_addr FIRST_MACHINE --master_port {_PORT} -m selfimprove {shlex.join(words)}")  # fmt: skip


def _wait_for(file: Path) -> None:
    until = time.monotonic() + _SEEN_WITHIN
    while not file.exists():
        if time.monotonic() > until:
            raise TrainingError(
                f"{file} is not seen on this machine: give --out a folder that all machines share"
            )
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port
