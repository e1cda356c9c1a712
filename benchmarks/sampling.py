"""Sampling speed: the torch engine against `transformers.generate`, side by side in one run.

    python benchmarks/sampling.py                    # tiny and 25m, on the CPU
    python benchmarks/sampling.py --workload qwen-0.5b --device cuda --dtype bfloat16
    python benchmarks/sampling.py --quick            # a minute, to see that it works
    python benchmarks/sampling.py --vllm-python /opt/vllm/bin/python     # and against vLLM, offline

The workload is that of LMSI: prompts that share a few-shot prefix of some 300 tokens, several
draws each. Theirs is what a careful user of `generate` writes: prompts sorted by length, padded
on the left, `num_return_sequences`, cache on; with and without the prefix read once beforehand and
handed over as cache; at several batch sizes. The fastest of all these is what we measure against.
vLLM, where it is at hand, runs offline, without a server, at three numbers of rows at once. All
sides go from text to text. Repetitions alternate, and the last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.seeds import rng
from selfimprove.types import Prompt

_GREEDY_PROMPTS = 8
_TRIAL_PROMPTS = 4
# On a CPU vLLM leaves a core idle unless told otherwise.
_VLLM_SETTINGS = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "4",
                  "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}  # fmt: skip
_VLLM_SIDE = Path(__file__).parent / "offline_vllm.py"


@dataclass(frozen=True)
class Size:
    """How much is drawn."""

    prompts: int
    draws: int
    max_tokens: int


_SIZES = {
    "tiny": Size(prompts=96, draws=16, max_tokens=40),
    "25m": Size(prompts=32, draws=16, max_tokens=32),
    "qwen-0.5b": Size(prompts=256, draws=16, max_tokens=64),
}
_QUICK = Size(prompts=6, draws=4, max_tokens=8)


@dataclass(frozen=True)
class Baseline:
    """One way to call `generate`."""

    prefix_cache: bool
    """The shared prefix is read once and given as `past_key_values`."""
    batch: int
    """Prompts in one call."""


@dataclass(frozen=True)
class Speed:
    """One timed run."""

    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens sampled in a second."""
        return self.tokens / self.seconds


# Models and prompts.


