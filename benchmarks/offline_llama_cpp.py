"""The llama.cpp side of `sampling.py`, run by the Python of an environment that has llama-cpp-python.

    LLAMA_CPP_PYTHON offline_llama_cpp.py JOB.json RUNS.json    # writes tokens, seconds and way of each run

llama.cpp at its best, by the low-level interface (the high-level one draws one sequence at a time): what
all prompts begin with is read once and its cache copied to each prompt, a prompt is read once and its
cache copied to each draw, and all draws of some prompts take a step in one batch. Tried are several
numbers of sequences at once, with one cache for all of them and with one for each; the fastest counts.
Tokens are drawn from the full softmax by numpy, all rows at once, which is faster than llama.cpp's own
chain of samplers. Loading and a first warming call are not timed; ends of sequence are passed over.
"""

import ctypes
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np

_TEMPERATURE = 0.8
_TRIAL_PROMPTS, _TRIAL_TOKENS = 8, 48
_WHOLE = (-1, -1)  # of a sequence, from its first to its last position


@dataclass(frozen=True)
class Way:
    """How many sequences are computed at once, and how their cache is laid out."""

    sequences: int
    one_cache: bool

    def __str__(self) -> str:
        cache = "one cache" if self.one_cache else "a cache each"
        return f"{self.sequences} sequences at once, {cache}"


