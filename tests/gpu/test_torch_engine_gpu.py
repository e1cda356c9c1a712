"""The torch engine on a CUDA device: run with `pytest -m gpu`."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.gpu.models import PROMPTS, endless_folder

from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.open import open_engine
from selfimprove.types import Prompt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_folder(tmp_path_factory.mktemp("llama"), "llama")


def test_greedy_text_on_the_gpu_is_that_of_the_cpu(folder: Path) -> None:
    """In float32; a near tie may fall the other way in at most one text of forty."""
    sampling = SamplingConfig(temperature=0, max_tokens=24)
    texts: list[dict[str, str]] = []
    for device in ("cpu", "cuda"):
        engine = open_engine(folder, EngineConfig(device=device, dtype="float32"))
        assert engine.identity["attention"] == "shared prefix"
        texts.append({d.key: d.text for d in engine.draw(PROMPTS, sampling, seed=0)})
    assert sum(texts[0][p.key] != texts[1][p.key] for p in PROMPTS) <= 1


def test_the_same_call_gives_the_same_draws_in_bfloat16(folder: Path) -> None:
    engine = open_engine(folder, EngineConfig(device="cuda"))
    assert engine.identity["dtype"] == "bfloat16"
    sampling = SamplingConfig(temperature=1, n=4, max_tokens=16, top_p=0.9)
    first = list(engine.draw(PROMPTS, sampling, seed=1))
    assert list(engine.draw(PROMPTS, sampling, seed=1)) == first
    assert len({(d.key, d.index) for d in first}) == 4 * len(PROMPTS)


def test_a_full_device_halves_the_batch(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The cache of 4 million entries is some 3 GiB; 1 GiB may be taken more than is held."""
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    engine = open_engine(folder, EngineConfig(device="cuda", max_batch_tokens=4_000_000))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (held + 2**30) / total))
    try:
        many = [Prompt(str(i), "w1 w2 w3") for i in range(4)]
        sampling = SamplingConfig(n=500, max_tokens=1900, temperature=1)
        first = next(iter(engine.draw(many, sampling, seed=0)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert first.new_tokens == 1900
    assert "out of memory" in caplog.text


def test_logprobs_agree_with_the_cpu(folder: Path) -> None:
    pairs = [(p, "w1 w2 w3") for p in PROMPTS[:5]]
    scores: list[Any] = []
    for device in ("cpu", "cuda"):
        engine = open_engine(folder, EngineConfig(device=device, dtype="float32"))
        scores.append(engine.logprobs(pairs))
    for cpu, cuda in zip(*scores, strict=True):
        assert cuda == pytest.approx(cpu, abs=1e-2)
        assert all(math.isfinite(x) for x in cuda)