def _random_model(folder: Path, config: Any) -> None:  # noqa: ANN401
    """Save a model of random weights, with one word a token and no end of sequence.

    So both sides sample exactly `max_tokens` for every draw.
    """
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    raw = Tokenizer(WordLevel({f"w{i}": i for i in range(config.vocab_size)}, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(folder)


def _random_config(name: str) -> LlamaConfig | Qwen2Config:
    common: dict[str, Any] = {
        "bos_token_id": None,
        "eos_token_id": None,
        "max_position_embeddings": 2048,
    }
    if name == "qwen-0.5b":
        return Qwen2Config(
            vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
            num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True, **common,
        )  # fmt: skip
    hidden, layers, heads, inner, words = {
        "tiny": (128, 4, 4, 344, 1024),
        "25m": (384, 8, 6, 1280, 8192),
    }[name]
    return LlamaConfig(
        vocab_size=words, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, initializer_range=0.1, **common,
    )  # fmt: skip


def _word_prompts(words: int, count: int) -> list[str]:
    """300 shared words, then 20 to 40 of each prompt's own."""
    stream = rng(0, "benchmark", "prompts")
    text: Callable[[int], str] = lambda n: " ".join(f"w{stream.randrange(words)}" for _ in range(n))  # noqa: E731
    prefix = text(300)
    return [f"{prefix} {text(stream.randint(20, 40))}" for _ in range(count)]


def _tiny_prompts(tokenizer: Any, count: int) -> list[str]:  # noqa: ANN401
    """Word problems behind worked ones, as many as fill about 300 tokens."""
    stream = rng(0, "benchmark", "tiny")
    names, things = ("Tom", "Anna", "Ben", "Mia"), ("apples", "books", "coins", "pens")

    def question() -> str:
        a, b = stream.randint(2, 9), stream.randint(2, 9)
        name = stream.choice(names)
        return f"Q: {name} has {a} {stream.choice(things)} and gets {b} more. How many in all?\nA:"

    shots: list[str] = []
    while len(tokenizer("".join(shots))["input_ids"]) < 300:
        shots.append(question() + " So we add the two. The answer is 9.\n\n")
    return [f"{''.join(shots)}{question()}" for _ in range(count)]


# Theirs.


class Theirs:
    """`transformers.generate`, as a careful user calls it."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.to(device).eval()

    def sample(self, texts: Sequence[str], way: Baseline, size: Size) -> Speed:
        """Time `size.draws` samples of every text."""
        start, tokens = time.perf_counter(), 0
        ids = sorted((self.tokenizer(t)["input_ids"] for t in texts), key=len)
        prefix = _common_prefix(ids) if way.prefix_cache else []
        with torch.inference_mode():
            cache = (
                self.model(torch.tensor([prefix], device=self.model.device)).past_key_values
                if prefix
                else None
            )
            for begin in range(0, len(ids), way.batch):
                rows = ids[begin : begin + way.batch]
                tokens += self._batch(rows, prefix, cache, size)
        return Speed(tokens, time.perf_counter() - start)

    def _batch(self, rows: list[list[int]], prefix: list[int], cache: Any, size: Size) -> int:  # noqa: ANN401
        longest = max(map(len, rows))
        pad = [longest - len(row) for row in rows]
        # Padding stands before a row, or, where the prefix comes from a cache, behind the prefix.
        cut = len(prefix)
        ids = [[*r[:cut], *[0] * p, *r[cut:]] for r, p in zip(rows, pad, strict=True)]
        mask = [[1] * cut + [0] * p + [1] * (len(r) - cut) for r, p in zip(rows, pad, strict=True)]
        given = {}
        if cache is not None:
            layers = [(layer.keys, layer.values) for layer in cache.layers]
            own = DynamicCache(layers)
            own.batch_repeat_interleave(len(rows) * size.draws)
            given["past_key_values"] = own
        out = self.model.generate(
            torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(mask, device=self.model.device),
            do_sample=True,
            temperature=0.8,
            top_k=0,
            top_p=1.0,
            num_return_sequences=size.draws,
            max_new_tokens=size.max_tokens,
            pad_token_id=0,
            **given,
        )
        new = out[:, longest:].tolist()
        self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return sum(self._length(row) for row in new)

    def _length(self, row: list[int]) -> int:
        """Tokens sampled: up to the first end of sequence, that one included."""
        ends = self.model.generation_config.eos_token_id
        stops = {ends} if isinstance(ends, int) else set(ends or ())
        return next((i + 1 for i, token in enumerate(row) if token in stops), len(row))

    def greedy(self, text: str, max_tokens: int) -> str:
        """The text of one greedy run, alone in its batch."""
        ids = self.tokenizer(text, return_tensors="pt").input_ids.to(self.model.device)
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                pad_token_id=0,
            )
        return str(self.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def _common_prefix(ids: Sequence[list[int]]) -> list[int]:
    low, high = min(ids), max(ids)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return list(low[: min(same, min(map(len, ids)) - 1)])


def _best_way(theirs: Theirs, texts: Sequence[str], size: Size) -> tuple[Baseline, dict[str, int]]:
    """Try the ways to call `generate`, larger batches while they are faster; return the best."""
    tried: dict[Baseline, float] = {}
    for prefix_cache in (False, True):
        for batch in _batches(len(texts)):
            way = Baseline(prefix_cache, batch)
            tried[way] = theirs.sample(texts[: max(batch, _TRIAL_PROMPTS)], way, size).tokens_per_s
            _say(f"  generate, {_name(way)}: {tried[way]:,.0f} tokens/s")
            smaller = [s for w, s in tried.items() if w.prefix_cache == prefix_cache]
            if len(smaller) > 1 and smaller[-1] < 0.9 * max(smaller):
                break
    return max(tried, key=lambda way: tried[way]), {_name(w): round(s) for w, s in tried.items()}


def _batches(most: int) -> Iterator[int]:
    batch = 1
    while batch <= most:
        yield batch
        batch *= 2


def _name(way: Baseline) -> str:
    return f"{way.batch} prompts a call{', prefix cached' if way.prefix_cache else ''}"


# Ours, and the comparison.


def _ours(engine: Engine, texts: Sequence[str], size: Size) -> Speed:
    prompts = [Prompt(str(i), text) for i, text in enumerate(texts)]
    sampling = SamplingConfig(n=size.draws, temperature=0.8, max_tokens=size.max_tokens)
    start = time.perf_counter()
    tokens = sum(draw.new_tokens for draw in engine.draw(prompts, sampling, seed=0))
    return Speed(tokens, time.perf_counter() - start)


def _vllm(
    folder: Path, texts: Sequence[str], size: Size, options: argparse.Namespace
) -> list[Speed]:
    """Time vLLM on the same prompts, by its own Python; with several numbers of rows at once, the best."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompts = tokenizer(list(texts))["input_ids"]
    length = max(map(len, prompts)) + size.max_tokens + 1
    best: list[Speed] = []
    for rows in (64, 256, 1024):
        job = {"model": str(folder), "dtype": options.dtype, "prompts": prompts,
               "max_model_len": length, "rows": rows, "draws": size.draws,
               "max_tokens": size.max_tokens,
               "repetitions": 1 if options.quick else options.repetitions}  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            asked, told = Path(scratch) / "job.json", Path(scratch) / "runs.json"
            asked.write_text(json.dumps(job), encoding="utf-8")
            words = [options.vllm_python, str(_VLLM_SIDE), str(asked), str(told)]
            environment = {**_VLLM_SETTINGS, **os.environ}
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, env=environment
            )
            if not told.exists():
                raise SystemExit(f"vLLM failed:\n{done.stderr[-2000:]}")
            runs = [Speed(**run) for run in json.loads(told.read_text(encoding="utf-8"))]
        _say(f"  vLLM, {rows} rows at once: {median(r.tokens_per_s for r in runs):,.0f} tokens/s")
        best = max(best, runs, key=lambda found: median([r.tokens_per_s for r in found] or [0.0]))
    return best


def _equal_greedy(folder: Path, device: str, texts: Sequence[str], max_tokens: int) -> str:
    """Return how many greedy texts are those of `generate`, in float32; all must be."""
    engine = open_engine(folder, EngineConfig(device=device, dtype="float32"))
    reference = Theirs(folder, device, "float32")
    texts = texts[:_GREEDY_PROMPTS]
    prompts = [Prompt(str(i), text) for i, text in enumerate(texts)]
    sampling = SamplingConfig(temperature=0, max_tokens=max_tokens)
    got = {d.key: d.text for d in engine.draw(prompts, sampling, seed=0)}
    same = sum(got[p.key] == reference.greedy(str(p.content), max_tokens) for p in prompts)
    if same < len(prompts):
        raise SystemExit(f"greedy texts differ: only {same} of {len(prompts)} are equal")
    return f"{same}/{len(prompts)}"


def _compare(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    size = _size(name, options)
    theirs = Theirs(folder, options.device, options.dtype)
    shipped = bool(theirs.tokenizer.eos_token)
    make = _tiny_prompts if shipped else lambda t, count: _word_prompts(len(t), count)
    texts = make(theirs.tokenizer, size.prompts)
    engine = open_engine(folder, EngineConfig(device=options.device, dtype=options.dtype))
    equal = _equal_greedy(folder, options.device, texts, size.max_tokens)
    way, tried = _best_way(theirs, texts, size)
    _ours(engine, texts[:2], size)
    runs: dict[str, list[Speed]] = {"ours": [], "theirs": []}
    for _ in range(1 if options.quick else options.repetitions):
        runs["theirs"].append(theirs.sample(texts, way, size))
        runs["ours"].append(_ours(engine, texts, size))
    if options.vllm_python:
        runs["vllm"] = _vllm(folder, texts, size, options)
    speed = {side: median(run.tokens_per_s for run in done) for side, done in runs.items()}
    plain = [tokens_per_s for way, tokens_per_s in tried.items() if "cached" not in way]
    return {
        "workload": name,
        "model": "shipped" if shipped else "random weights",
        "parameters": sum(p.numel() for p in theirs.model.parameters()),
        "prefix_tokens": len(_common_prefix([theirs.tokenizer(t)["input_ids"] for t in texts])),
        **asdict(size),
        "ratio": round(speed["ours"] / speed["theirs"], 2),
        "ratio_to_generate_without_prefix_cache": round(speed["ours"] / max(plain), 2),
        "ratio_to_vllm": round(speed["ours"] / speed["vllm"], 2) if "vllm" in speed else None,
        "ours_tokens_per_s": round(speed["ours"]),
        "theirs_tokens_per_s": round(speed["theirs"]),
        "vllm_tokens_per_s": round(speed["vllm"]) if "vllm" in speed else None,
        "theirs_called_with": _name(way),
        "theirs_tried": tried,
        "greedy_equal": equal,
        "runs": {side: [asdict(run) for run in done] for side, done in runs.items()},
    }


def _size(name: str, options: argparse.Namespace) -> Size:
    usual = _QUICK if options.quick else _SIZES[name]
    return Size(
        options.prompts or usual.prompts,
        options.draws or usual.draws,
        options.max_tokens or usual.max_tokens,
    )


def _folder(name: str, scratch: Path) -> Path:
    """Return the shipped tiny model, or a new one of random weights."""
    if name == "tiny":
        try:
            from selfimprove.tiny.shipped import folder
        except ImportError:
            _say("no shipped tiny model here: random weights in its place")
        else:
            return Path(folder("tiny"))
    made = scratch / name
    _random_model(made, _random_config(name))
    return made


def _table(results: Sequence[dict[str, Any]]) -> str:
    columns = ("workload", "ours_tokens_per_s", "theirs_tokens_per_s", "ratio", "greedy_equal")
    rows = [columns, *([str(r[c]) for c in columns] for r in results)]
    return "\n".join("  ".join(cell.rjust(19) for cell in row) for row in rows)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure the chosen workloads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(_SIZES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=3)
    for number in ("--prompts", "--draws", "--max-tokens"):
        parser.add_argument(number, type=int, help="instead of the workload's own")
    parser.add_argument("--vllm-python", help="the Python of an environment that has vLLM")
    parser.add_argument("--quick", action="store_true", help="a few prompts, once")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.workload or ["tiny", "25m"]:
            _say(name)
            results.append(_compare(name, _folder(name, Path(scratch)), options))
    _say(_table(results))
    machine = {"machine": platform.processor() or platform.machine(), "threads": options.threads}
    versions = {"torch": torch.__version__, "device": options.device, "dtype": options.dtype}
    worst = min(r["ratio"] for r in results)
    _say(json.dumps({"ratio": worst, **machine, **versions, "workloads": results}))


if __name__ == "__main__":
    main()
