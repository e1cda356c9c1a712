"""Steps over a board, run as they are written: what a GPU replays as graphs, on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.greedy import FEW_SHOT, PROMPTS, by_name, generated_text
from tests.families import MODELS, byte_tokens, model_config, random_folder
from transformers import AutoModelForCausalLM

from selfimprove.errors import EngineError
from selfimprove.sampling import boards, strides, torch_engine
from selfimprove.sampling.board import Board, Size
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.graphs import Graphs
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.reading import Reader, Reading
from selfimprove.sampling.scoring import continuation_logprobs
from selfimprove.sampling.static_step import step
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.types import Draw, Prompt


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            there = tmp_path_factory.mktemp("model")
            made[name] = random_folder(there, model_config(name), byte_tokens())
        return made[name]

    return of


@pytest.fixture
def on_boards(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Board]]]:
    """From the call on, engines that are opened draw by steps over a board.

    It returns those that were drawn on to the end, one entry each time; there must be one.
    """
    done: list[Board] = []
    give = boards.Boards.give

    def noted(self: boards.Boards, held: boards.Held) -> None:
        done.append(held.board)
        give(self, held)

    def begin() -> list[Board]:
        monkeypatch.setattr(boards, "by_boards", boards.has_static_pass)
        monkeypatch.setattr(boards.Boards, "give", noted)
        return done

    yield begin
    assert done, "no board was drawn on"


def _draws(engine: Any, prompts: Sequence[Prompt] = PROMPTS, **sampling: Any) -> Any:
    return by_name(list(engine.draw(prompts, SamplingConfig(**sampling), seed=7)))


def _kept(engine: Any) -> bool:
    """Whether it keeps a board for the next call."""
    return engine._boards._kept is not None


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_that_of_generate(
    folder: Callable[[str], Path], name: str, on_boards: Callable[[], list[Board]]
) -> None:
    """All rows at once, and few, whose places are taken again."""
    done = on_boards()
    wanted = {p.key: generated_text(folder(name), p, 20) for p in PROMPTS}
    assert len(set(wanted.values())) > 1, "all texts equal: the test would not see mixed-up rows"
    for budget in (None, 400):
        engine = open_engine(folder(name), EngineConfig(max_batch_tokens=budget))
        draws = _draws(engine, temperature=0, max_tokens=20, n=2)
        assert {k: d.text for k, d in draws.items()} == {
            (key, i): text for key, text in wanted.items() for i in range(2)
        }
    assert [board.size.rows < 14 for board in done] == [False, True]


_SAMPLINGS: dict[str, dict[str, Any]] = {
    "plain": {"temperature": 1, "n": 3},
    "nucleus": {"temperature": 1.3, "n": 3, "top_p": 0.9},
    "nucleus wider than what is looked at first": {"temperature": 3, "n": 3, "top_p": 0.947},
    "top-k": {"temperature": 1, "n": 2, "top_k": 5, "top_p": 0.9},
    "one draw a prompt": {"temperature": 1, "n": 1},
    "more draws than a slot has seats": {"temperature": 1, "n": 40},
    "stop strings": {"temperature": 1, "n": 4, "stop": ("e", " a", "never seen")},
    "one token": {"temperature": 1, "n": 2, "max_tokens": 1},
}


@pytest.mark.parametrize("how", list(_SAMPLINGS))
def test_draws_are_those_of_the_lanes(
    folder: Callable[[str], Path], how: str, on_boards: Callable[[], list[Board]]
) -> None:
    """Token for token, with all at once and with few rows, whose places are taken again."""
    asked = {"max_tokens": 21, **_SAMPLINGS[how]}
    wanted = _draws(open_engine(folder("llama"), EngineConfig()), **asked)
    done = on_boards()
    for budget in (None, 400):
        engine = open_engine(folder("llama"), EngineConfig(max_batch_tokens=budget))
        assert _draws(engine, **asked) == wanted
        assert _draws(engine, **asked) == wanted, "the board that was kept remembers"
    assert [board.size.rows < len(wanted) for board in done] == [False, False, True, True]
    if "stop" in asked:
        assert {d.finish for d in wanted.values()} == {"stop", "length"}


def test_draws_of_one_token_take_no_step(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pass that reads a prompt gives it."""
    steps: list[Any] = []
    on_boards()
    engine = open_engine(folder("llama"), EngineConfig())
    monkeypatch.setattr("selfimprove.sampling.strides.step", lambda *asked: steps.append(asked))
    assert {len(d.tokens) for d in _draws(engine, n=2, max_tokens=1).values()} == {1}
    assert not steps


