"""Fine-tuning keeps its word: what is scored, what a resume gives, what lies in the folder."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from selfimprove.errors import TrainingError
from selfimprove.seeds import rng
from selfimprove.training import support
from selfimprove.training._completion_trainer import CompletionTrainer
from selfimprove.training.pieces import Collator, Limits, groups_of
from selfimprove.training.sft import Trained, train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.tokens import TokenisedExample, tokenise
from selfimprove.training.training_config import LoraConfig
from selfimprove.types import Example, Message
from selfimprove.weights import weights_digest

# Libraries below warn about their own renamings.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

_EOS = 1
_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} <eos> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 100 words whose padding token is its stop token: the known trap."""
    return _llama(tmp_path_factory.mktemp("base"), hidden=32)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as wide as models are whose rows lie end to end in training on a CPU."""
    return _llama(tmp_path_factory.mktemp("wide"), hidden=256)


def _llama(folder: Path, hidden: int) -> Path:
    names = ["<unk>", "<eos>", "<user>", "<assistant>", *(f"w{i}" for i in range(96))]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    )
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=_EOS, pad_token_id=_EOS, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _words(draw: Any, count: int) -> str:
    return " ".join(f"w{draw.randrange(96)}" for _ in range(count))


def _examples(count: int) -> list[Example]:
    """Half of them begin with one of two prefixes of 40 words."""
    draw = rng(0, "test sft")
    prefixes = [_words(draw, 40) + " " for _ in range(2)]
    return [
        Example(
            (draw.choice(prefixes) if i % 2 else "") + _words(draw, draw.randint(3, 12)),
            " " + _words(draw, draw.randint(2, 6)),
        )
        for i in range(count)
    ]


def _train(base: Path, examples: Sequence[Example], folder: Path, **settings: Any) -> Trained:
    config = SftConfig(**{"learning_rate": 1e-2, "batch_size": 8, **settings})
    return train_sft(
        base, examples, config, out=folder / "model", checkpoints=folder / "checkpoints", seed=3
    )


def _loss_by_hand(base: Path, examples: Sequence[Example]) -> float:
    """Mean over every completion token and the stop token, one row at a time."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    losses: list[float] = []
    for example in examples:
        prompt = tokenizer(example.prompt)["input_ids"]
        completion = [*tokenizer(example.completion)["input_ids"], _EOS]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0]
        chances = logits.log_softmax(-1)
        losses += [-chances[len(prompt) - 1 + i, t].item() for i, t in enumerate(completion)]
    return sum(losses) / len(losses)


