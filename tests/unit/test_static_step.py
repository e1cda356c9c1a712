"""A decoding step over a board: what it computes, what it leaves alone, and that it can be recorded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.families import MODELS, random_model
from torch.utils._python_dispatch import TorchDispatchMode

from selfimprove.config import IDENTITY
from selfimprove.sampling import attention, prompt_cache
from selfimprove.sampling.attention import KeptKeys
from selfimprove.sampling.board import Board, Rung, Size
from selfimprove.sampling.boards import has_static_pass
from selfimprove.sampling.choose import choose
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.forward import lean_forward
from selfimprove.sampling.graphs import Graphs
from selfimprove.sampling.prompts import Encoded
from selfimprove.sampling.reading import Reader
from selfimprove.sampling.seating import Seating
from selfimprove.sampling.static_step import settle, step

_LLAMA = "llama, every bias, other rotations"
_PREFIX, _TAILS = (7, 3, 9), ((4, 8), (11, 2, 5))
_SIZE = Size(rows=16, slots=4, width=2, prefix=8, prompt=5, new=6)
_SMALL, _LARGE = Rung(3, 2, 6), Rung(16, 4, 6)
_PLAIN = SamplingConfig(temperature=1)
_NUCLEUS = SamplingConfig(temperature=3, top_p=0.97)
_SAMPLINGS = [
    _PLAIN, _NUCLEUS, SamplingConfig(temperature=0), SamplingConfig(temperature=1, top_k=5),
]  # fmt: skip


class _Laid:
    """Three rows on a board, two of them behind the first prompt, each with one token drawn."""

    def __init__(self, kind: str = _LLAMA, sampling: SamplingConfig = _PLAIN) -> None:
        self.model = random_model(kind)
        self.sampling = sampling
        lean = lean_forward(self.model)
        assert lean is not None
        self.lean = lean
        self.board = board = Board(_SIZE, self.model.config, torch.float32, self.model.device)
        board.keep_logits()
        self.logits: list[torch.Tensor] = []
        with torch.inference_mode():
            reader = Reader(self.model, lean, _PREFIX)
            read = reader.read([Encoded(str(i), (*_PREFIX, *t)) for i, t in enumerate(_TAILS)])
            board.begin(torch.tensor([], dtype=torch.long), None, 6)
            board.put_prefix(reader.layers, 3)
            both = torch.tensor([0, 1])
            board.put_prompts(both, read.layers, both, torch.tensor(read.lengths))
            rows = torch.tensor([0, 1, 2])
            board.seeds[rows] = torch.tensor([11, 22, 33])
            board.before[rows] = torch.tensor([5, 5, 6])
            board.alive[rows] = True
            board.seat(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2]))
            first = choose(
                read.logits[torch.tensor([0, 0, 1])], board.seeds[rows], board.made[rows], sampling
            )
            settle(board, rows, first, torch.ones(3, dtype=torch.bool))

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, lanes: KeptKeys) -> torch.Tensor:
        """Run the lean pass, and keep its logits."""
        self.logits.append(self.lean(ids, positions, lanes).clone())
        return self.logits[-1]

    @torch.no_grad()
    def step(self) -> None:
        """Take one, and keep nothing of it; so that operations are seen that others are made of."""
        step(self.board, _SMALL, self.lean, self.sampling)

    @torch.inference_mode()
    def steps(self, times: int, rung: Rung = _SMALL) -> list[list[int]]:
        """Take steps; return the tokens of the three rows."""
        for _ in range(times):
            step(self.board, rung, self.forward, self.sampling)
        made = self.board.made[:3].tolist()
        return [t[:m] for t, m in zip(self.board.tokens[:3].tolist(), made, strict=True)]


@pytest.mark.parametrize("kind", MODELS)
@torch.inference_mode()
def test_log_probabilities_and_tokens_are_those_of_a_plain_pass(kind: str) -> None:
    laid = _Laid(kind)
    for row, tokens in enumerate(laid.steps(4)):
        assert len(tokens) == 5
        prompt = [*_PREFIX, *_TAILS[row // 2]]
        logits = laid.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        found = torch.stack([seen[row] for seen in laid.logits])
        torch.testing.assert_close(
            found.log_softmax(-1), logits[1:].log_softmax(-1), atol=1e-4, rtol=1e-4
        )
        seeds = laid.board.seeds[row].expand(5)
        assert choose(logits, seeds, torch.arange(5), _PLAIN).tolist() == tokens


def _everything(board: Board) -> dict[str, torch.Tensor]:
    """All that a row must not change but in its own place: the last column is nobody's."""
    kept = {f"own {i}": kv.keys[:, :, :-1].clone() for i, kv in enumerate(board.own)}
    kept |= {f"values {i}": kv.values[:, :, :-1].clone() for i, kv in enumerate(board.own)}
    numbers = {"made": board.made, "alive": board.alive, "asks": board.asks}
    return (
        kept | {"tokens": board.tokens[:, :-1].clone()} | {k: v.clone() for k, v in numbers.items()}
    )


