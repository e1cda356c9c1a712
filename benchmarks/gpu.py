"""All that a GPU is to do well, in one call of some minutes: sampling, recipes, training, and a profile.

    benchmarks/gpu.sh [--quick] [--json FILE]            # on the GPU: takes in what was carried, calls this
    python benchmarks/gpu.py --device cpu --tiny         # every line of it, on tiny random models

Measured are sampling (bare, with `generate` and, where it is installed, vLLM beside; and in the shards of a
recipe), SFT, DPO, both reward models and policy gradient (TRL's SFT beside), memory, and where the time goes.
`README.md` beside this tells what each part is and how the files travel. Shares are of limits measured first: a
product of square bf16 matrices, and a copy. Operations are counted from the model's config alone: two a weight
and token (the output layer for every token, embeddings for none), four a layer, head, width and token attended;
a backward pass is two forward ones; every row as if it was read alone, without padding.

Every figure is printed as it comes, and the file of --json is written anew after every part. A part that fails
or takes too long is noted with the reason; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_parts import PARTS, Part, Setting
from gpu_summary import share_of_limits, summary, tables
from gpu_worker import Worker
from machine import keep, say

_MINUTES, _QUICK_MINUTES = 8.0, 3.0
_LEAST_S = 5.0  # with less left nothing is begun
# Of the process in which the parts run: no network, no bars, no advice.
_SETTINGS = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false",
             "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
             "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}  # fmt: skip


def main() -> None:
    """Measure all parts, or those that were named."""
    options = _options()
    os.environ.update(_SETTINGS)
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="gpu-benchmark-"))
    worker = Worker(setting := _setting(options, scratch))
    results: dict[str, dict[str, Any]] = {}
    try:
        for part in _chosen(setting, options.only):
            say(part.name)
            left = began + 60 * options.minutes - time.monotonic()
            results[part.name] = _told(worker, part, setting, left, results)
            _keep_so_far(results, options.json)
    finally:
        worker.end()
        shutil.rmtree(scratch, ignore_errors=True)
    for line in tables(results):
        say(line)
    failed = [name for name, told in results.items() if "failed" in told]
    say(f"failed: {', '.join(failed) or 'nothing'}")
    keep({
        "benchmark": "gpu", "device": options.device, "tiny": options.tiny, "quick": options.quick,
        "seconds": round(time.monotonic() - began, 1), "failed": failed,
        "compared": summary(results), "parts": results,
    }, options.json)  # fmt: skip
    sys.exit(1 if failed else 0)


def _told(
    worker: Worker, part: Part, setting: Setting, left: float, results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what a part found, with its shares of the limits."""
    seconds = min(part.quick_seconds if setting.quick else part.seconds, left)
    if setting.tiny:
        seconds = left
    if seconds < _LEAST_S:
        told: dict[str, Any] = {"failed": "no time was left"}
    else:
        told = worker.run(part, seconds)
    told |= share_of_limits(told, results.get("limits", {}))
    if "failed" in told:
        say(f"  FAILED: {told['failed']}\n{told.get('where', '')}")
    elif "share_of_peak" in told:
        say(f"  {told['tflops']:,.1f} TFLOP/s, {told['share_of_peak']:.2%} of the peak")
    return told


def _keep_so_far(results: dict[str, dict[str, Any]], out: Path | None) -> None:
    """A machine that is taken away leaves what was measured until then."""
    if out is not None:
        told = {"benchmark": "gpu", "unfinished": True, "parts": results}
        out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _chosen(setting: Setting, only: Sequence[str]) -> list[Part]:
    """Return the parts that can run; those named by a piece of their names, with what they stand on."""
    able = [p for p in PARTS if (p.quick_seconds or not setting.quick)
            and (setting.vllm_python or not p.needs_vllm)]  # fmt: skip
    named = [p for p in able if not only or any(word in p.name for word in only)]
    models = {p.model for p in named}
    stood_on = [p for p in able if p.name == "limits" or p.name.removeprefix("model-") in models]
    return [p for p in able if p in named or p in stood_on]


def _setting(options: argparse.Namespace, scratch: Path) -> Setting:
    files = sorted(options.files.iterdir()) if options.files else []
    found = {end: next((f for f in files if f.suffix == end), None) for end in (".gguf", ".jsonl")}
    return Setting(options.device, options.tiny, options.quick, scratch, found[".gguf"],
                   found[".jsonl"], options.vllm_python)  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny random models, a little of all")
    parser.add_argument("--quick", action="store_true", help="the most telling parts, in 3 minutes")
    parser.add_argument("--minutes", type=float, help="at most so many [8, of --quick 3]")
    parser.add_argument("--only", nargs="+", default=[], help="parts whose names hold one of these")
    parser.add_argument("--files", type=Path,
                        help="a folder with the model (.gguf) and GSM8K's train.jsonl, if they are there")  # fmt: skip
    parser.add_argument("--vllm-python", default=sys.executable if find_spec("vllm") else None,
                        help="the Python of an environment that has vLLM")  # fmt: skip
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")
    options = parser.parse_args()
    options.minutes = options.minutes or (_QUICK_MINUTES if options.quick else _MINUTES)
    return options


if __name__ == "__main__":
    main()
