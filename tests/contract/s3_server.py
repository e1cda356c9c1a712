"""A real S3 server on this machine (moto, a process of its own), and a way to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

BUCKET = "runs"
_SERVE = "import sys; from moto.server import main; main(['-p', sys.argv[1]])"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_bucket(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=30)


@contextmanager
def serving(environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Start a server with an empty bucket, yield its URL, and kill it (-9)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until and process.poll() is None:
                with contextlib.suppress(OSError):
                    make_bucket(url)
                    break
                time.sleep(0.2)
            yield url
        finally:
            process.kill()


class Lasting:
    """A server whose objects outlive it, behind a port that stays.

    moto keeps them in its memory alone. Every request is recorded in a file by moto itself, and what is in
    it is told to the server that takes the killed one's place, before anybody else reaches that one.
    """

    def __init__(self, recording: Path) -> None:
        self._recording = recording
        self._running = contextlib.ExitStack()
        self._wire = Wire(self._start())

    @property
    def url(self) -> str:
        return self._wire.url

    def kill(self) -> None:
        """End the server in the middle of whatever it does."""
        self._running.close()
        self._wire.cut()

    def again(self) -> None:
        """Start another one, with what the killed one had been told."""
        whole, _, _cut_off = self._recording.read_text().rpartition("\n")
        self._recording.write_text(whole + "\n")
        self._wire.mend(self._start())

    def _start(self) -> str:
        told = {"MOTO_RECORDER_FILEPATH": str(self._recording), "MOTO_ENABLE_RECORDING": "yes"}
        url = self._running.enter_context(serving(told))
        # The first one's has its bucket in it.
        asked = urllib.request.Request(f"{url}/moto-api/recorder/replay-recording", method="POST")
        urllib.request.urlopen(asked, timeout=1_800)
        return url


def point_at(patch: pytest.MonkeyPatch, url: str) -> None:
    """Let every client of this process, and of those it starts, speak to that server."""
    told = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1"}  # fmt: skip
    for name, value in told.items():
        patch.setenv(name, value)


class Wire:
    """A port that forwards to a server, until it is cut, and again when it is mended."""

    def __init__(self, to: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self._to = 0
        self.mend(to)

    def mend(self, to: str = "") -> None:
        """Forward again, to another server where one is named."""
        if to:
            self._to = int(to.rpartition(":")[2])
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        """Refuse what comes, and break off what is under way."""
        assert self._listening is not None
        with contextlib.suppress(OSError):  # it was cut before
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += (near, far)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    for end in (source, to):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Refusing(BaseHTTPRequestHandler):
    """Denies everything, as S3 does."""

    def _deny(self) -> None:
        said = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_HEAD = _deny

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def denying() -> Iterator[str]:
    """Serve nothing but refusals."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
