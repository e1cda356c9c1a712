"""The command `demo`: the shipped model improves itself by all three methods, in some minutes, and a page tells."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TextIO, final

import typer

__all__ = ["demo"]

_TAIL: Final = 20  # lines of a log that are shown when its run fails

_SELF_REWARDING: Final = ("self-rewarding-tiny", "controls=[random_judge]")
_PIT: Final = (
    "pit-tiny",
    "ablations=[]",
    "baselines.self_refine=null",
    "evaluation.temperatures=[]",
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the page.")] = Path("runs/demo"),
) -> None:
    """Let the shipped model improve itself by all three methods (7 minutes on 2 cores), and write one page."""
    from selfimprove.files import make_folder

    make_folder(out)
    runs = _Runs(out)
    print(
        f"two runs at a time; beside those shown here: {out / 'pit.log'}, {out / 'control.log'}",
        flush=True,
    )
    # A second thread helps so small a model little. LMSI's page is there first.
    beside = ThreadPoolExecutor(1)
    try:
        pit = beside.submit(runs.quietly, "pit", *_PIT)
        runs.shown("lmsi", "lmsi-tiny", "controls=[]")
        runs.report("lmsi")
        control = beside.submit(
            runs.quietly, "lmsi", "lmsi-tiny", "controls=[unfiltered]", log="control"
        )
        runs.shown("self-rewarding", *_SELF_REWARDING)
        pit.result()
        control.result()
    finally:
        beside.shutdown(cancel_futures=True)  # after an error nothing new is begun
    page = out / "report.html"
    runs.report("lmsi", "self-rewarding", "pit", to=page)
    print(f"open {page} in a browser; then: selfimprove improve {out / 'pit'}")


@final
@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of recipes in processes of their own, each of one thread."""

    folder: Path

    def shown(self, name: str, *recipe: str) -> None:
        """Run a recipe, with its bars."""
        _checked("run", *recipe, "--out", str(self.folder / name))

    def quietly(self, name: str, *recipe: str, log: str = "") -> None:
        """Run a recipe whose words go into a file; of one that fails the end is shown."""
        file = self.folder / f"{log or name}.log"
        with file.open("w", encoding="utf-8") as words:
            failed = _called("run", *recipe, "--out", str(self.folder / name), to=words)
        if failed:
            print(
                "\n".join(file.read_text(encoding="utf-8").splitlines()[-_TAIL:]), file=sys.stderr
            )
            raise typer.Exit(1)

    def report(self, *names: str, to: Path | None = None) -> None:
        """Write the page of some runs."""
        folders = [str(self.folder / name) for name in names]
        _checked("report", *folders, *(["--out", str(to)] if to else []))


def _checked(*words: str) -> None:
    if _called(*words):
        raise typer.Exit(1)


def _called(*words: str, to: TextIO | None = None) -> int:
    """Call the command line; return its exit status."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    errors = None if to is None else subprocess.STDOUT
    words = (sys.executable, "-m", "selfimprove", *words)
    return subprocess.run(words, env=alone, stdout=to, stderr=errors, check=False).returncode
