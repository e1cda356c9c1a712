"""Kill a run with -9 at random moments, resume it, and compare it with an uninterrupted one.

    python tests/smoke/killing.py --kills 10 [RECIPE] [key=value …]

Rows must be byte for byte the same, weights have the same digest, and the summary be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from selfimprove.seeds import rng

_SMALL = Path(__file__).parent / "small.yaml"


def command(recipe: Path, out: Path, overrides: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "selfimprove", "run", str(recipe), *overrides, "--out", str(out)]


def run_whole(recipe: Path, out: Path, overrides: Sequence[str]) -> float:
    """Run without interruption and return the seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        command(recipe, out, overrides), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the run failed:\n{done.stderr}")
    return time.monotonic() - started


def run_killed(recipe: Path, out: Path, overrides: Sequence[str], moments: Sequence[float]) -> int:
    """Start the run again and again, kill it after each of `moments` seconds, then let it end.

    Returns how many of the kills hit a living run.
    """
    hits = 0
    for moment in moments:
        with subprocess.Popen(
            command(recipe, out, overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                hits += 1
    run_whole(recipe, out, overrides)
    return hits


def contents(root: Path) -> dict[str, object]:
    """Return everything of a run that must not depend on how often it was interrupted."""
    rows = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.parquet")}
    digests = {p.parent.name: json.loads(p.read_text())["digest"] for p in root.glob("*/done.json")}
    texts = {n: (root / n).read_text() for n in ("summary.json", "lineage.json", "recipe.json")}
    return {**rows, **{f"digest of {k}": v for k, v in digests.items()}, **texts}


def differences(one: Path, other: Path) -> list[str]:
    """Name everything in which two runs differ."""
    a, b = contents(one), contents(other)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def main() -> None:
    """Compare, print what was done, and exit with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", type=Path, default=_SMALL)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-processes", default="1", help="that train")
    given = parser.parse_args()
    words = [*given.overrides, "--num-processes", given.num_processes]
    draw = rng(given.seed, "moments of the kills")
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        seconds = run_whole(given.recipe, whole, words)
        # Short enough that the kills come before the end, long enough to get on between them.
        longest = max(6.0, 1.6 * seconds / given.kills)
        moments = [draw.uniform(1.0, longest) for _ in range(given.kills)]
        hits = run_killed(given.recipe, killed, words, moments)
        found = differences(whole, killed)
        count = len(contents(whole))
    print(f"uninterrupted {seconds:.1f} s; {hits} of {given.kills} kills hit a living run")
    print(f"{count} files and digests compared, {len(found)} differ: {found}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