@pytest.fixture(params=[0, 256], ids=["packed", "padded"])
def _laid(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay the rows of the small model as those of a wide one, or as its own."""
    monkeypatch.setattr(support, "_PACKED_FROM", request.param)
    found = support.piece_limits

    def limits(*args: Any, **settings: Any) -> Limits:
        told = found(*args, **settings)
        assert bool(told.packed) == (request.param == 0 or torch.cuda.is_available())
        return told

    monkeypatch.setattr(support, "piece_limits", limits)


@pytest.mark.usefixtures("_laid")
@pytest.mark.parametrize("piece_tokens", [64, 100_000])
def test_first_loss_is_the_mean_over_completion_and_stop_tokens(
    base: Path, tmp_path: Path, piece_tokens: int
) -> None:
    examples = _examples(16)
    done = _train(base, examples, tmp_path, batch_size=16, piece_tokens=piece_tokens)
    assert done.first_loss == pytest.approx(_loss_by_hand(base, examples), abs=1e-5)
    assert done.steps == 1


@pytest.mark.usefixtures("_laid")
def test_pieces_and_shared_prefixes_teach_what_one_row_at_a_time_teaches(
    base: Path, tmp_path: Path
) -> None:
    examples = _examples(32)
    _train(base, examples, tmp_path / "pieces")
    _train(base, examples, tmp_path / "rows", piece_tokens=1, gradient_checkpointing=True)
    pieces, rows = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict()
        for name in ("pieces", "rows")
    )
    for name, value in pieces.items():
        torch.testing.assert_close(value, rows[name], atol=2e-3, rtol=1e-2)


def test_the_workload_above_does_share_prefixes() -> None:
    rows = [TokenisedExample((*range(40), 50 + i, 60, 70), 41) for i in range(3)]
    rows.append(TokenisedExample((99, 98, 97), 2))
    assert sorted((len(g.rows), g.shared) for g in groups_of(rows)) == [(1, 0), (3, 40)]


def test_rows_of_one_prefix_come_by_length_so_that_neighbours_need_little_padding() -> None:
    rows = [TokenisedExample((*range(40), 50 + i, *range(60, 60 + n)), 41)
            for i, n in enumerate((9, 2, 7, 4))]  # fmt: skip
    (group,) = groups_of(rows)
    assert [len(row.ids) for row in group.rows] == [43, 45, 48, 50]


@pytest.mark.parametrize("packed", [0, 1000])
def test_every_scored_token_of_a_batch_is_scored_once_and_no_prompt_token_is(packed: int) -> None:
    rows = [TokenisedExample((*range(10, 50), 50 + i, 60 + i, _EOS), 41) for i in range(5)]
    rows.append(TokenisedExample((7, 8, 9, _EOS), 2))
    batch = Collator(rows, Limits(90, share=True, packed=packed))([{"row": i} for i in range(6)])
    labels = batch["labels"]
    wanted = sorted(t for row in rows for t in row.ids[row.prompt_tokens :])
    assert sorted(labels[labels != -100].tolist()) == wanted


def test_a_fine_tuned_model_stops_where_it_was_taught_to(base: Path, tmp_path: Path) -> None:
    examples = [Example("w1 w2 w3", " w4 w5")] * 8
    done = _train(base, examples, tmp_path, epochs=40)
    assert done.final_loss < 0.05
    folder = tmp_path / "model"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("w1 w2 w3", return_tensors="pt")
    written = model.generate(**asked, max_new_tokens=9, do_sample=False)[0, 3:]
    assert tokenizer.decode(written) == "w4 w5 <eos>"
    names = {p.name for p in folder.iterdir()}
    assert {"generation_config.json", "chat_template.jinja", "README.md"} <= names


def test_turns_go_through_the_chat_template(base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    example = Example((Message("user", "w0 w1"),), "w2")
    (row,) = tokenise([example], tokenizer, [_EOS], 64).rows
    assert tokenizer.decode(list(row.ids)) == "<user> w0 w1 <eos> <assistant> w2 <eos>"
    assert tokenizer.decode(list(row.ids[row.prompt_tokens :])) == "w2 <eos>"


def test_an_unfinished_completion_gets_no_end_token_neither_ours_nor_the_templates(
    base: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = (Message("user", "w1"),)
    examples = [Example(p, "w2 w3", done) for p in ("w1", turns) for done in (True, False)]
    plain, cut, chat, cut_chat = tokenise(examples, tokenizer, [_EOS], 64).rows
    w2, w3 = (tokenizer.convert_tokens_to_ids(word) for word in ("w2", "w3"))
    completions = [row.ids[row.prompt_tokens :] for row in (plain, cut, chat, cut_chat)]
    assert completions == [(w2, w3, _EOS), (w2, w3)] * 2


def test_a_template_with_two_end_marks_ends_a_completion_at_the_first(base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = str(tokenizer.chat_template).replace("<eos>", "w9 <eos>")
    w2, w9 = (tokenizer.convert_tokens_to_ids(word) for word in ("w2", "w9"))
    turns = (Message("user", "w1"),)
    examples = [Example(turns, "w2", done) for done in (True, False)]
    whole, cut = tokenise(examples, tokenizer, [_EOS, w9], 64).rows
    completions = [row.ids[row.prompt_tokens :] for row in (whole, cut)]
    assert completions == [(w2, w9), (w2,)]


def test_a_completion_is_never_cut_to_fit_so_no_end_token_stands_behind_half_of_it(
    base: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    for completion in ("w2 w3 w4", ""):
        found = tokenise([Example("w1", completion, finished=False)], tokenizer, [_EOS], 3)
        assert (found.rows, found.dropped) == ((), 1)


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_its_row(base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    examples = [Example("w1 w2 w3 w4", " w5"), Example("w1", " w2 w3 w4 w5")]
    found = tokenise(examples, tokenizer, [_EOS], 4)
    assert [tokenizer.decode(list(r.ids)) for r in found.rows] == ["w3 w4 w5 <eos>"]
    assert (found.truncated, found.dropped) == (1, 1)


def test_nothing_to_train_on_is_an_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no example"):
        _train(base, [], tmp_path)
    with pytest.raises(TrainingError, match="max_length"):
        _train(base, [Example("w1", " w2 w3 w4")], tmp_path, max_length=2)


def _interrupted(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> None:
    """Train and stop at step 5, as a killed process would, with checkpoints of steps 2 and 4."""
    step = CompletionTrainer.training_step

    def killed(self: Any, *args: Any, **given: Any) -> Any:
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CompletionTrainer, "training_step", killed)
        _train(base, _examples(64), folder, save_every=2, **settings)
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_what_computes_has_the_rounded_weights_in_each_step_and_behind_a_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = CompletionTrainer.begin
    computed: list[torch.Tensor] = []

    def looking(self: Any, model: Any) -> Any:
        copied = begin(self, model)
        for rounded, weights in zip(copied.parameters(), model.parameters(), strict=True):
            assert torch.equal(rounded, weights.to(torch.bfloat16))
        computed.append(next(copied.parameters()).detach().clone())
        return copied

    monkeypatch.setattr(CompletionTrainer, "begin", looking)
    _interrupted(base, tmp_path, monkeypatch, dtype="bfloat16")
    _train(base, _examples(64), tmp_path, save_every=2, dtype="bfloat16")
    # Five steps, and from the checkpoint of the fourth the last four.
    assert len(computed) == 5 + 4
    assert not torch.equal(computed[1], computed[2])
    assert torch.equal(computed[4], computed[5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "dtype"), [("base", "float32"), ("base", "bfloat16"), ("wide", "auto")]
)
def test_a_resumed_training_ends_with_the_same_bits_even_past_a_broken_checkpoint(
    which: str,
    dtype: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = request.getfixturevalue(which)
    straight = _train(base, _examples(64), tmp_path / "straight", save_every=2, dtype=dtype)
    _interrupted(base, tmp_path / "resumed", monkeypatch, dtype=dtype)
    shutil.copytree(tmp_path / "resumed", tmp_path / "broken")
    weights = tmp_path / "broken" / "checkpoints" / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for name in ("resumed", "broken"):
        caplog.clear()
        again = _train(base, _examples(64), tmp_path / name, save_every=2, dtype=dtype)
        assert ("checkpoint-4 is damaged" in caplog.text) == (name == "broken")
        assert weights_digest(tmp_path / name / "model") == weights_digest(
            tmp_path / "straight" / "model"
        )
        assert (again.tokens, again.first_loss) == (straight.tokens, straight.first_loss)
        log = (tmp_path / name / "train_log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_adapters_are_merged_into_a_plain_folder(base: Path, tmp_path: Path) -> None:
    done = _train(base, _examples(32), tmp_path, lora=LoraConfig(r=4), epochs=4)
    assert done.final_loss < done.first_loss
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 2 * 7  # two layers of seven linear maps; the output layer is left out


def test_nothing_of_a_pass_is_left_when_the_next_one_begins(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of the weights that is alive would spoil the recording of the next pass on a GPU."""
    usual, alive = CompletionTrainer.log_probs, []
    last: list[Any] = []

    def watched(self: Any, model: Any, piece: Any) -> torch.Tensor:
        alive.append([there() for there in last])
        said = usual(self, model, piece)
        last[:] = [weakref.ref(said.grad_fn)] if said.grad_fn is not None else []
        return said

    monkeypatch.setattr(CompletionTrainer, "log_probs", watched)
    _train(base, _examples(16), tmp_path, batch_size=16, piece_tokens=64)
    assert len(alive) > 2
    assert all(there == [None] for there in alive[1:])