class Sampler:
    """A context of llama.cpp; its last sequence keeps what all prompts begin with."""

    def __init__(self, model: ctypes.c_void_p, way: Way, job: dict) -> None:
        self.way, self.draws, self.vocabulary = (
            way,
            job["draws"],
            llama_cpp.llama_model_get_vocab(model),
        )
        self.words = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.keeper = way.sequences
        self.random = np.random.default_rng(0)
        length = -(-job["max_model_len"] // 256) * 256
        how = llama_cpp.llama_context_default_params()
        how.n_seq_max = way.sequences + 1
        how.n_ctx = length * how.n_seq_max
        if way.one_cache:  # what is shared is there once
            own = way.sequences * job["max_tokens"] + length * (way.sequences // self.draws + 1)
            how.n_ctx = -(-own // 256) * 256
        how.n_batch = how.n_ubatch = max(way.sequences, 512)
        how.n_outputs_max = how.n_seq_max
        how.n_threads = how.n_threads_batch = job["threads"]
        how.kv_unified, how.no_perf = way.one_cache, True
        self.context = llama_cpp.llama_init_from_model(model, how)
        if not self.context:
            raise SystemExit(f"llama.cpp could not make a context of {how.n_ctx} tokens")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(how.n_batch, 0, 1)

    def close(self) -> None:
        """Give the memory back."""
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def run(self, prompts: list[list[int]], max_tokens: int) -> int:
        """Draw for every prompt; return how many tokens were drawn."""
        llama_cpp.llama_memory_clear(self.memory, True)
        shared = common(prompts)
        self._read(prompts[0][:shared], 0, self.keeper)
        at_once, tokens = self.way.sequences // self.draws, 0
        for begin in range(0, len(prompts), at_once):
            group = prompts[begin : begin + at_once]
            first = np.repeat(
                [self._prompt(p, shared, n) for n, p in enumerate(group)], self.draws, 0
            )
            made = self._steps(first, np.repeat([len(p) for p in group], self.draws), max_tokens)
            tokens += sum(len(self._text(row)[1]) for row in made)
            for sequence in range(len(made)):
                llama_cpp.llama_memory_seq_rm(self.memory, sequence, *_WHOLE)
        return tokens

    def _prompt(self, prompt: list[int], shared: int, number: int) -> np.ndarray:
        """Read the rest of a prompt, give its cache to all of its draws; return the logits behind it."""
        first = number * self.draws
        llama_cpp.llama_memory_seq_cp(self.memory, self.keeper, first, *_WHOLE)
        self._read(prompt[shared:], shared, first)
        for sequence in range(first + 1, first + self.draws):
            llama_cpp.llama_memory_seq_cp(self.memory, first, sequence, *_WHOLE)
        return self._logits(1)[0].copy()

    def _steps(self, logits: np.ndarray, positions: np.ndarray, max_tokens: int) -> np.ndarray:
        """Return the tokens drawn for every row, (rows, max_tokens)."""
        made, rows = np.empty((len(logits), max_tokens), np.int32), list(range(len(logits)))
        for step in range(max_tokens):
            made[:, step] = self._drawn(logits)
            if step + 1 < max_tokens:  # nothing follows the last
                self._decode(made[:, step].tolist(), (positions + step).tolist(), rows)
                logits = self._logits(len(made))
        return made

    def _drawn(self, logits: np.ndarray) -> np.ndarray:
        mass = np.exp(
            (logits - logits.max(1, keepdims=True)) * np.float32(1 / _TEMPERATURE)
        ).cumsum(1)
        wanted = self.random.random(len(mass), np.float32) * mass[:, -1]
        found = [np.searchsorted(row, value) for row, value in zip(mass, wanted, strict=True)]
        return np.minimum(found, self.words - 1)

    def _read(self, ids: list[int], begin: int, sequence: int) -> None:
        size = llama_cpp.llama_n_batch(self.context)
        for at in range(0, len(ids), size):
            part = ids[at : at + size]
            places = list(range(begin + at, begin + at + len(part)))
            self._decode(part, places, [sequence] * len(part), scored=False)

    def _decode(
        self, ids: list[int], positions: list[int], sequences: list[int], scored: bool = True
    ) -> None:
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, (token, position, sequence) in enumerate(
            zip(ids, positions, sequences, strict=True)
        ):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = scored or i + 1 == len(ids)
        if failed := llama_cpp.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode failed with {failed} ({self.way})")

    def _logits(self, rows: int) -> np.ndarray:
        told = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(told, (rows * self.words,)).reshape(rows, self.words)

    def _text(self, row: np.ndarray) -> tuple[bytes, list[int]]:
        ids = row.tolist()
        room = ctypes.create_string_buffer(32 * len(ids))
        size = llama_cpp.llama_detokenize(self.vocabulary, (ctypes.c_int32 * len(ids))(*ids), len(ids),
                                          room, len(room), False, False)  # fmt: skip
        return room.raw[: max(size, 0)], ids


def common(prompts: list[list[int]]) -> int:
    """Return how many tokens all prompts begin with; each keeps one of its own."""
    low, high = min(prompts), max(prompts)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return min(same, min(map(len, prompts)) - 1)


def timed(sampler: Sampler, prompts: list[list[int]], max_tokens: int) -> dict:
    """Time one call."""
    began = time.perf_counter()
    tokens = sampler.run(prompts, max_tokens)
    return {"tokens": tokens, "seconds": time.perf_counter() - began}


def ways(job: dict) -> list[Way]:
    """Return what is tried: as many prompts at once as give so many sequences, at least one prompt.

    Every sequence attends over all of one cache, so that many of them are slow in it.
    """
    counts = sorted({max(n // job["draws"], 1) * job["draws"] for n in (16, 32, 64, 128)})
    return [Way(n, True) for n in counts] + [Way(counts[-1], False)]


def main(job: dict, out: Path) -> None:
    """Try the ways on a few prompts; time `repetitions` calls of the best."""
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    how = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(job["model"].encode(), how)
    if not model:
        raise SystemExit(f"llama.cpp cannot read {job['model']}")
    tried = {}
    for way in ways(job):
        sampler = Sampler(model, way, job)
        few = job["prompts"][: max(_TRIAL_PROMPTS, way.sequences // job["draws"])]
        sampler.run(few[:1], 2)
        run = timed(sampler, few, min(_TRIAL_TOKENS, job["max_tokens"]))
        tried[way] = run["tokens"] / run["seconds"]
        sampler.close()
    best = max(tried, key=tried.get)
    sampler = Sampler(model, best, job)
    sampler.run(job["prompts"][:1], 2)
    runs = [timed(sampler, job["prompts"], job["max_tokens"]) for _ in range(job["repetitions"])]
    told = {"runs": runs, "way": str(best), "tried": {str(w): round(s) for w, s in tried.items()}}
    out.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
