"""A reward model as a judge: a sequence classifier with one logit.

One that was trained here notes how, and reads what it judges in the same way. Of those from elsewhere
most are decoders that were trained on their chat template; others are encoders that were trained on
text pairs, as `tokenizer(prompt, response)` makes them: two segments with a separator between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from selfimprove.errors import EngineError
from selfimprove.judges.own_reward import reward_scorer
from selfimprove.judges.plain_reward import reads_gaps, trained_here
from selfimprove.judges.reward_rows import Improved, Scores
from selfimprove.reasoning import parted
from selfimprove.rows import Batch
from selfimprove.sampling.conversation import Spoken, in_words
from selfimprove.sampling.encoder import Encoder, encoder_of
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.types import Message, Response, Verdict
from selfimprove.weights import weights_digest

__all__ = ["Layout", "conversation_verdicts", "reward_verdicts"]

Layout: TypeAlias = Literal["chat", "pair", "text"]
"""How a classifier is shown prompt and response: as turns of its chat template; as two segments; or as
one text with an empty line between them."""

_TOKENS_AT_ONCE: Final = 16_384


def reward_verdicts(
    chunks: Sequence[Sequence[Response]],
    model: Served,
    layout: Layout | None = None,
) -> Iterator[Batch[Verdict]]:
    """Score each response once by the classifier's logit; one too long for it stays unscored.

    Args:
        chunks: responses, each to one turn of the user.
        model: the classifier.
        layout: how it is shown prompt and response; None: as it was trained where that was here, else
            the chat template where the tokenizer has one, else a pair where the tokenizer parts two
            segments, else one text.

    Raises:
        EngineError: the folder holds no classifier with one logit, or one of gaps, or no template for
            `chat`.
    """
    asked = [
        [
            Improved(r.prompt_id, r.index, (Message("user", r.prompt),), r.text,
                     finished=r.is_finished)
            for r in chunk
        ]
        for chunk in chunks
    ]  # fmt: skip
    return conversation_verdicts(asked, model, layout)


def conversation_verdicts(
    chunks: Sequence[Sequence[Improved]],
    model: Served,
    layout: Layout | None = None,
) -> Iterator[Batch[Verdict]]:
    """Score candidates likewise, each the reply to a conversation of one or more turns.

    The tokens of prompts and responses that were read are the batch's `prompt_tokens`.
    """
    scorer = model.scorer(partial(_scorer, layout=layout))
    why = f"longer than the reward model's context of {scorer.context} tokens"
    for chunk in chunks:
        scores, tokens_read = scorer.told([_without_reasoning(row) for row in chunk])
        verdicts = [
            Verdict(row.prompt_id, row.index, 0, score, why if score is None else None, "")
            for row, score in zip(chunk, scores, strict=True)
        ]
        yield Batch(verdicts, prompt_tokens=tokens_read, engine=scorer.identity)


def _without_reasoning(row: Improved) -> Improved:
    said = parted(row.candidate)
    return replace(row, candidate=said.response, finished=row.finished and said.finished)


class _Scorer(Protocol):
    """A reward model in memory."""

    @property
    def context(self) -> int: ...
    @property
    def identity(self) -> Mapping[str, str]: ...

    def told(self, rows: Sequence[Improved]) -> Scores: ...


def _scorer(folder: Path, engine: EngineConfig, layout: Layout | None) -> _Scorer:
    if reads_gaps(folder):
        raise EngineError(f"{folder} is a gap reward model, not one of single responses")
    if layout is None and trained_here(folder):
        return reward_scorer(folder, engine)
    return _load(folder, engine, layout)


class _Row(NamedTuple):
    """Prompt and response as the model reads them."""

    ids: list[int]
    segments: list[int] | None = None
    """Of each token, 0 in the prompt and 1 in the response; None: the model is not told."""


@dataclass(frozen=True, slots=True)
class _Classifier:
    """A loaded reward model."""

    model: Any
    tokenizer: Any
    encoder: Encoder
    layout: Layout
    context: int
    identity: Mapping[str, str]
    """Versions, device, dtype and the weights digest: stored with the scores."""

    def told(self, rows: Sequence[Improved]) -> Scores:
        """Return the logit of each candidate."""
        read = [self.row(row) for row in rows]
        fits = [i for i, row in enumerate(read) if len(row.ids) <= self.context]
        known = dict(zip(fits, self.scores([read[i] for i in fits]), strict=True))
        return Scores([known.get(i) for i in range(len(read))], sum(len(read[i].ids) for i in fits))

    def row(self, told: Improved) -> _Row:
        """Return the tokens of prompt and response."""
        turns, text = told.prompt, told.candidate
        if self.layout == "chat":
            return _Row(*self.encoder.conversations([Spoken(turns, text, told.finished)]))
        if self.layout == "text":
            return _Row(*self.encoder.whole_texts([f"{in_words(turns)}\n\n{text}"]))
        return _Row(*self.encoder.pair(in_words(turns), text))

    def scores(self, rows: Sequence[_Row]) -> list[float]:
        """Score rows in batches of like length."""
        import torch

        scores = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        with torch.inference_mode():
            while order:
                count = max(_TOKENS_AT_ONCE // max(len(rows[order[-1]].ids), 1), 1)
                batch, order = order[-count:], order[:-count]
                for i, score in zip(batch, self._logits([rows[i] for i in batch]), strict=True):
                    scores[i] = score
        return scores

    def _logits(self, rows: Sequence[_Row]) -> list[float]:
        """Return the logit of each row, read where the architecture reads it.

        A decoder looks for the last token of a row, an encoder at its first one; those that look at
        the last place of the batch have tokenizers that pad on the left.
        """
        import torch

        longest = max(len(row.ids) for row in rows)
        left = self.layout == "pair" and self.tokenizer.padding_side == "left"

        def padded(values: Sequence[Sequence[int]], pad: int) -> Any:  # noqa: ANN401
            filling = [[pad] * (longest - len(row)) for row in values]
            wide = [[*f, *v] if left else [*v, *f] for v, f in zip(values, filling, strict=True)]
            return torch.tensor(wide, device=self.model.device)

        batch = {
            "input_ids": padded([row.ids for row in rows], self.model.config.pad_token_id),
            "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        }
        segments = [row.segments for row in rows if row.segments is not None]
        if segments:
            batch["token_type_ids"] = padded(segments, self.tokenizer.pad_token_type_id)
        return [float(score) for score in self.model(**batch).logits[:, 0]]


def _layout_of(tokenizer: Any, config: Any) -> Layout:  # noqa: ANN401
    """Return how a classifier was trained, as far as its tokenizer and its config show it."""
    if tokenizer.chat_template:
        return "chat"
    one, pair = tokenizer("a"), tokenizer("a", "b")
    between = tokenizer.sep_token_id
    parts = between is not None and pair["input_ids"].count(between) > one["input_ids"].count(
        between
    )
    # Tokenizers number segments for decoders too, which have no embeddings of them.
    numbered = config.to_dict().get("type_vocab_size", 0) > 1 and 1 in pair.get(
        "token_type_ids", ()
    )
    return "pair" if parts or numbered else "text"


def _load(folder: Path, engine: EngineConfig, layout: Layout | None) -> _Classifier:
    from selfimprove.sampling.loading import context_length, load_tokenizer, made_by, pick_device
    from selfimprove.sampling.quantized import in_eight_bits, made_in

    tokenizer = load_tokenizer(folder)
    model = _model(folder, engine)
    if engine.quantization:
        in_eight_bits(model)
    model = model.to(pick_device(engine.device)).eval()
    config = model.config
    if config.num_labels != 1:
        raise EngineError(f"{folder} has {config.num_labels} logits; a reward model has one")
    if config.pad_token_id is None:
        # Transformers finds a row's last token by it; a token that no text ends in will do.
        config.pad_token_id = next(
            (t for t in (tokenizer.pad_token_id, tokenizer.unk_token_id) if t is not None), 0
        )
    layout = layout or _layout_of(tokenizer, config)
    if layout == "chat" and not tokenizer.chat_template:
        raise EngineError(f"{folder} has no chat template: set judge.layout to pair or text")
    longest: int = tokenizer.model_max_length
    limit = context_length(model.config) or longest
    if layout == "pair":
        limit = min(limit, longest)  # RoBERTa has two more positions than it can read
    told = {"engine": "reward model", "layout": layout, **made_by(model, weights_digest(folder)),
            **made_in(engine.quantization)}  # fmt: skip
    encoder = encoder_of(tokenizer, engine.chat_template_kwargs)
    return _Classifier(model, tokenizer, encoder, layout, limit, told)


def _model(folder: Path, engine: EngineConfig) -> Any:  # noqa: ANN401
    """Load the classifier; a folder without a trained head would be given a random one."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from selfimprove.sampling.loading import UNREADABLE, pick_device

    gpu = pick_device(engine.device).type == "cuda"
    dtype = ("bfloat16" if gpu else "float32") if engine.dtype == "auto" else engine.dtype
    try:
        model, about = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    except UNREADABLE as error:
        raise EngineError(f"cannot load a sequence classifier from {folder}: {error}") from error
    if about["missing_keys"]:
        missing = ", ".join(sorted(about["missing_keys"])[:3])
        raise EngineError(
            f"{folder} is no reward model: it holds no weights for {missing}; train one, or name "
            "another model in judge.model"
        )
    return model