def test_rows_unsure_of_their_nucleus_come_up(folder: Callable[[str], Path]) -> None:
    """So that the test above is one: 256 of 300 tokens hold less than 0.947 here and there."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder("llama"))
    ids = byte_tokens()(PROMPTS[0].content, return_tensors="pt").input_ids
    chances = (model(ids).logits[0] / 3).softmax(-1).sort(descending=True).values
    assert 0 < (chances[:, :256].sum(-1) < 0.947).float().mean() < 1


def test_other_prompts_find_the_board_that_was_kept(
    folder: Callable[[str], Path], on_boards: Callable[[], list[Board]]
) -> None:
    """Shorter ones, other ends, another sampling: nothing of the first call is left."""
    fewer = [Prompt(f"q{i}", f"{FEW_SHOT[:40]}Q: {i}?") for i in range(5)]
    asked: dict[str, Any] = {"n": 3, "max_tokens": 17, "temperature": 0.8}
    wanted = _draws(open_engine(folder("qwen3"), EngineConfig()), fewer, **asked)
    on_boards()
    engine: Any = open_engine(folder("qwen3"), EngineConfig())
    _draws(engine, n=3, max_tokens=30, temperature=1, stop=("a",))
    kept = engine._boards._kept
    assert _draws(engine, fewer, **asked) == wanted
    assert engine._boards._kept is kept


def test_two_calls_at_once_have_a_board_each(
    folder: Callable[[str], Path], on_boards: Callable[[], list[Board]]
) -> None:
    asked = SamplingConfig(n=2, max_tokens=20, temperature=1)
    done = on_boards()
    engine = open_engine(folder("llama"), EngineConfig(max_batch_tokens=400))
    calm = [list(engine.draw(PROMPTS, asked, seed=seed)) for seed in (1, 2)]
    both = [engine.draw(PROMPTS, asked, seed=seed) for seed in (1, 2)]
    found: list[list[Draw]] = [[next(draws)] for draws in both]
    for draws, so_far in zip(both, found, strict=True):
        so_far += draws
    assert [by_name(draws) for draws in found] == [by_name(draws) for draws in calm]
    assert done[0] is done[1]
    assert done[2] is not done[3]


def test_weights_that_changed_are_seen(
    folder: Callable[[str], Path], on_boards: Callable[[], list[Board]]
) -> None:
    """In place, as an optimiser changes them, and laid elsewhere."""
    on_boards()
    engine: Any = open_engine(folder("llama"), EngineConfig())
    before = _draws(engine, temperature=0, max_tokens=12)
    kept = engine._boards._kept
    with torch.no_grad():
        engine._model.model.layers[0].self_attn.q_proj.weight.neg_()
    assert _draws(engine, temperature=0, max_tokens=12) != before
    assert engine._boards._kept is kept
    norm = engine._model.model.norm
    norm.weight.data = norm.weight.data.clone()
    _draws(engine, temperature=0, max_tokens=12)
    assert engine._boards._kept is not kept


def test_a_model_that_answers_with_nan_is_refused_by_lanes_and_by_boards(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it reads prompts, and on a board later, too."""
    lanes: Any = open_engine(folder("llama"), EngineConfig())
    on_boards()
    board: Any = open_engine(folder("llama"), EngineConfig())
    assert _draws(lanes, max_tokens=4) == _draws(board, max_tokens=4)

    def breaking(board: Board, *asked: Any) -> None:
        step(board, *asked)
        board.broken[1] = True

    with monkeypatch.context() as patch, pytest.raises(EngineError, match=r"'p\d' with NaN"):
        patch.setattr("selfimprove.sampling.strides.step", breaking)
        _draws(board, max_tokens=4)
    for engine, which in ((lanes, " or one beside it"), (board, "")):
        with torch.no_grad():
            engine._model.model.norm.weight.fill_(torch.nan)
        for how in ({"max_tokens": 1}, {"top_p": 0.9}, {"top_k": 4}, {"temperature": 0}):
            asked: dict[str, Any] = {"max_tokens": 4, "temperature": 1, **how}
            with pytest.raises(EngineError, match=rf"prompt 'p\d'{which} with NaN"):
                _draws(engine, **asked)


