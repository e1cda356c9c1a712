"""Decoding steps as CUDA graphs against the same steps as written: run with `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import MODELS
from tests.gpu.models import PROMPTS, endless_folder, gpu_folder
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from selfimprove.sampling import attention, boards
from selfimprove.sampling.attention import KeptKeys
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.graphs import Graphs
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.static_step import step
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.types import Draw

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

_ANY: Any = AutoModelForCausalLM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def of(name: str) -> Path:
        made: Path = tmp_path_factory.getbasetemp() / f"graphs-{MODELS.index(name)}"
        if not made.exists():
            gpu_folder(made, name)
        return made

    return of


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_folder(tmp_path_factory.mktemp("endless"), "llama")


def _draws(engine: Any, **sampling: Any) -> dict[tuple[str, int], Draw]:
    asked = SamplingConfig(**{"max_tokens": 24, **sampling})
    draws = list(engine.draw(PROMPTS, asked, seed=3))
    named = {(d.key, d.index): d for d in draws}
    assert len(named) == len(draws) == len(PROMPTS) * asked.n
    return named


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The keys of the graphs that took steps; not those of the trial that opens an engine."""
    keys: list[Any] = []
    as_written = Graphs.run

    def noted(self: Any, key: Any, step_: Any, times: int) -> None:
        as_written(self, key, step_, times)
        if key != "trial" and key in self._recorded:
            keys.append(key)

    monkeypatch.setattr(Graphs, "run", noted)
    return keys


def _share_of_equal(one: dict[Any, Draw], other: dict[Any, Draw]) -> float:
    return sum(one[name].tokens == other[name].tokens for name in one) / len(one)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_by_graphs_is_that_of_the_cpu(
    folder: Callable[[str], Path], name: str, replayed: list[Any]
) -> None:
    """In float32; a near tie may fall the other way in at most one text of forty."""
    found = []
    for device in ("cpu", "cuda"):
        assert not replayed
        engine = open_engine(folder(name), EngineConfig(device=device, dtype="float32"))
        found.append(_draws(engine, temperature=0))
    assert replayed, "nothing was recorded"
    assert _share_of_equal(*found) >= 39 / 40


def test_long_texts_are_those_of_the_cpu(endless: Path, replayed: list[Any]) -> None:
    """Up to near ties, after which a text is another one: 300 tokens, many of them behind one another."""
    found = []
    for device in ("cpu", "cuda"):
        engine = open_engine(endless, EngineConfig(device=device, dtype="float32"))
        found.append(_draws(engine, temperature=0, max_tokens=300))
    assert replayed, "nothing was recorded"
    assert _share_of_equal(*found) >= 0.9


@pytest.mark.parametrize(
    "asked",
    [{"temperature": 1}, {"temperature": 1, "top_p": 0.9}, {"temperature": 3, "top_p": 0.99},
     {"temperature": 1, "top_k": 9}, {"temperature": 1, "stop": ("e", " a")}],
)  # fmt: skip
def test_draws_by_graphs_are_those_of_the_lanes(
    folder: Callable[[str], Path],
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    replayed: list[Any],
) -> None:
    """Few rows, too, whose places are taken again; in float32, up to near ties."""
    by_graphs = []
    for budget in (None, 3000):
        replayed.clear()
        config = EngineConfig(device="cuda", dtype="float32", max_batch_tokens=budget)
        by_graphs.append(_draws(open_engine(folder("llama"), config), n=8, **asked))
        assert replayed, "nothing was recorded"
    replayed.clear()
    monkeypatch.setattr(boards, "by_boards", lambda *_: False)
    lanes = _draws(open_engine(folder("llama"), EngineConfig(device="cuda", dtype="float32")), n=8, **asked)  # fmt: skip
    assert not replayed
    assert min(_share_of_equal(found, lanes) for found in by_graphs) > 0.97


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_a_replayed_step_leaves_what_a_step_as_written_leaves(
    folder: Callable[[str], Path], dtype: Any, off: float
) -> None:
    """From the same board: log-probabilities of every row, and the state of all of them."""
    engine: Any = open_engine(folder("llama"), EngineConfig(device="cuda", dtype=dtype))
    sampling = SamplingConfig(temperature=1, max_tokens=24, n=4)
    draws = engine.draw(PROMPTS, sampling, seed=0)
    taken: list[Any] = []
    graphs_run = Graphs.run

    def spy(self: Any, key: Any, step_: Any, times: int) -> None:
        if not taken:
            taken.append((self, key))
        graphs_run(self, key, step_, times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graphs, "run", spy)
        list(draws)
    board, rung = engine._boards._kept.board, taken[0][1][0]
    logits = torch.zeros(rung.rows, 300, device="cuda", dtype=board.own[0].keys.dtype)

    def forward(ids: torch.Tensor, positions: torch.Tensor, lanes: KeptKeys) -> torch.Tensor:
        found: torch.Tensor = engine._forward(ids, positions, lanes)
        logits.copy_(found)
        return found

    def laid() -> None:
        board.alive[: rung.rows] = True
        board.made[: rung.rows] = 5

    results = []
    for records in (True, False):
        graphs = Graphs(engine._model.device)
        graphs._recorder.records = records
        with torch.inference_mode():
            for times in (1, 1):  # the second time it is replayed
                laid()
                graphs.run("it", lambda: step(board, rung, forward, sampling), times)
        results.append((logits.float().log_softmax(-1).cpu(), board.tokens.cpu().clone(), board.made.cpu().clone()))  # fmt: skip
        assert len(graphs._recorded) == records
    (one, tokens, made), (other, same_tokens, same_made) = results
    seats = board.seats
    # A row without a seat reads no prompt: what it computes means nothing.
    seated = (seats.members[seats.places[: rung.rows]] == torch.arange(rung.rows).cuda()).cpu()
    assert seated.sum() > 40
    assert (one - other)[seated].abs().max() < off
    assert made.tolist() == same_made.tolist()
    assert (tokens == same_tokens)[: rung.rows][seated].float().mean() > 0.99


