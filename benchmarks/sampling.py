"""Sampling speed: the torch engine against `transformers.generate`, side by side in one run.

    python benchmarks/sampling.py                    # tiny and 25m, on the CPU
    python benchmarks/sampling.py --workload qwen-0.5b --device cuda --dtype bfloat16
    python benchmarks/sampling.py --workload smollm2-135m --dtype bfloat16 --repetitions 1 \\
        --vllm-python .bench/vllm/bin/python --llama-cpp-python .bench/llama-cpp/bin/python \\
        --gguf .bench/smollm2-135m.gguf          # after `make bench-envs`
    python benchmarks/sampling.py --quick            # a minute, to see that it works

The workload is that of LMSI: prompts that share a few-shot prefix of some 300 tokens, several draws
each. `smollm2-135m` is a real pretrained model (`selfimprove models get smollm2-135m`, or --model
FOLDER_OR_NAME), its end tokens taken away so that every side samples as many tokens: 16 prompts of
some 470 tokens, 395 of them shared, 16 draws of 64.

Theirs is what a careful user of `generate` writes: prompts sorted by length, padded on the left,
`num_return_sequences`, cache on; with and without the prefix read once beforehand and handed over as
cache; at several batch sizes. The fastest of all these is what we measure against. vLLM and llama.cpp,
each by the Python of an environment of its own, run offline, without a server, at
several numbers of rows at once; llama.cpp reads a GGUF file, whose weights it keeps packed. All sides
go from text to text (vLLM and llama.cpp from tokens), models loaded before. Beside them stands what a plain
matrix product in that precision allows at most, measured before and after. Repetitions alternate,
every figure is printed as it comes, and the last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from generate_side import Baseline, Generate, Speed, best_way, common_prefix
from matrix_limit import tokens_per_s as limit
from other_engines import Job, llama_cpp_runs, vllm_runs
from sampling_workloads import QUICK, WORKLOADS, Size

from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.types import Prompt

__all__ = ["equal_greedy", "ours"]


def ours(engine: Engine, texts: Sequence[str], size: Size) -> Speed:
    """Time `size.draws` samples of every text."""
    prompts = [Prompt(str(i), text) for i, text in enumerate(texts)]
    sampling = SamplingConfig(n=size.draws, temperature=0.8, max_tokens=size.max_tokens)
    start = time.perf_counter()
    tokens = sum(draw.new_tokens for draw in engine.draw(prompts, sampling, seed=0))
    return Speed(tokens, time.perf_counter() - start)


def equal_greedy(folder: Path, device: str, texts: Sequence[str], max_tokens: int) -> int:
    """Return how many greedy texts are those of `generate`, in float32."""
    engine = open_engine(folder, EngineConfig(device=device, dtype="float32"))
    reference = Generate(folder, device, "float32")
    prompts = [Prompt(str(i), text) for i, text in enumerate(texts)]
    sampling = SamplingConfig(temperature=0, max_tokens=max_tokens)
    got = {d.key: d.text for d in engine.draw(prompts, sampling, seed=0)}
    engine.close()
    same = sum(got[p.key] == reference.greedy(str(p.content), max_tokens) for p in prompts)
    say(f"  greedy texts, ours and those of generate: {same} of {len(prompts)} are equal")
    return same


def _all_greedy(folder: Path, device: str, texts: Sequence[str], max_tokens: int) -> str:
    """Refuse greedy texts that are not those of `generate`."""
    same = equal_greedy(folder, device, texts, max_tokens)
    if same < len(texts):
        raise SystemExit(f"greedy texts differ: only {same} of {len(texts)} are equal")
    return f"{same}/{len(texts)}"


def _compare(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    size, workload, dtype = _size(name, options), WORKLOADS[name], getattr(torch, options.dtype)
    theirs = Generate(folder, options.device, options.dtype)
    parameters = sum(p.numel() for p in theirs.model.parameters())
    texts = workload.prompts(theirs.tokenizer, size.prompts)
    on_cpu = options.device == "cpu"
    limits = [limit(parameters, dtype)] if on_cpu else []
    equal = _all_greedy(folder, options.device, texts[: workload.greedy_prompts], size.max_tokens)
    engine = open_engine(folder, EngineConfig(device=options.device, dtype=options.dtype))
    ours(engine, texts[:2], size)
    tried = best_way(theirs, texts, size, workload)
    best = max(tried, key=lambda way: tried[way].tokens_per_s)
    runs: dict[str, list[Speed]] = {"ours": [], "theirs": []}
    for _ in range(options.repetitions):
        runs["ours"].append(ours(engine, texts, size))
        say(f"  ours: {runs['ours'][-1].tokens_per_s:,.0f} tokens/s")
        # What one repetition would measure, the trial did.
        once = options.repetitions == 1
        runs["theirs"].append(tried[best] if once else theirs.sample(texts, best, size))
        say(f"  generate: {runs['theirs'][-1].tokens_per_s:,.0f} tokens/s")
    others, notes = _others(workload.vllm_rows, Job(
        folder, texts, size, options.dtype, options.threads, options.repetitions), options)  # fmt: skip
    limits += [limit(parameters, dtype)] if on_cpu else []
    prompt_ids = [theirs.tokenizer(t)["input_ids"] for t in texts]
    return {
        "workload": name,
        "model": options.model or name,
        "parameters": parameters,
        "prompt_tokens": round(median(map(len, prompt_ids))),
        "prefix_tokens": len(common_prefix(prompt_ids)),
        **asdict(size),
        **_ratios({**runs, **others}, tried, limits),
        "greedy_equal": equal,
        **notes,
        "runs": {side: [asdict(run) for run in done] for side, done in {**runs, **others}.items()},
    }


def _others(
    vllm_rows: Sequence[int], job: Job, options: argparse.Namespace
) -> tuple[dict[str, list[Speed]], dict[str, Any]]:
    """Return the runs of the engines that were named, and what is to be said of them."""
    runs: dict[str, list[Speed]] = {}
    notes: dict[str, Any] = {}
    if options.vllm_python:
        runs["vllm"] = vllm_runs(options.vllm_python, job, vllm_rows)
    if options.llama_cpp_python:
        runs["llama_cpp"], notes["llama_cpp"] = llama_cpp_runs(
            options.llama_cpp_python, job, options.gguf
        )
        speed = median(run.tokens_per_s for run in runs["llama_cpp"])
        say(f"  llama.cpp, {notes['llama_cpp']['way']}: {speed:,.0f} tokens/s")
    return runs, notes


def _ratios(
    runs: dict[str, list[Speed]], tried: dict[Baseline, Speed], limits: Sequence[float]
) -> dict[str, Any]:
    speed = {side: median(run.tokens_per_s for run in done) for side, done in runs.items()}
    rates = {way: run.tokens_per_s for way, run in tried.items()}
    plain = max(rate for way, rate in rates.items() if not way.prefix_cache)
    told: dict[str, Any] = {
        "ratio": round(speed["ours"] / speed["theirs"], 2),
        "ratio_to_generate_without_prefix_cache": round(speed["ours"] / plain, 2),
        **{f"ratio_to_{side}": round(speed["ours"] / speed[side], 2)
           for side in ("vllm", "llama_cpp") if side in speed},
        **{f"{side}_tokens_per_s": round(value) for side, value in speed.items()},
        "theirs_called_with": str(max(rates, key=rates.__getitem__)),
        "theirs_tried": {str(way): round(rate) for way, rate in rates.items()},
    }  # fmt: skip
    if limits:
        told |= {
            "limit_tokens_per_s": [round(value) for value in limits],
            "share_of_limit": round(speed["ours"] / median(limits), 3),
        }
        say(f"  limit by a plain matrix product: {median(limits):,.0f} tokens/s, "
            f"of which ours is {told['share_of_limit']:.0%}")  # fmt: skip
    return told


def _size(name: str, options: argparse.Namespace) -> Size:
    usual = QUICK if options.quick else WORKLOADS[name].size
    return Size(
        options.prompts or usual.prompts,
        options.draws or usual.draws,
        options.max_tokens or usual.max_tokens,
    )


def _table(results: Sequence[dict[str, Any]]) -> str:
    columns = ("workload", "ours_tokens_per_s", "theirs_tokens_per_s", "ratio", "greedy_equal")
    rows = [columns, *([str(r[c]) for c in columns] for r in results)]
    return "\n".join("  ".join(cell.rjust(19) for cell in row) for row in rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--model", default="", help="a name or folder [the workload's own model]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=3)
    for number in ("--prompts", "--draws", "--max-tokens"):
        parser.add_argument(number, type=int, help="instead of the workload's own")
    parser.add_argument("--vllm-python", help="the Python of an environment that has vLLM")
    parser.add_argument("--llama-cpp-python", help="that of one that has llama-cpp-python")
    parser.add_argument("--gguf", type=Path, help="the same model for llama.cpp")
    parser.add_argument("--quick", action="store_true", help="a few prompts, once")
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")
    options = parser.parse_args()
    if options.llama_cpp_python and not options.gguf:
        parser.error("--llama-cpp-python needs --gguf FILE: the model that llama.cpp reads")
    options.repetitions = 1 if options.quick else options.repetitions
    return options


def main() -> None:
    """Measure the chosen workloads."""
    options = _options()
    torch.set_num_threads(options.threads)
    results = []
    for name in options.workload or ["tiny", "25m"]:
        say(name)
        # Always at the same place: vLLM compiles a model anew, for minutes, where its folder is another.
        scratch = Path(tempfile.gettempdir()) / "selfimprove-benchmarks" / name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        folder = WORKLOADS[name].model(scratch, options.model)
        results.append(_compare(name, folder, options))
    say(_table(results))
    keep({
        "ratio": min(r["ratio"] for r in results), "threads": options.threads,
        "device": options.device, "dtype": options.dtype, "workloads": results,
    }, options.json)  # fmt: skip


if __name__ == "__main__":
    main()
