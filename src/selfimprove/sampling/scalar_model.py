"""One number read off a conversation: a classifier with one logit, at its true last token.

How a reply is turned into tokens is written here once, for training and for scoring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from selfimprove.errors import EngineError
from selfimprove.sampling.arithmetic import arithmetic_of, width_of
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.loading import (
    _quiet,
    context_length,
    load_tokenizer,
    made_by,
    pick_device,
)
from selfimprove.sampling.threads import use_threads
from selfimprove.sampling.token_tree import (
    Tree,
    grown,
    laid_out,
    leaf_scores,
    may_branch,
    neighbours,
)
from selfimprove.types import Message
from selfimprove.weights import weights_digest

__all__ = ["ScalarModel", "Spoken", "fitting", "load_scalar_model", "padded", "padding_token",
           "tokenised"]  # fmt: skip

Spoken: TypeAlias = tuple[str | tuple[Message, ...], str]
"""What was asked, as plain text or as turns, and the reply whose end the number is read at."""

_CPU_TOKENS: Final = 1_024
_GPU_TOKENS: Final = 65_536


def tokenised(replies: Sequence[Spoken], tokenizer: Any) -> list[list[int]]:  # noqa: ANN401
    """Return the tokens of each conversation, the mark that ends the reply among them.

    Special tokens that stand in a text are broken by a space: no reply can end its own turn.

    Raises:
        EngineError: turns without a chat template.
    """
    texts = [_text(asked, reply, tokenizer) for asked, reply in replies]
    rows: list[list[int]] = [[] for _ in replies]
    for chat in (False, True):
        places = [i for i, (asked, _) in enumerate(replies) if (not isinstance(asked, str)) == chat]
        if places:
            found = tokenizer([texts[i] for i in places], add_special_tokens=not chat)["input_ids"]
            for i, row in zip(places, found, strict=True):
                rows[i] = row if chat else _ended(row, tokenizer.eos_token_id)
    return rows


def _text(asked: str | tuple[Message, ...], reply: str, tokenizer: Any) -> str:  # noqa: ANN401
    if isinstance(asked, str):
        return _harmless(asked, tokenizer) + _harmless(reply, tokenizer)
    if not tokenizer.chat_template:
        raise EngineError(
            "the prompts hold turns, but the model has no chat template: give plain text "
            "(engine.chat=false), or a model that was tuned for chat"
        )
    turns = [{"role": m.role, "content": _harmless(m.content, tokenizer)} for m in asked]
    turns.append({"role": "assistant", "content": _harmless(reply, tokenizer)})
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    return text


def _harmless(text: str, tokenizer: Any) -> str:  # noqa: ANN401
    for token in tokenizer.all_special_tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _ended(row: list[int], eos: int | None) -> list[int]:
    """A plain reply has no mark of a template at its end; without one a cut reply looks whole."""
    return row if eos is None or row[-1:] == [eos] else [*row, eos]


def fitting(
    rows: Sequence[Sequence[int]],
    replies: Sequence[Spoken],
    tokenizer: Any,  # noqa: ANN401
    limit: int,
) -> list[tuple[int, ...] | None]:
    """Cut the beginning of rows above `limit` tokens; None where not even the reply fits."""
    fit: list[tuple[int, ...] | None] = []
    for row, (_, reply) in zip(rows, replies, strict=True):
        whole = len(row) <= limit
        # One token before the reply and one behind it are the least that it stands between.
        alone = 0 if whole else len(tokenizer(reply, add_special_tokens=False)["input_ids"]) + 2
        fit.append(tuple(row[-limit:]) if alone <= limit else None)
    return fit


def padding_token(tokenizer: Any, ends: set[int]) -> int:  # noqa: ANN401
    """Return a token that no row ends in: transformers finds a row's last token by its padding."""
    named = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    candidates: list[int] = [token for token in named if token is not None]
    candidates += range(len(ends) + 1)
    return next(token for token in candidates if token not in ends)


def padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Return rows as one matrix, padded on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])


@dataclass(frozen=True, slots=True)
class ScalarModel:
    """A loaded classifier with one logit."""

    model: Any
    tokenizer: Any
    context: int
    """Tokens that a row may have."""
    identity: Mapping[str, str]
    """Versions, device, dtype and the weights digest: stored with the scores."""

    @property
    def settings(self) -> dict[str, Any]:
        """What its training noted in its config: what it reads, and how that is laid out."""
        found: dict[str, Any] = getattr(self.model.config, "selfimprove", None) or {}
        return found

    def read(self, replies: Sequence[Spoken]) -> list[float | None]:
        """Return the number of each reply; None where the reply does not fit into the context."""
        rows = tokenised(replies, self.tokenizer)
        fit = fitting(rows, replies, self.tokenizer, self.context)
        told = iter(self.scores([row for row in fit if row is not None]))
        return [None if row is None else next(told) for row in fit]

    @torch.inference_mode()
    def scores(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Score rows of tokens; what neighbours begin with is read once where the model allows it."""
        share = may_branch(self.model)
        groups = neighbours(rows) if share else [[n] for n in range(len(rows))]
        trees = [grown([rows[i] for i in group]) for group in groups]
        found = [0.0] * len(rows)
        for batch in self._batches(trees):
            told = iter(self._read([trees[n] for n in batch], share=share))
            for place in (place for n in batch for place in groups[n]):
                found[place] = next(told)
        return found

    def _read(self, trees: Sequence[Tree], *, share: bool) -> list[float]:
        pad: int = self.model.config.get_text_config().pad_token_id
        if share:
            batch = {k: v.to(self.model.device) for k, v in laid_out(trees, pad).items()}
            told: list[float] = leaf_scores(self.model, batch).tolist()
            return told
        # Nothing that is read can see the padding behind it, so a decoder needs no mask.
        ids = padded([tree.ids for tree in trees], pad).to(self.model.device)
        logits: list[float] = self.model(ids, use_cache=False).logits[:, 0].tolist()
        return logits

    def _batches(self, trees: Sequence[Tree]) -> Iterator[list[int]]:
        """Trees of like size together, as many as fit with their padding."""
        most = _GPU_TOKENS if self.model.device.type == "cuda" else _CPU_TOKENS
        batch: list[int] = []
        for n in sorted(range(len(trees)), key=lambda n: len(trees[n].ids)):
            if batch and (len(batch) + 1) * len(trees[n].ids) > most:
                yield batch
                batch = []
            batch.append(n)
        if batch:
            yield batch


def load_scalar_model(folder: Path, engine: EngineConfig) -> ScalarModel:
    """Load a decoder with one logit, such as `train_reward` and `train_gap_reward` write.

    Raises:
        EngineError: the folder holds none.
    """
    from transformers import AutoModelForSequenceClassification

    use_threads(engine.threads)
    device = pick_device(engine.device)
    use = arithmetic_of(engine.dtype, device, width_of(folder))
    with _quiet():
        try:
            model, about = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=use.torch_dtype, use_safetensors=True, local_files_only=True,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise EngineError(f"cannot load a reward model from {folder}: {error}") from error
    if about["missing_keys"] or model.config.num_labels != 1:
        raise EngineError(f"{folder} is no reward model: it needs a trained head with one logit")
    if may_branch(model):
        model.score.float()  # sixteen bits would round away small differences
    tokenizer = load_tokenizer(folder)
    limit = context_length(model) or tokenizer.model_max_length
    model = model.to(device).eval()
    told = {
        "engine": "reward model",
        **made_by(model, weights_digest(folder)),
        "dtype_because": use.why,
    }
    return ScalarModel(model, tokenizer, limit, told)