def test_a_model_in_training_is_drawn_from_as_it_then_is(
    folder: Callable[[str], Path], replayed: list[Any]
) -> None:
    """And keeps a board that takes little of a GPU: graphs are recorded once."""
    model = _ANY.from_pretrained(folder("llama"), dtype=torch.float32).to("cuda")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder("llama"))
    engine: Any = TorchEngine.of_model(model, tokenizer, EngineConfig())
    held: list[Any] = []

    def drawn() -> dict[tuple[str, int], Draw]:
        replayed.clear()
        draws = _draws(engine, temperature=0)
        assert replayed, "nothing was recorded"
        held.append(engine._boards._kept)
        return draws

    before = drawn()
    assert drawn() == before
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.neg_()
    assert _share_of_equal(before, drawn()) < 0.5
    assert held[0] is not None
    assert held[0] is held[1] is held[2]


def test_under_autocast_lanes_draw_and_no_graph(
    folder: Callable[[str], Path], replayed: list[Any]
) -> None:
    """As a trainer draws: queries come in float32, and no graph finds weights that are rounded anew."""
    model = _ANY.from_pretrained(folder("llama"), dtype=torch.float32).to("cuda")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder("llama"))
    engine = TorchEngine.of_model(model, tokenizer, EngineConfig())
    with torch.autocast("cuda", torch.bfloat16):
        assert len(_draws(engine, temperature=1, n=8)) == 8 * len(PROMPTS)
    assert not replayed


@pytest.mark.parametrize("queries", [3, 40])
def test_queries_in_float32_attend_in_the_dtype_of_values(queries: int) -> None:
    """By products and by the kernel."""
    query = torch.randn(2, 2, queries, 32, device="cuda")
    part = attention.KeysValues(*torch.randn(2, 2, 2, 45, 32, device="cuda").bfloat16())
    found = attention.attend(query, part, None, 0.2)
    wanted = attention.attend(query.bfloat16(), part, None, 0.2)
    assert found.out.dtype == torch.bfloat16
    assert torch.equal(found.out, wanted.out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_attention_kernel_takes_biases_of_any_length(dtype: torch.dtype) -> None:
    """Prompts of 45 tokens, and their numbers as plain products give them."""
    assert attention._has_cuda_kernel(torch.device("cuda"), dtype, 32)


def test_the_board_takes_what_memory_is_free(folder: Callable[[str], Path]) -> None:
    """Rows of a hundred tokens are few here; one that takes all memory for its keys still counts."""
    model = _ANY.from_pretrained(folder("llama")).to("cuda")
    free, _ = torch.cuda.mem_get_info()
    assert boards.rows_that_fit(model, 100) == 2048
    entry = 2 * 3 * 2 * 32 * model.dtype.itemsize
    assert boards.rows_that_fit(model, free // entry) == 1
