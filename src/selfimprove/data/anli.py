"""ANLI: adversarial natural language inference, rounds 1 to 3 (Nie et al. 2020)."""

from __future__ import annotations

from selfimprove.data.row import Fields, Item, RowError, optional, text

__all__ = ["layout", "parse"]

_GOLD = {
    "e": "yes", "entailment": "yes", "0": "yes",
    "n": "it is not possible to tell", "neutral": "it is not possible to tell",
    "1": "it is not possible to tell",
    "c": "no", "contradiction": "no", "2": "no",
    "-1": None,
}  # fmt: skip
"""The labels of the original files and, as numbers, those of the hub; -1 is 'not labelled'."""


def parse(fields: Fields) -> Item:
    """Read `context`/`premise`, `statement`/`hypothesis` and `gold_label`/`label`."""
    premise = text(fields, "context", "premise")
    hypothesis = text(fields, "statement", "hypothesis")
    label = optional(fields, "gold_label", "label")
    if label is not None and label.lower() not in _GOLD:
        raise RowError(f"its label {label!r} is none of {', '.join(_GOLD)}")
    gold = None if label is None else _GOLD[label.lower()]
    return Item(
        layout(premise, hypothesis),
        "nli",
        () if gold is None else (gold,),
        rationale=optional(fields, "reason"),
        native_id=optional(fields, "uid"),
    )


def layout(premise: str, hypothesis: str) -> str:
    """Return what a model is shown."""
    return (
        f"Premise: {premise}\nHypothesis: {hypothesis}\n"
        "Does the premise allow us to conclude that the hypothesis is true? "
        "Answer yes, no, or it is not possible to tell."
    )