def test_padding_up_to_a_rung_changes_nothing_and_writes_nothing() -> None:
    small, large = _Laid(), _Laid()
    assert small.steps(3) == large.steps(3, _LARGE)
    for name, found in _everything(large.board).items():
        torch.testing.assert_close(found, _everything(small.board)[name], atol=1e-5, rtol=1e-5)
        assert not found[3:].any(), name


def test_a_row_that_ended_writes_nothing() -> None:
    """The first by a token that ends texts, the last as it is full: two tokens are less than six."""
    free = _Laid()
    tokens = free.steps(3)
    laid = _Laid()
    with torch.inference_mode():
        laid.board.ends[tokens[0][1]] = True
    laid.steps(1)
    before = _everything(laid.board)
    assert laid.board.alive[:3].tolist() == [False, True, True]
    assert laid.steps(2) == [tokens[0][:2], *tokens[1:]]
    after = _everything(laid.board)
    for name, state in before.items():
        assert torch.equal(after[name][0], state[0]), name
    assert not torch.equal(after["own 0"][1], before["own 0"][1])
    assert [len(row) for row in laid.steps(9)] == [2, 6, 6]
    assert not laid.board.alive.any()


def test_tokens_that_the_model_does_not_know_end_nothing() -> None:
    """As those of a tokenizer with more tokens than the model."""
    board = _Laid().board
    with torch.inference_mode():
        board.begin(torch.tensor([7, 300, 512]), None, 6)
    assert board.ends.nonzero().squeeze(1).tolist() == [7]


