"""The vLLM side of `sampling.py`, run by the Python of vLLM's own environment.

    VLLM_PYTHON offline_vllm.py JOB.json RUNS.json        # writes tokens and seconds of each run

vLLM at its best: in one process without a server, all prompts in one call and as tokens, prefix caching on. Loading
and a first warming call are not timed.
"""

import json
import sys
import time
from pathlib import Path


def main(job: dict, out: Path) -> None:
    """Time `repetitions` calls."""
    from vllm import LLM, SamplingParams

    model = LLM(
        job["model"], dtype=job["dtype"], max_model_len=job["max_model_len"], seed=0,
        enable_prefix_caching=True, max_num_seqs=job["rows"], max_num_batched_tokens=16_384,
    )  # fmt: skip
    how = SamplingParams(n=job["draws"], temperature=0.8, max_tokens=job["max_tokens"])
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    model.generate(prompts[:2], how, use_tqdm=False)
    runs = []
    for _ in range(job["repetitions"]):
        model.reset_prefix_cache()
        started = time.perf_counter()
        made = model.generate(prompts, how, use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(draw.token_ids) for request in made for draw in request.outputs)
        runs.append({"tokens": tokens, "seconds": seconds})
    out.write_text(json.dumps({"runs": runs}), encoding="utf-8")  # vLLM writes on both streams


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
