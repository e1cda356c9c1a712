"""The server under load: clients that ask at once for a minute, beside one client that asks alone.

    python benchmarks/serve.py [--clients 64] [--seconds 60] [--model tiny] [--json FILE]
                               [--long 8] [--short 4] [--against SRC [--rounds 2]]

Each client asks again as soon as it is answered; a 429 is counted, and asked again after its
Retry-After. Printed and kept as JSON: what was asked, answered and lost, the seconds of a reply, replies a second, and how far
apart the clients that were answered most and least are.
Then `long` clients ask for four long texts each, without a pause, and `short` ones beside them for eight tokens: what a
short request waits for. `--against` names the `src` folder of another checkout, which is measured in turn with this one, as often
as `--rounds` says and each time in the other order, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import requests
from machine import keep, say

_ASKED = "How can Ben make tea with jars? ({})"
_TOKENS = 48
# The small model's own responses are short; a text that it only continues goes on for a hundred tokens.
_SHORT: Final = {"max_tokens": 8}
_LONG: Final = {
    "prompt": "Q: Ann has 3 kites.\n\n\n",
    "max_tokens": 300,
    "temperature": 0.3,
    "n": 4,
}


class Client(threading.Thread):
    """Asks until time is up."""

    def __init__(self, url: str, number: int, until: float, how: dict[str, Any]) -> None:
        super().__init__()
        self._url, self._number, self._until, self._how = url, number, until, how
        self.seconds: list[float] = []
        self.status: Counter[int | str] = Counter()

    def run(self) -> None:
        """Ask, and note how it went."""
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < self._until:
                self._ask(session)

    def _ask(self, session: requests.Session) -> None:
        said = {"role": "user", "content": _ASKED.format(self._number)}
        goes_on = "prompt" in self._how
        body = self._how if goes_on else {"messages": [said], **self._how}
        page = "completions" if goes_on else "chat/completions"
        started = time.monotonic()
        try:
            reply = session.post(f"{self._url}/v1/{page}", json=body, timeout=120)
        except requests.RequestException as error:
            self.status[type(error).__name__] += 1
            return
        self.status[reply.status_code] += 1
        if reply.status_code == requests.codes.ok:
            self.seconds.append(time.monotonic() - started)
        elif reply.status_code == requests.codes.too_many_requests:
            time.sleep(float(reply.headers["Retry-After"]))


def mixed(url: str, long: int, short: int, seconds: float) -> dict[str, Any]:
    """Let some clients ask for what takes long and some for what does not; return what each kind saw."""
    until = time.monotonic() + seconds
    kinds = {"long": (long, _LONG), "short": (short, _SHORT)}
    asking = {
        kind: [Client(url, number, until, how) for number in range(count)]
        for kind, (count, how) in kinds.items()
    }
    for client in (c for clients in asking.values() for c in clients):
        client.start()
    for client in (c for clients in asking.values() for c in clients):
        client.join()
    return {kind: seen(clients, seconds) for kind, clients in asking.items()}


def seen(clients: list[Client], seconds: float) -> dict[str, Any]:
    """Return what clients of one kind saw."""
    found = sorted(s for client in clients for s in client.seconds)
    status = sum((client.status for client in clients), Counter())
    return {
        "clients": len(clients),
        "status": {str(name): count for name, count in status.items()},
        "replies_a_second": round(len(found) / seconds, 2),
        "reply_seconds": {"median": round(median(found), 3), "p95": round(quantiles(found, n=20)[-1], 3),
                          "most": round(found[-1], 3)},
    }  # fmt: skip


def load(url: str, clients: int, seconds: float) -> dict[str, Any]:
    """Let so many clients ask for so long; return what they saw."""
    started = time.monotonic()
    asking = [
        Client(url, number, started + seconds, {"max_tokens": _TOKENS}) for number in range(clients)
    ]
    for client in asking:
        client.start()
    for client in asking:
        client.join()
    took = time.monotonic() - started
    found = sorted(s for client in asking for s in client.seconds)
    counts = [len(client.seconds) for client in asking]
    status = sum((client.status for client in asking), Counter())
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "status": {str(name): count for name, count in status.items()},
        "replies_a_second": round(len(found) / took, 2),
        "reply_seconds": {"median": round(median(found), 3), "p95": round(quantiles(found, n=20)[-1], 3),
                          "most": round(found[-1], 3)},
        "replies_of_a_client": {"least": min(counts), "most": max(counts)},
    }  # fmt: skip


@contextmanager
def served(model: str, source: Path | None = None) -> Iterator[tuple[str, Callable[[], float]]]:
    """Start the server in a process of its own, and tell its URL and its seconds of CPU; from a `src` folder that may be another checkout's."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "selfimprove", "serve", model, "--port", str(port)]
    path = {"PYTHONPATH": str(source)} if source else {}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ | path)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                requests.get(f"{url}/health", timeout=1)
                break
            except requests.RequestException:
                if process.poll() is not None:
                    raise SystemExit("the server ended before it answered") from None
                time.sleep(0.2)
        yield url, lambda: cpu_seconds(process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--long", type=int, default=8)
    parser.add_argument("--short", type=int, default=4)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sides = {"here": None, **({"against": asked.against} if asked.against else {})}
    told: dict[str, Any] = {"model": asked.model, **{name: [] for name in sides}}
    for number in range(asked.rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            told[name].append(measured(asked, sides[name]))
            say(f"{name}: {told[name][-1]}")
    keep(told, asked.json)


def cpu_seconds(process: int) -> float:
    """Return the seconds that a process has computed: what others do on this machine is no part of them."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def measured(asked: argparse.Namespace, source: Path | None) -> dict[str, Any]:
    """Measure a server."""
    with served(asked.model, source) as (url, cpu):
        body = {"prompt": "Ben", "max_tokens": 4}  # loads the model
        requests.post(f"{url}/v1/completions", json=body, timeout=300).raise_for_status()
        told = {"alone": load(url, 1, min(asked.seconds, 15))}
        before = cpu()
        told["together"] = load(url, asked.clients, asked.seconds)
        told["together"]["cpu_seconds_a_reply"] = round(
            (cpu() - before) / told["together"]["status"]["200"], 4
        )
        return told | {"mixed": mixed(url, asked.long, asked.short, asked.seconds)}


if __name__ == "__main__":
    main()
