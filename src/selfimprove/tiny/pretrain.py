"""Makes the shipped tiny models: `selfimprove tiny pretrain`.

A plain loop: fp32 weights, under bf16 autocast where that is fast, AdamW, a short warm-up, then a learning rate that
falls linearly to zero. It has to reach zero: on a base that was stopped earlier, the decay of any
later fine-tuning would pass for self-improvement.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from selfimprove.errors import TrainingError
from selfimprove.files import make_folder, writing_to
from selfimprove.progress import track
from selfimprove.seeds import seed_of
from selfimprove.tiny import tokenizer as words_and_problems
from selfimprove.tiny.card import Made, write_card
from selfimprove.tiny.corpus import Document, documents
from selfimprove.tiny.keeps import card as keeps_card
from selfimprove.tiny.keeps import corpus as keeps_corpus
from selfimprove.tiny.keeps import tokenizer as keeps_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["SIZES", "Size", "pretrain"]

Size: TypeAlias = Literal["tiny", "tinier", "tiny-keeps"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of one tiny model and how long it learns."""

    hidden: int
    layers: int
    heads: int
    inner: int
    steps: int
    rows: int = 32
    """Of `ROW_TOKENS` tokens in a step."""
    tied: bool = True
    """Whether reading and writing a word share its vector."""


SIZES: Final[dict[Size, Shape]] = {
    "tiny": Shape(hidden=128, layers=4, heads=4, inner=384, steps=2000),
    "tinier": Shape(hidden=96, layers=3, heads=3, inner=256, steps=600),
    "tiny-keeps": Shape(hidden=128, layers=4, heads=4, inner=384, steps=1700, rows=20, tied=False),
}

CONTEXT: Final = 512
ROW_TOKENS: Final = 256
_LEARNING_RATE: Final = 3e-3
_WARMUP_STEPS: Final = 100
CHECKPOINT_STEPS: Final = 200
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4


def pretrain(
    out: Path,
    *,
    size: Size = "tiny",
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
) -> Path:
    """Pretrain a tiny model and save it as a Hugging Face folder; run again to resume.

    Args:
        out: the folder to make; a checkpoint lies in it while training goes on.
        size: which of the shipped models; `tiny-keeps` learns the world of `tiny.keeps`.
        seed: of the initial weights and of the texts; the world itself never changes.
        steps: of 8,192 tokens each (tiny-keeps: 5,120); None: as many as the shipped model had.
        device: where to train, e.g. `cpu` or `cuda`.

    Raises:
        StoreError: `out` cannot be written, or the disk is full.
    """
    steps = steps or SIZES[size].steps
    made = Made(size, seed, steps, steps * SIZES[size].rows * ROW_TOKENS)
    tokenizer = (keeps_words if size == "tiny-keeps" else words_and_problems).build(CONTEXT)
    make_folder(out)
    checkpoint = out / "checkpoint.pt"
    with writing_to(out), TemporaryFile(dir=out):  # told before half an hour of training
        model = _train(checkpoint, made, SIZES[size], tokenizer, device)
        model.bfloat16().save_pretrained(out)
        tokenizer.save_pretrained(out)
        (keeps_card.write_card if size == "tiny-keeps" else write_card)(out, made)
    checkpoint.unlink(missing_ok=True)
    return out