def test_out_of_memory_halves_the_board_and_loses_or_repeats_no_draw(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: dict[str, Any] = {"n": 6, "max_tokens": 20, "temperature": 1}
    done = on_boards()
    engine = open_engine(folder("llama"), EngineConfig(max_batch_tokens=1200))
    calm = _draws(engine, **asked)
    steps = [0]

    def failing(*args: Any) -> None:
        steps[0] += 1
        if steps[0] in (5, 24):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        step(*args)

    monkeypatch.setattr("selfimprove.sampling.strides.step", failing)
    with caplog.at_level(logging.WARNING):
        assert _draws(engine, **asked) == calm
    assert caplog.text.count("out of memory") == 2
    before, after = (board.size.rows for board in done)
    assert before // 4 - 1 <= after <= before // 4


def test_out_of_memory_for_a_board_itself_halves_the_rows_that_were_tried(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of 64 rows wished for, memory is said to hold 24, and it does hold 12: one refusal tells."""
    made: list[int] = []

    def small(size: Size, *rest: Any) -> Board:
        made.append(size.rows)
        if size.rows > 12:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return Board(size, *rest)

    on_boards()
    engine: Any = open_engine(folder("llama"), EngineConfig())
    engine._budget = None
    monkeypatch.setattr(boards, "rows_that_fit", lambda *_: 24)
    monkeypatch.setattr(boards, "Board", small)
    with caplog.at_level(logging.WARNING):
        assert len(_draws(engine, n=6, max_tokens=8)) == 6 * len(PROMPTS)
    assert made == [24, 12]
    assert caplog.text.count("out of memory") == 1


def test_a_board_gives_its_memory_back_to_lanes_and_to_passes_that_need_it(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may hold most of a GPU's; a pass that then has room keeps its budget."""
    on_boards()
    engine: Any = open_engine(folder("llama"), EngineConfig())
    pairs = [(p, " two") for p in PROMPTS]
    wanted, budget = engine.logprobs(pairs), engine._budget

    def crowded(*asked: Any) -> Any:
        if _kept(engine):
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return continuation_logprobs(*asked)

    _draws(engine, max_tokens=4)
    assert _kept(engine)
    monkeypatch.setattr(torch_engine, "continuation_logprobs", crowded)
    assert engine.logprobs(pairs) == wanted
    assert not _kept(engine)
    assert engine._budget == budget
    _draws(engine, max_tokens=4)
    assert _kept(engine)
    engine._reach = 0
    _draws(engine, max_tokens=4)
    assert not _kept(engine)


def test_prompts_read_together_are_as_few_for_a_board_as_for_lanes(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 32 draws a prompt a row has few entries of its own, but a pass reads whole prompts."""
    read: list[int] = []
    as_written = Reader.read

    def noted(self: Reader, prompts: Sequence[Encoded]) -> Reading:
        read.append(len(prompts))
        return as_written(self, prompts)

    prompts = [Prompt(f"p{i}", f"{i}: {'many words ' * 8}") for i in range(9)]
    lanes = open_engine(folder("llama"), EngineConfig())
    on_boards()
    board = open_engine(folder("llama"), EngineConfig())
    monkeypatch.setattr(torch_engine, "READ_TOKENS", 200)
    monkeypatch.setattr(Reader, "read", noted)
    for engine in (lanes, board):
        _draws(engine, prompts, n=32, max_tokens=2)
    # Prompts of 91 bytes and 2 new tokens: the third of a pass is the first over 200.
    assert read == [3, 3, 3] * 2


def test_the_next_prompts_are_read_behind_steps_and_before_texts(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The device is never without work while the host reads what it drew."""
    done: list[str] = []

    def noted(of: Any, name: str, what: str) -> None:
        as_written = getattr(of, name)

        def noting(*asked: Any) -> Any:
            done.append(what)
            return as_written(*asked)

        monkeypatch.setattr(of, name, noting)

    on_boards()
    engine = open_engine(folder("llama"), EngineConfig(max_batch_tokens=400))
    noted(Reader, "read", "prompts")
    noted(Graphs, "run", "steps")
    noted(strides, "drawn", "texts")
    _draws(engine, n=2, max_tokens=8, temperature=1)
    assert done.count("prompts") > 2
    first_steps = done.index("steps")
    behind = [done[n - 1] for n, what in enumerate(done) if what == "prompts" and n > first_steps]
    assert set(behind) == {"steps"}
    assert "texts" in done


def test_a_prefix_that_is_asked_for_again_is_read_once_while_weights_stay(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces: list[int] = []
    as_written = Reader._read_prefix

    def noted(self: Reader, piece: Sequence[int], start: int) -> None:
        pieces.append(start)
        as_written(self, piece, start)

    monkeypatch.setattr(Reader, "_read_prefix", noted)
    on_boards()
    engine: Any = open_engine(folder("llama"), EngineConfig())
    pieces.clear()
    wanted = _draws(engine, max_tokens=4)
    assert _draws(engine, max_tokens=4) == wanted
    assert pieces == [0]
    engine._frozen = False
    engine._boards.give_way = bool
    _draws(engine, max_tokens=4)
    assert pieces == [0, 0]


@pytest.mark.parametrize(
    ("memory", "peak", "kept"), [(1e9, 1e8, True), (1e9, 8e8, False), (1e6, 0, False)]
)
def test_a_board_stays_during_training_where_there_is_room_for_both(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
    memory: float,
    peak: float,
    *,
    kept: bool,
) -> None:
    """It takes 16 rows of 33 + 16 slots of 32 or so tokens of 768 bytes, and what steps need."""
    on_boards()
    engine: Any = open_engine(folder("llama"), EngineConfig())
    engine._frozen = False
    monkeypatch.setattr(boards, "_memory", lambda _: memory)
    monkeypatch.setattr(boards, "_peak", lambda _: peak)
    _draws(engine, max_tokens=4)
    assert _kept(engine) == kept


def test_a_call_takes_few_steps_of_different_sizes(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To record a step costs as much as a hundred of them."""
    keys: list[Any] = []
    run = Graphs.run

    def noted(self: Graphs, key: Any, *asked: Any) -> None:
        keys.append(key[0])
        run(self, key, *asked)

    done = on_boards()
    engine = open_engine(folder("llama"), EngineConfig(max_batch_tokens=1 << 16))
    monkeypatch.setattr(Graphs, "run", noted)
    _draws(engine, n=40, max_tokens=40, temperature=1, stop=("e",))
    size = done[0].size
    assert (size.rows, size.new) == (512, 64)
    assert len(set(keys)) <= 2
    assert keys[0].rows == 512


def test_a_model_in_training_is_drawn_from_as_it_is(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the pass that reads weights where they lie; a CPU does not take it by itself."""
    wanted = _draws(open_engine(folder("qwen2"), EngineConfig()), n=2, max_tokens=12)
    from selfimprove.sampling.forward import lean_forward
    from selfimprove.sampling.support import FastLanes

    model: Any = AutoModelForCausalLM.from_pretrained(folder("qwen2"))
    held = [p.data_ptr() for p in model.parameters()]
    forward = lean_forward(model, frozen=False)
    assert forward is not None
    monkeypatch.setattr(torch_engine, "fast_lanes", lambda *_, **__: FastLanes(forward, 256))
    on_boards()
    monkeypatch.setattr(boards, "_memory", lambda _: 0)
    monkeypatch.setattr(boards, "_peak", lambda _: 0)
    engine: Any = TorchEngine.of_model(model, byte_tokens(), EngineConfig())
    assert _draws(engine, n=2, max_tokens=12) == wanted
    assert [p.data_ptr() for p in model.parameters()] == held
    assert engine._boards._kept is None, "the trainer wants its memory"


def test_where_steps_over_a_board_are_not_exact_the_lanes_draw(
    folder: Callable[[str], Path],
    on_boards: Callable[[], list[Board]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(board: Any, *asked: Any) -> None:
        step(board, *asked)
        board.tokens.add_(1).remainder_(300)

    def broken(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    done = on_boards()
    for instead in (step, wrong, broken):
        monkeypatch.setattr("selfimprove.sampling.support.step", instead)
        engine = open_engine(folder("llama"), EngineConfig())
        assert len(_draws(engine, max_tokens=2)) == len(PROMPTS)
        assert len(done) == 1
