"""Ray as a run uses it: quiet, without telemetry, and gone when the last engine that needed it is closed."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final, final

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.threads import cores

__all__ = ["Cluster", "imported", "kept_up"]

_log = logging.getLogger(__name__)

_SMALL: Final = 256 * 2**20
"""Bytes of shared memory of a Ray of our own: only prompts and texts pass through it."""
_KNOCK: Final = 10.0
"""Seconds in which a cluster's head takes a connection."""
_STARTS: Final = 3
"""Times that a Ray of our own is started before that is given up."""
_OF_THIS_PROCESS: Final = Lock()


@final
class Cluster:
    """The one cluster that a process can be connected to, held until `leave`."""

    # How many hold it, by which address, and whether whoever uses this library had connected before.
    _holders, _address = 0, ""
    _theirs = False

    def __init__(self, engine: EngineConfig, trainers: int = 1) -> None:
        """Connect, or start a Ray of this machine's with as many CPUs as the replicas or the trainers need.

        Raises:
            EngineError: Ray is not installed, or there is no cluster at the address.
        """
        self._ray = imported()
        self._held = True
        config, threads = engine.replicas, engine.threads or 1
        # More replicas than cores are slow, but were asked for.
        asked = 1 if config.replicas == "auto" else config.replicas
        cpus = max(cores(), threads * max(asked, trainers))
        with _OF_THIS_PROCESS:
            if Cluster._holders == 0:
                Cluster._theirs = self._ray.is_initialized()
                if not Cluster._theirs:
                    _connect(self._ray, config.address, cpus)
                Cluster._address = config.address
            elif config.address != Cluster._address:
                raise EngineError(
                    f"engine.ray.address={config.address}: this process already uses the Ray of address "
                    f"{Cluster._address}, and can use one; name the same for every engine"
                )
            Cluster._holders += 1

    def room(self, what: str) -> int:
        """Return how many CPU or GPU all living nodes have together.

        Raises:
            EngineError: the cluster no longer answers.
        """
        try:
            return int(self._ray.cluster_resources().get(what, 0))
        except Exception as error:  # Ray raises what its transport raised
            raise EngineError(
                f"the Ray cluster no longer answers ({error}): run again when it is back; what was "
                "made is kept"
            ) from error

    def leave(self) -> None:
        """Let go; a Ray of our own ends with whoever held it last. Does nothing the second time."""
        with _OF_THIS_PROCESS:
            if not self._held:
                return
            self._held = False
            Cluster._holders -= 1
            if Cluster._holders == 0 and not Cluster._theirs:
                self._ray.shutdown()


@contextmanager
def kept_up(engine: EngineConfig, trainers: int = 1) -> Iterator[None]:
    """Let Ray run meanwhile, where this engine needs it: a run opens engines again and again.

    Its trainings take `trainers` processes.

    Raises:
        EngineError: Ray is not installed, or there is no cluster at the address.
    """
    if engine.kind != "ray":
        yield
        return
    cluster = Cluster(engine, trainers)
    try:
        yield
    finally:
        cluster.leave()


def imported() -> Any:  # noqa: ANN401
    """Return the module `ray`.

    Raises:
        EngineError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray would have its workers give way to everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            "engine.kind=ray needs Ray, an extra: pip install 'selfimprove[ray]', on every node of a cluster"
        ) from error
    return ray


def _connect(ray: Any, address: str, cpus: int) -> None:  # noqa: ANN401
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    try:
        if address == "local":
            _start(ray, cpus, quiet)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises nothing narrower where a start takes over 30 s
        advice = (
            "run again when the machine is less busy"
            if address == "local"
            else ("begin a cluster with `ray start --head`, or take address=local")
        )
        raise EngineError(
            f"engine.ray.address={address}: Ray does not start or answer there: {error}\n{advice}"
        ) from error


def _start(ray: Any, cpus: int, quiet: dict[str, Any]) -> None:  # noqa: ANN401
    """Start a Ray of our own, and again where that fails.

    Its raylet gives its agent 15 s to begin, which no setting changes (ray-project/ray#65983), and ends where
    that takes longer, as it may on a busy machine; what was started beside it would stay.
    """
    import psutil

    own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _SMALL}
    here = psutil.Process()
    for left in reversed(range(_STARTS)):
        before = set(here.children())
        try:
            ray.init(address="local", **quiet, **own)
        except Exception as error:
            ray.shutdown()
            for child in set(here.children()) - before:
                with suppress(psutil.NoSuchProcess):
                    _end_if_of_ray(child)
            if not left:
                raise
            _log.warning("Ray did not start, as it may on a busy machine (%s): once more", error)
        else:
            return


def _end_if_of_ray(child: Any) -> None:  # noqa: ANN401  psutil's
    words = child.cmdline()
    if not words or "/ray/" in " ".join(words):  # without any it has ended, and is waited for
        child.kill()
        child.wait()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at an address with a port: Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in address and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_KNOCK).close()
