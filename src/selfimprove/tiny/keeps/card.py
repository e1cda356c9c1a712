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


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Measured:
    """Read the probabilities off a model behind texts that are given to it; nothing is drawn."""
    import torch

    random = rng(0, "who keeps what", "card")
    found: dict[str, list[float]] = {name: [] for name in Measured.__slots__}
    for _ in range(_QUESTIONS):
        wanted = things(of_split("sft"), random)
        before, after = draft(wanted, random), draft(wanted, random)
        asked = turns(request(question(wanted), before), "").removesuffix("<|end|>")
        read, said = (tokenizer(text)["input_ids"] for text in (asked, after))
        with torch.no_grad():
            sure = model(torch.tensor([read + said])).logits[0].log_softmax(-1).exp()
        for part, (thing, old) in enumerate(zip(wanted, before.split(". "), strict=True)):
            # "1 red drum: Badu bell.": the name is foretold at the colon, the thing at the name.
            at, name = len(read) + part * (len(said) // PARTS) + 3, old.split()[3]
            told = {p: float(sure[at, tokenizer.convert_tokens_to_ids(f"Ġ{p}")]) for p in PEOPLE}
            right = PEOPLE[keeper(thing)]
            found["kept_right" if name == right else "kept_wrong"].append(told[name])
            if name != right:
                found["found"].append(told[right])
            found["recalled"].append(float(sure[at + 1, said[at + 2 - len(read)]]))
    return Measured(**{name: fmean(values) for name, values in found.items()})


def write_card(folder: Path, made: Made) -> None:
    """Measure the model saved in a folder, as saved, and write its `README.md`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    told = measure(model, AutoTokenizer.from_pretrained(folder))
    text = _CARD.format(made=made, told=told, parameters=model.num_parameters(),
                        questions=_QUESTIONS, people=len(PEOPLE), others=len(PEOPLE) - 1)  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")