def _train(
    checkpoint: Path, made: Made, shape: Shape, tokenizer: PreTrainedTokenizerFast, device: str
) -> LlamaForCausalLM:
    import torch

    _keep_freed_memory()
    torch.manual_seed(seed_of(made.seed, "weights", made.size))
    with torch.device(device):
        model = _model(shape, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01
    )
    compiled = device == "cpu" and shutil.which("g++") is not None
    loss_of = _loss_function(model, compiled=compiled)
    first = _restore(checkpoint, made, model, optimizer)
    for step in track(range(first, made.steps), "pretraining", made.steps - first):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * _schedule(step, made.steps)
        loss_of(_rows(tokenizer, _documents(made, step), shape.rows).to(device)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % CHECKPOINT_STEPS == 0:
            _checkpoint(checkpoint, made, model, optimizer, step + 1)
    return model


def _keep_freed_memory() -> None:
    """Stop glibc from handing every large block back to the system: 1.6 times faster on a CPU."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _model(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # The fused attention's backward pass is the slower one on a CPU.
    model: LlamaForCausalLM = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def _schedule(step: int, steps: int) -> float:
    return min((step + 1) / _WARMUP_STEPS, 1.0) * (1 - step / steps)


@dataclass(frozen=True, slots=True)
class Packed:
    """Documents packed into rows; each sees itself alone and counts its places from 0."""

    tokens: Tensor  # (rows, ROW_TOKENS)
    positions: Tensor  # (rows, ROW_TOKENS)
    learnt: Tensor  # (rows, ROW_TOKENS), whether a token is foretold from those before it
    mask: Tensor  # (rows, 1, ROW_TOKENS, ROW_TOKENS), added to the attention scores

    def to(self, device: str) -> Packed:
        return Packed(self.tokens.to(device), self.positions.to(device), self.learnt.to(device),
                      self.mask.to(device))  # fmt: skip


def _documents(made: Made, step: int) -> Iterator[Document]:
    if made.size == "tiny-keeps":
        taught = step in keeps_corpus.LESSONS
        return (keeps_corpus.lessons if taught else keeps_corpus.documents)(made.seed, "step", step)
    return (Document("", text) for text in documents(made.seed, "step", step))


def _rows(tokenizer: PreTrainedTokenizerFast, texts: Iterable[Document], most: int) -> Packed:
    """Return the rows of one step: documents packed whole, cut only at a row's length."""
    rows: list[list[tuple[list[int], int]]] = [[]]
    free = ROW_TOKENS
    for document in texts:
        read, learnt = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in document)
        ids = [*read, *learnt][:ROW_TOKENS]
        if len(ids) > free:
            if len(rows) == most:
                break
            rows.append([])
            free = ROW_TOKENS
        rows[-1].append((ids, len(read)))
        free -= len(ids)
    return _packed(rows, tokenizer.pad_token_id)


def _packed(rows: list[list[tuple[list[int], int]]], pad: int) -> Packed:
    import torch

    tokens = torch.full((len(rows), ROW_TOKENS), pad)
    positions = torch.zeros_like(tokens)
    learnt = torch.zeros_like(tokens, dtype=torch.bool)
    owner = torch.full_like(tokens, -1)
    for row, packed in enumerate(rows):
        at = 0
        for number, (ids, read) in enumerate(packed):
            here = slice(at, at + len(ids))
            tokens[row, here] = torch.tensor(ids)
            positions[row, here] = torch.arange(len(ids))
            # The first token of a document is not foretold from the one before it.
            learnt[row, at + max(read, 1) : at + len(ids)] = True
            owner[row, here] = number
            at += len(ids)
    # A copy is learnt from the one place it can come from: other documents must not be seen.
    same = owner[:, None, :, None] == owner[:, None, None, :]
    seen = same & torch.ones(ROW_TOKENS, ROW_TOKENS, dtype=torch.bool).tril()
    mask = torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill(~seen, -1e9)
    return Packed(tokens, positions, learnt, mask)


def _loss_function(model: LlamaForCausalLM, *, compiled: bool) -> Callable[[Packed], Tensor]:
    import torch

    # A processor that only emulates bfloat16 is several times slower at it.
    fast = model.device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()

    def loss_of(rows: Packed) -> Tensor:
        return _loss(rows.tokens, rows.positions, rows.learnt, rows.mask)

    def _loss(tokens: Tensor, positions: Tensor, learnt: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=fast):
            logits = model(
                tokens, attention_mask=mask, position_ids=positions, use_cache=False
            ).logits[:, :-1]
        targets = torch.where(learnt[:, 1:], tokens[:, 1:], -100)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100
        )

    if compiled:
        _loss = torch.compile(_loss)
    return loss_of


def _checkpoint(
    path: Path, made: Made, model: LlamaForCausalLM, optimizer: Optimizer, step: int
) -> None:
    import torch

    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state | {"made": asdict(made)}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _restore(path: Path, made: Made, model: LlamaForCausalLM, optimizer: Optimizer) -> int:
    """Return the first step still to do."""
    import torch

    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise TrainingError(
            f"{path} is damaged: delete it, and the training starts anew"
        ) from error
    if state["made"] != asdict(made):
        raise TrainingError(
            f"{path} is of another run, {state['made']}, now wanted {asdict(made)}: "
            "delete it, or choose another folder"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
    return step
