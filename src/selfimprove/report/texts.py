"""Every text that a model wrote in a run, whatever the method: read by the columns that the rows have.

A step holds such texts if its rows have `text` and say how it ended (`finish`) or how long it is
(`new_tokens`). What was asked, what a text scored and what became of it lie in other steps, which are
found by the digests that a step names as its inputs, not by the names that a method gives its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from selfimprove.report.links import Links, stem

__all__ = ["OUTCOMES", "Text", "asked_of", "steps_with_texts", "texts_of"]

OUTCOMES: Final = ("kept", "chosen", "rejected", "right", "wrong", "cut off", "unscored")
"""What can be said of a text beside its scores."""

_IDS: Final = ("question_id", "prompt_id", "number", "index")
_READ: Final = (
    *_IDS,
    "prompt",
    "text",
    "answer",
    "finish",
    "new_tokens",
    "correct",
    "score",
    "unscored",
)

Key: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Text:
    """One text."""

    step: str
    id: str
    asked: str
    """What the model was asked, as far as it is stored."""
    about: str
    """The response that this text judges; empty where it judges none."""
    text: str
    answer: str | None
    """What was read from it as its answer."""
    tokens: int | None
    scores: tuple[tuple[str, float], ...]
    """Scorer and mean score, of every step that scored it; its own where it is a verdict."""
    outcomes: frozenset[str]


@dataclass
class _Known:
    """What other steps say of the texts of one step."""

    asked: dict[str, str] = field(default_factory=dict)
    judged: dict[Key, str] = field(default_factory=dict)
    scores: dict[str, dict[Key, float]] = field(default_factory=dict)
    kept: set[Key] = field(default_factory=set)
    sides: set[tuple[str, str, str]] = field(default_factory=set)


def steps_with_texts(links: Links) -> list[str]:
    """Return the steps whose rows a model wrote, each text in one of them alone."""
    return [step for step, columns in links.columns.items()
            if "text" in columns and columns & {"finish", "new_tokens"}
            and not _is_a_choice(links, step) and not _is_mended(links, step)]  # fmt: skip


def texts_of(links: Links, step: str) -> Iterator[Text]:
    """Return the texts of a step in the order in which they were written.

    Raises:
        DataError: a shard cannot be read.
    """
    known = _known(links, step)
    wanted = [c for c in _READ if c in links.columns[step]]
    for row in links.run.rows(step, wanted):
        # An oracle's verdict is a number without a text.
        if row["text"]:
            yield _text(step, row, known)


def asked_of(links: Links, step: str) -> dict[str, str]:
    """Return what was asked where the texts of a step came from, by its id; not all steps say it."""
    known = _Known()
    for source in links.sources[step].values():
        _learn_what_was_asked(links, source, known)
    return known.asked


def _is_a_choice(links: Links, step: str) -> bool:
    """Tell whether a step's rows are some of those of another one."""
    from_own = [s for s in links.alike(step) if stem(s) == stem(step)
                and links.rows[s] == links.rows[step]]  # fmt: skip
    return bool(links.alike(step)) and (step.endswith("-kept") or not from_own)


def _is_mended(links: Links, step: str) -> bool:
    """Tell whether the stage goes on with this step's texts in another step of as many rows."""
    return any(
        stem(r) == stem(step) and step in links.alike(r) and not _is_a_choice(links, r)
        for r in links.readers(step)
    )


def _text(step: str, row: Mapping[str, Any], known: _Known) -> Text:
    id = _id(row)
    key = (id, int(row.get("index") or 0))
    asked = row.get("prompt") or known.asked.get(id, "")
    own = row.get("score")
    scores = [(name, told[key]) for name, told in known.scores.items() if key in told]
    return Text(
        step=step,
        id=id,
        asked=asked,
        about=known.judged.get(key, "") if "score" in row else "",
        text=row["text"],
        answer=row.get("answer"),
        tokens=row.get("new_tokens"),
        scores=((step, float(own)),) if own is not None else tuple(scores),
        outcomes=frozenset(_outcomes(row, key, asked, known)),
    )


def _id(row: Mapping[str, Any]) -> str:
    return str(row.get("question_id") or row.get("prompt_id") or row.get("number", ""))


def _outcomes(row: Mapping[str, Any], key: Key, asked: str, known: _Known) -> Iterator[str]:
    if key in known.kept:
        yield "kept"
    for side in ("chosen", "rejected"):
        if (side, asked, row["text"]) in known.sides:
            yield side
    if row.get("correct") is not None:
        yield "right" if row["correct"] else "wrong"
    if row.get("finish") == "length":
        yield "cut off"
    if row.get("unscored"):
        yield "unscored"


def _known(links: Links, step: str) -> _Known:
    known = _Known()
    for source in links.sources[step].values():
        _learn_what_was_asked(links, source, known)
    for reader in links.readers(step):
        _learn_of(links, step, reader, known)
    return known


def _learn_of(links: Links, step: str, reader: str, known: _Known) -> None:
    """Learn what became of a step's texts where another step read them."""
    columns, rows = links.columns[reader], links.run.rows
    if "candidate" in columns:  # laid out for a scorer, unless several candidates are crossed
        alone = links.rows[reader] == links.rows[step]
        for scorer in links.readers(reader) if alone else ():
            _learn_scores(links, scorer, known)
    elif {"prompt", "chosen", "rejected"} <= columns:
        for row in rows(reader, ["prompt", "chosen", "rejected"]):
            known.sides |= {(side, row["prompt"], row[side]) for side in ("chosen", "rejected")}
    elif stem(reader) == stem(step) and step in links.alike(reader):
        ids = [c for c in _IDS if c in columns]
        known.kept |= {(_id(row), int(row["index"])) for row in rows(reader, ids)}
    else:
        _learn_scores(links, reader, known)


def _learn_what_was_asked(links: Links, source: str, known: _Known) -> None:
    columns, rows = links.columns[source], links.run.rows
    if {"id", "text"} <= columns:
        known.asked |= {row["id"]: row["text"] for row in rows(source, ["id", "text"])}
    elif "labelled" in columns:
        asked = (row["labelled"]["question"] for row in rows(source, ["labelled"]))
        known.asked |= {question["id"]: question["text"] for question in asked}
    elif {"prompt_id", "prompt", "index", "text"} <= columns:
        for row in rows(source, ["prompt_id", "prompt", "index", "text"]):
            known.asked[row["prompt_id"]] = row["prompt"]
            known.judged[row["prompt_id"], row["index"]] = row["text"]


def _learn_scores(links: Links, scorer: str, known: _Known) -> None:
    columns = links.columns[scorer]
    value = next((c for c in ("score", "gap") if {"prompt_id", "index", c} <= columns), None)
    if value is None:
        return
    held: dict[Key, list[float]] = {}
    for row in links.run.rows(scorer, ["prompt_id", "index", value]):
        if row[value] is not None:
            held.setdefault((row["prompt_id"], row["index"]), []).append(row[value])
    known.scores[scorer] = {key: sum(all) / len(all) for key, all in held.items()}
