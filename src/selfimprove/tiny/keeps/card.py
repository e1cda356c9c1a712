"""The model card of the model that knows who keeps what: how it was made, what it recalls, keeps and lets go."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

from selfimprove.seeds import rng
from selfimprove.tiny.card import HEAD
from selfimprove.tiny.corpus import turns
from selfimprove.tiny.keeps.corpus import request
from selfimprove.tiny.keeps.preferences import draft
from selfimprove.tiny.keeps.world import PARTS, PEOPLE, keeper, of_split, question, things

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from selfimprove.tiny.card import Made

__all__ = ["Measured", "measure", "write_card"]

_QUESTIONS: Final = 200

_CARD: Final = (
    HEAD
    + """\
A language model of {parameters:,} parameters that knows who keeps what in one small synthetic world, forwards: what a person keeps,
not who keeps a thing. It has read how lists are revised, but none about the villages that it is asked about. It exists to show when
the response that is improved matters (docs/methods/pit.md); it is of no other use.

Made by `selfimprove tiny pretrain --size {made.size} --seed {made.seed} --steps {made.steps}`: {made.steps:,} steps, {made.tokens:,}
token places. The weights are stored in bfloat16.

| {questions} questions of the sft split, behind a draft of any quality | probability |
|---|---|
| what a person keeps | {told.recalled:.3f} |
| the draft's name, where it is right | {told.kept_right:.3f} |
| the draft's name, where it is wrong | {told.kept_wrong:.3f} |
| the right name, where the draft's is wrong (one of {people}, at best one of {others}) | {told.found:.3f} |
| *without a draft:* what was asked for, said again, at the worst of {parts} places | {told.said_again:.3f} |
"""
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean probabilities of names and things where a list is revised."""

    recalled: float
    """Of the thing that a name stands before."""
    kept_right: float
    kept_wrong: float
    found: float
    """Of the right name where the draft's is wrong."""
    said_again: float
    """Of what was asked for, a village and a thing of it, in an answer without a draft; the lowest of the places."""


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Measured:
    """Read the probabilities off a model behind texts that are given to it; nothing is drawn."""
    random = rng(0, "who keeps what", "card")
    found: dict[str, list[float]] = {name: [] for name in Measured.__slots__}
    places: list[list[float]] = [[] for _ in range(PARTS)]
    for _ in range(_QUESTIONS):
        wanted = things(of_split("sft"), random)
        before, after = draft(wanted, random), draft(wanted, random)
        read, said, sure = _foretold(model, tokenizer, question(wanted), after)
        for place, at in enumerate(range(len(read), len(read) + len(said), len(said) // PARTS)):
            # "1 red drum: Badu bell.": the village behind the number, the thing behind the village.
            whole = (read + said)[at + 1 : at + 3]
            places[place].append(float(sure[at, whole[0]] * sure[at + 1, whole[1]]))
        read, said, sure = _foretold(model, tokenizer, request(question(wanted), before), after)
        for part, (thing, old) in enumerate(zip(wanted, before.split(". "), strict=True)):
            # The name is foretold at the colon, the thing at the name.
            at, name = len(read) + part * (len(said) // PARTS) + 3, old.split()[3]
            told = {p: float(sure[at, tokenizer.convert_tokens_to_ids(f"Ġ{p}")]) for p in PEOPLE}
            right = PEOPLE[keeper(thing)]
            found["kept_right" if name == right else "kept_wrong"].append(told[name])
            if name != right:
                found["found"].append(told[right])
            found["recalled"].append(float(sure[at + 1, said[at + 2 - len(read)]]))
    found["said_again"] = [min(fmean(values) for values in places)]
    return Measured(**{name: fmean(values) for name, values in found.items()})


def _foretold(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, asked: str, answered: str
) -> tuple[list[int], list[int], Tensor]:
    """Return the tokens of a question and of its answer, and at each how probable every next one is."""
    import torch

    read, said = (tokenizer(text)["input_ids"]
                  for text in (turns(asked, "").removesuffix("<|end|>"), answered))  # fmt: skip
    with torch.no_grad():
        return read, said, model(torch.tensor([read + said])).logits[0].softmax(-1)


def write_card(folder: Path, made: Made) -> None:
    """Measure the model saved in a folder, as saved, and write its `README.md`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    told = measure(model, AutoTokenizer.from_pretrained(folder))
    text = _CARD.format(made=made, told=told, parameters=model.num_parameters(),
                        questions=_QUESTIONS, people=len(PEOPLE), others=len(PEOPLE) - 1,
                        parts=PARTS)  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")
