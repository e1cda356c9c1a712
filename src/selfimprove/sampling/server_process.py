"""A server that a run starts, waits for and stops: its memory is free again before training."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import requests

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import ServerConfig

__all__ = ["ServerProcess", "ends_with_parent"]

_PR_SET_PDEATHSIG: Final = 1
# Loaded beforehand: between fork and exec no lock may be needed that another thread could hold.
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_MOMENT: Final = 0.2  # seconds that a process takes to end behind its last connection
_GRACE: Final = 5.0  # seconds between the request to stop and the order to
_POLL: Final = 0.25
_LOG_TAIL: Final = 2_000  # characters shown when it did not come up


@final
class ServerProcess:
    """One running server in a process group of its own."""

    def __init__(
        self, model: Path, config: ServerConfig, environment: Mapping[str, str | None] | None = None
    ) -> None:
        """Start the command and wait until it answers; `environment` is laid over that of the run.

        Raises:
            EngineError: the program is missing, it ends before it answers, or time runs out.
        """
        port = _free_port()
        words = [
            w.replace("{model}", str(model)).replace("{port}", str(port)) for w in config.command
        ]
        if shutil.which(words[0]) is None:
            raise EngineError(f"engine.server.command: there is no program {words[0]!r} to start")
        self.url = f"http://127.0.0.1:{port}/v1"
        log, name = tempfile.mkstemp(prefix="selfimprove-server-", suffix=".log")
        self._log = Path(name)
        with os.fdopen(
            log, "wb"
        ) as output:  # the server's alone: it holds the file when ours is closed
            self._process = subprocess.Popen(
                words,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={k: v for k, v in (os.environ | (environment or {})).items() if v is not None},
                start_new_session=True,
                preexec_fn=ends_with_parent,
            )
        self._left = weakref.finalize(self, _end, self._process, self._log)
        try:
            self._wait(config.startup_timeout, words[0])
        except BaseException:
            self.stop()
            raise

    def _wait(self, seconds: float, name: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EngineError(
                    f"{name} ended with status {self._process.returncode} before it served:\n"
                    f"{self._tail()}"
                )
            if self._answers():
                return
            time.sleep(_POLL)
        raise EngineError(
            f"{name} did not answer within {seconds:.0f} seconds (engine.server.startup_timeout):\n"
            f"{self._tail()}"
        )

    def check(self) -> None:
        """Do nothing while the server runs; one that has cut a connection is given a moment to end.

        Raises:
            EngineError: it has ended, with the end of its log.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_MOMENT)
        if self._process.poll() is not None:
            raise EngineError(
                f"the server that was started ended by itself, with status "
                f"{self._process.returncode}; the end of its log:\n{self._tail()}"
            )

    def _answers(self) -> bool:
        """Ask for its health; servers without such a page list their models."""
        root = self.url.removesuffix("/v1")
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between a run and its server
            for page in (f"{root}/health", f"{self.url}/models"):
                with contextlib.suppress(requests.RequestException):
                    if session.get(page, timeout=5).status_code == requests.codes.ok:
                        return True
        return False

    def _tail(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return text[-_LOG_TAIL:].strip() or "(it wrote nothing)"

    def stop(self) -> None:
        """End the whole group: first ask, then kill. Does nothing when it has ended."""
        self._left()


def _end(process: subprocess.Popen[bytes], log: Path) -> None:
    """End a process and its group, wait until their memory is really free, and drop the log."""
    for order in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, order)
        deadline = time.monotonic() + _GRACE
        while _lives(process) and time.monotonic() < deadline:
            time.sleep(_POLL / 5)
    log.unlink(missing_ok=True)


def _lives(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether anything is left of a group; workers may outlive their parent."""
    process.poll()  # the parent is ours to bury, and in a container without init its workers are, too
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-process.pid, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ends_with_parent() -> None:
    """Let the kernel end this process when the one that started it is killed; on Linux alone."""
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
