"""Judging speed: responses judged in a second, against the same judging by `transformers.generate`.

    python benchmarks/judge.py                          # tiny and additive-1m, on the CPU
    python benchmarks/judge.py --workload additive-14m  # some minutes
    python benchmarks/judge.py --quick                  # a minute, to see that it works

Four responses to each prompt are judged, three votes each (temperature 0.7, top-p 0.9), by the tiny
world's review prompt and by the additive one. Theirs is what a careful user of `generate` writes:
the same judge prompts, sorted by length, padded on the left, `num_return_sequences=3`, cache on;
at several batch sizes, with and without the rubric that all prompts begin with read once beforehand
and handed over as cache. The ratio is to the fastest of all these; that to the fastest without the
handed-over cache stands beside it. Both sides go from responses to scores, models loaded before.
Repetitions alternate, and the last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, LlamaConfig

from selfimprove.judges.judge import judge
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.judges.score_text import Scored, read_score
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng
from selfimprove.tiny.corpus import QUALITY, drafted
from selfimprove.tiny.instructions import instructions, respond
from selfimprove.tiny.shipped import folder as shipped
from selfimprove.types import ModelRef, Response

_CANDIDATES = 4
_GREEDY = 8
_TRIAL = 16


@dataclass(frozen=True)
class Workload:
    """What is judged, by whom."""

    prompt: str
    """The judge prompt."""
    hidden: int | None
    """Width of a model of random weights; None: the shipped tiny model."""
    layers: int
    responses: int
    drafts: int
    """A response is so many drafts of the tiny world, one after the other."""
    max_tokens: int


_WORKLOADS = {
    "tiny": Workload("tiny", None, 0, responses=384, drafts=1, max_tokens=64),
    "additive-1m": Workload("additive", 128, 4, responses=96, drafts=3, max_tokens=64),
    "additive-14m": Workload("additive", 384, 8, responses=16, drafts=3, max_tokens=64),
}

_USUAL = ("tiny", "additive-1m")


@dataclass(frozen=True)
class Way:
    """One way to call `generate`."""

    prefix_cache: bool
    batch: int
    """Responses in one call."""

    def __str__(self) -> str:
        return f"{self.batch} responses a call{', rubric cached' if self.prefix_cache else ''}"


@dataclass(frozen=True)
class Speed:
    """One timed run."""

    responses: int
    scored: int
    """Verdicts with a score."""
    seconds: float

    @property
    def responses_per_s(self) -> float:
        """Responses judged in a second, all votes of each."""
        return self.responses / self.seconds


def _responses(work: Workload) -> list[Response]:
    """Return candidates of every quality, four to a prompt, the same ones every time."""
    stream = rng(0, "benchmark", "judge")
    found = []
    for number, asked in enumerate(instructions("dev", work.responses // _CANDIDATES)):
        for index in range(_CANDIDATES):
            drafts = (
                respond(asked, drafted(stream.uniform(*QUALITY), stream), stream)
                for _ in range(work.drafts)
            )
            found.append(Response(f"p{number}", asked.text, index, " ".join(drafts), "stop", 1))
    return found


def _model(work: Workload, scratch: Path) -> Path:
    """Return the shipped model, or one of random weights that never ends a text by itself."""
    if work.hidden is None:
        return shipped("tiny")
    tokenizer = AutoTokenizer.from_pretrained(shipped("tiny"))
    tokenizer.model_max_length = 4096
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=work.hidden, num_hidden_layers=work.layers,
        intermediate_size=work.hidden * 8 // 3, num_attention_heads=work.hidden // 32,
        max_position_embeddings=4096, initializer_range=0.1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    made = scratch / f"{work.hidden}-{work.layers}"
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(made)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(made)
    return made


class Theirs:
    """`transformers.generate`, as a careful user calls it."""

    def __init__(self, folder: Path, work: Workload, config: JudgeConfig) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval()
        self.work, self.config = work, config
        self.wording = judge_prompt(work.prompt)

    def judge(self, responses: Sequence[Response], way: Way) -> Speed:
        """Time the judging of every response."""
        start = time.perf_counter()
        ids = sorted((self._ids(r) for r in responses), key=len)
        prefix = _common_prefix(ids) if way.prefix_cache else []
        scored = 0
        with torch.inference_mode():
            cache = self.model(torch.tensor([prefix])).past_key_values if prefix else None
            for begin in range(0, len(ids), way.batch):
                texts = self._generate(
                    ids[begin : begin + way.batch], prefix, cache, self._sampled()
                )
                read = [read_score(t, self.wording.lowest, self.wording.highest) for t in texts]
                scored += sum(isinstance(r, Scored) for r in read)
        return Speed(len(responses), scored, time.perf_counter() - start)

    def greedy(self, response: Response) -> str:
        """Return what the judge says at temperature 0, alone in its batch."""
        with torch.inference_mode():
            return self._generate([self._ids(response)], [], None, {"do_sample": False})[0]

    def _sampled(self) -> dict[str, Any]:
        config = self.config
        return {"do_sample": True, "temperature": config.temperature, "top_p": config.top_p,
                "top_k": 0, "num_return_sequences": config.votes}  # fmt: skip

    def _ids(self, r: Response) -> list[int]:
        text = self.wording.filled(f"{r.prompt_id}#{r.index}", r.prompt, r.text)
        turns = [{"role": "user", "content": text}]
        found: list[int] = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False
        )
        return found

    def _generate(
        self,
        rows: Sequence[list[int]],
        prefix: list[int],
        cache: DynamicCache | None,
        how: dict[str, Any],
    ) -> list[str]:
        longest, cut = max(map(len, rows)), len(prefix)
        pad = [longest - len(row) for row in rows]
        # Padding stands before a row, or, where the rubric comes from a cache, behind the rubric.
        ids = [[*r[:cut], *[0] * p, *r[cut:]] for r, p in zip(rows, pad, strict=True)]
        mask = [[1] * cut + [0] * p + [1] * (len(r) - cut) for r, p in zip(rows, pad, strict=True)]
        given = {}
        if cache is not None:
            own = DynamicCache([(layer.keys, layer.values) for layer in cache.layers])
            own.batch_repeat_interleave(len(rows) * how["num_return_sequences"])
            given["past_key_values"] = own
        out = self.model.generate(
            torch.tensor(ids), attention_mask=torch.tensor(mask), pad_token_id=0,
            max_new_tokens=self.work.max_tokens, **how, **given,
        )  # fmt: skip
        texts: list[str] = self.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        return texts


def _common_prefix(ids: Sequence[list[int]]) -> list[int]:
    low, high = min(ids), max(ids)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return list(low[: min(same, min(map(len, ids)) - 1)])


def _best_way(
    theirs: Theirs, responses: Sequence[Response], *, prefix_cache: bool
) -> tuple[Way, dict[str, float]]:
    """Try larger batches as long as they are faster; return the best, and all that were tried."""
    tried: dict[Way, float] = {}
    for batch in islice(_doubling(len(responses)), 9):
        way = Way(prefix_cache, batch)
        tried[way] = theirs.judge(responses[: max(batch, _TRIAL)], way).responses_per_s
        say(f"  generate, {way}: {tried[way]:.1f} responses/s")
        if tried[way] < 0.9 * max(tried.values()):
            break
    best = max(tried, key=lambda way: tried[way])
    return best, {str(way): round(speed, 2) for way, speed in tried.items()}


def _doubling(most: int) -> Iterator[int]:
    batch = 1
    while batch < most:
        yield batch
        batch *= 2
    yield most


def _ours(folder: Path, responses: Sequence[Response], config: JudgeConfig) -> Speed:
    """Time one chunk of a judging step, behind another that loads and warms what is needed."""
    model = ModelRef(folder.name, str(folder), "")
    warm, chunks = list(responses[:2]), list(responses)
    batches = judge([warm, chunks], Served(model, _ENGINE), config, 0)
    next(batches)
    start = time.perf_counter()
    rows = next(batches).rows
    return Speed(
        len(responses), sum(v.score is not None for v in rows), time.perf_counter() - start
    )


_ENGINE = EngineConfig(device="cpu", dtype="float32", chat=True)


def _equal_greedy(
    folder: Path, theirs: Theirs, responses: Sequence[Response], config: JudgeConfig
) -> str:
    """Return how many greedy verdicts are those of `generate`; all must be."""
    greedy = config.model_copy(update={"votes": 1, "temperature": 0.0})
    few = list(responses[:_GREEDY])
    (batch,) = judge([few], Served(ModelRef(folder.name, str(folder), ""), _ENGINE), greedy, 0)
    same = sum(
        v.text.strip() == theirs.greedy(r).strip() for v, r in zip(batch.rows, few, strict=True)
    )
    if same < len(few):
        raise SystemExit(f"greedy verdicts differ: only {same} of {len(few)} are equal")
    return f"{same}/{len(few)}"


def _compare(name: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    work = _WORKLOADS[name]
    responses = _responses(work)[: 12 if options.quick else options.responses]
    folder = _model(work, scratch)
    config = JudgeConfig(prompt=work.prompt, max_tokens=work.max_tokens, max_unscored=1.0)
    theirs = Theirs(folder, work, config)
    ids = [theirs._ids(r) for r in responses]
    equal = _equal_greedy(folder, theirs, responses, config)
    plain, tried = _best_way(theirs, responses, prefix_cache=False)
    cached, also = _best_way(theirs, responses, prefix_cache=True)
    runs: dict[str, list[Speed]] = {"ours": [], "plain": [], "cached": []}
    for _ in range(1 if options.quick else options.repetitions):
        runs["plain"].append(theirs.judge(responses, plain))
        runs["ours"].append(_ours(folder, responses, config))
        runs["cached"].append(theirs.judge(responses, cached))
    speed = {side: median(run.responses_per_s for run in done) for side, done in runs.items()}
    return {
        "workload": name,
        "model": "shipped" if work.hidden is None else "random weights",
        "parameters": sum(p.numel() for p in theirs.model.parameters()),
        "judge_prompt": work.prompt,
        "prompt_tokens": round(sum(map(len, ids)) / len(ids)),
        "shared_tokens": len(_common_prefix(ids)),
        "responses": len(responses),
        "votes": config.votes,
        "max_tokens": work.max_tokens,
        "ratio": round(speed["ours"] / max(speed["plain"], speed["cached"]), 2),
        "ratio_to_generate_without_prefix_cache": round(speed["ours"] / speed["plain"], 2),
        "ours_responses_per_s": round(speed["ours"], 2),
        "theirs_responses_per_s": round(speed["plain"], 2),
        "theirs_with_rubric_cached": round(speed["cached"], 2),
        "theirs_called_with": [str(plain), str(cached)],
        "theirs_tried": tried | also,
        "greedy_equal": equal,
        "runs": {side: [asdict(run) for run in done] for side, done in runs.items()},
    }


_COLUMNS = ("workload", "ours_responses_per_s", "theirs_responses_per_s",
            "theirs_with_rubric_cached", "ratio", "greedy_equal")  # fmt: skip


def _table(results: Sequence[dict[str, Any]]) -> str:
    rows = [_COLUMNS, *([str(r[c]) for c in _COLUMNS] for r in results)]
    return "\n".join("  ".join(cell.rjust(25) for cell in row) for row in rows)


def main() -> None:
    """Measure the chosen workloads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(_WORKLOADS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--responses", type=int, help="judge no more than so many")
    parser.add_argument("--quick", action="store_true", help="a few responses, once")
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.workload or _USUAL:
            say(name)
            results.append(_compare(name, Path(scratch), options))
    say(_table(results))
    worst = min(r["ratio"] for r in results)
    keep({"ratio": worst, "threads": options.threads, "workloads": results}, options.json)


if __name__ == "__main__":
    main()