def test_a_row_that_moves_still_asks() -> None:
    laid = _Laid()
    with torch.inference_mode():
        laid.board.asks[2] = True
        laid.board.move_rows(torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert laid.board.asks[:2].tolist() == [False, True]


def test_tokens_that_may_end_a_stop_string_make_a_row_ask() -> None:
    tokens = _Laid().steps(2)
    laid = _Laid()
    with torch.inference_mode():
        laid.board.may_stop[tokens[1][2]] = True
    laid.steps(1)
    assert not laid.board.asks.any()
    laid.steps(1)
    assert laid.board.asks[:3].tolist() == [False, True, False]
    assert laid.board.alive[:3].all()


def test_a_row_that_256_tokens_are_not_enough_for_stays_as_it_is() -> None:
    laid = _Laid(sampling=_NUCLEUS)
    before, made, unsure = [0], [[0]], [False]
    for _ in range(6):
        before, made = laid.board.made[:3].tolist(), laid.steps(1)
        unsure = laid.board.unsure[:3].tolist()
        if any(unsure):
            break
    assert any(unsure), "no row was unsure: choose a flatter distribution"
    assert [len(t) for t in made] == [b + (not u) for b, u in zip(before, unsure, strict=True)]
    row = unsure.index(True)
    torch.testing.assert_close(laid.board.logits[row], laid.logits[-1][row])
    first = laid.logits[-1][row]
    laid.steps(1)
    torch.testing.assert_close(laid.logits[-1][row], first)


# What makes the host wait for what the device found, or sizes follow from it.
_WAITING = ("_local_scalar_dense", "nonzero", "item", "masked_select", "unique", "is_nonzero",
            "equal.default", "repeat_interleave", "bincount")  # fmt: skip


class _Recorded(TorchDispatchMode):
    """Writes down operations with the sizes of what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one, and write it down."""
        out = func(*args, **(kwargs or {}))
        parts = out if isinstance(out, tuple | list) else (out,)
        sizes = tuple((t.shape, t.stride()) for t in parts if isinstance(t, torch.Tensor))
        self.calls.append((str(func), sizes))
        if str(func) == "aten.index.Tensor":
            assert all(i is None or i.dtype == torch.long for i in args[1]), "indexed by a mask"
        return out


@pytest.mark.parametrize("sampling", _SAMPLINGS, ids=["plain", "nucleus", "greedy", "top-k"])
@pytest.mark.parametrize("by_products", [False, True], ids=["kernel", "products"])
def test_no_step_waits_for_the_device_or_changes_its_sizes(
    sampling: SamplingConfig, by_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_products:  # as on a GPU
        for module in (attention, prompt_cache):
            monkeypatch.setattr(module, "attend", attention.attend_by_products)
    laid = _Laid(sampling=sampling)
    taken = []
    for _ in range(4):
        with _Recorded() as recorded:
            laid.step()
        taken.append(recorded.calls)
    names = {call[0].removeprefix("aten.") for call in taken[0]}
    assert not {n for n in names if n.startswith(_WAITING)}
    assert taken[0] == taken[1] == taken[2] == taken[3]
    assert len(taken[0]) > 100


def test_a_row_of_nan_is_marked_and_chooses_some_token_of_the_vocabulary() -> None:
    laid = _Laid()
    with torch.inference_mode():
        laid.board.own[0].values[1].fill_(torch.nan)
    tokens = laid.steps(2)
    assert laid.board.broken.nonzero().squeeze(1).tolist() == [1]
    assert max(tokens[1]) < 300


def test_where_steps_cannot_be_recorded_they_are_taken_as_written() -> None:
    taken: list[int] = []
    graphs = Graphs(torch.device("cpu"))
    graphs.run("any", lambda: taken.append(1), 3)
    graphs.run("any", lambda: taken.append(2), 2)
    assert taken == [1, 1, 1, 2, 2]


def test_frequencies_that_follow_from_the_longest_text_are_no_static_pass() -> None:
    def passes(**rope: Any) -> bool:
        sizes = {"rope_parameters": {"rope_theta": 1e4, **rope}} if rope else {}
        model = random_model("llama", **sizes)
        return has_static_pass(model, lean_forward(model))  # type: ignore[arg-type]

    assert passes()
    assert not passes(rope_type="dynamic", factor=2.0)


def test_rows_and_slots_are_taken_from_the_front_and_moved_together() -> None:
    seating = Seating(rows=6, slots=3, width=2)
    assert [seating.sit(prompt) for prompt in "aaabb"] == [
        (0, 0, True), (1, 0, False), (2, 1, True), (3, 2, True), (4, 2, False),
    ]  # fmt: skip
    assert [seating.has_seat(prompt) for prompt in "abc"] == [True, False, False]
    assert seating.plan() == ([0, 1, 2, 0, 3, 4], [0, 1, 2, 4, 5])
    seating.leave(0)
    seating.leave(2)
    assert (seating.taken, seating.held, seating.free) == (3, 2, 3)
    assert (seating.rows, seating.slots) == (5, 3)
    assert seating.close_gaps() == ({3: 0, 4: 2}, {2: 1})
    assert seating.plan() == ([1, 0, 0, 2], [2, 0, 3])
    assert seating.sit("a") == (3, 0, False)
    assert seating.sit("c") == (4, 2, True)


def test_leaving_the_batch_to_the_device_makes_no_step_anew() -> None:
    """Steps were stored when the number had to be given, and was 65,536 by itself."""
    free, given = (
        EngineConfig(max_batch_tokens=most).model_dump(context=IDENTITY) for most in (None, 65_536)
    )
    assert free == given
    assert EngineConfig(max_batch_tokens=9).model_dump(context=IDENTITY) != given
