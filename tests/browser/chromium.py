"""A headless Chromium that a test drives: DevTools messages over a pipe, so nothing else is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Page", "browser", "find"]

_PATIENCE = 60.0  # seconds for one answer, on a busy machine


def find() -> str | None:
    """Return the browser of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """One tab: what it says to its console is kept."""

    def __init__(self, out: int, back: int) -> None:
        self._out, self._back = out, back
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        """Errors and warnings of the console, and exceptions that nobody caught."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one message and return what comes back for it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            told = self._next()
            if told.get("id") == self._number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return dict(told["result"])
            self._note(told)
        raise TimeoutError(method)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Make the window so large, in the colours that are asked for."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path, fragment: str = "") -> None:
        """Load a file anew and wait until its table, if it has one, is there."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=f"{file.resolve().as_uri()}{fragment}")
        self.wait("document.readyState === 'complete' && "
                  "!document.querySelector('.table-of-texts .found')?.textContent.startsWith('Reading')")  # fmt: skip

    def run(self, script: str) -> Any:
        """Return the value of an expression of the page."""
        told = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression of the page is true."""
        until = time.monotonic() + _PATIENCE
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < until, f"never came true: {script}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "End": 35,
                "Home": 36, "Tab": 9, "/": 191}[key]  # fmt: skip
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, file: Path) -> None:
        """Keep what the window shows."""
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._back, 1 << 16)
            if not read:
                raise EOFError("the browser has ended")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["params"]["exceptionDetails"]))
        elif told.get("method") == "Runtime.consoleAPICalled" and told["params"]["type"] in (
            "error",
            "warning",
        ):
            self.complaints.append(str(told["params"]["args"]))
        elif told.get("method") == "Log.entryAdded":
            self.complaints.append(str(told["params"]["entry"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a browser with an empty profile and end it afterwards."""
    path = find()
    assert path is not None
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def place() -> None:  # the browser reads from 3 and writes to 4
        read, write = os.dup(to_read), os.dup(from_write)
        os.dup2(read, 3)
        os.dup2(write, 4)

    words = [path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--hide-scrollbars", f"--user-data-dir={profile}", "--disable-dev-shm-usage",
             "--host-resolver-rules=MAP * ~NOTFOUND"]  # fmt: skip
    with subprocess.Popen(words, preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        try:
            yield Page(to_write, from_read)
        finally:
            process.terminate()
            process.wait(20)
            os.close(to_write)
            os.close(from_read)
