"""Numbers of a step's rows, by their columns: the same for a method of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["of_record", "of_rows"]

_PLACES: Final = {"index", "vote", "number", "fold"}
"""Columns that say where a row stands, not what it is worth."""
_NAMES: Final = {"confidence": "vote_share", "new_tokens": "tokens", "correct": "accuracy"}
_COUNTS: Final = (
    "seconds",
    "rows",
    "tokens_sampled",
    "prompt_tokens",
    "tokens_trained",
    "peak_memory_mib",
)


def of_rows(shards: Sequence[Path]) -> dict[str, float]:
    """Return means of numbers, shares of what is true, and what follows from several columns.

    `vote_share`, `tokens` and `accuracy` are means of `confidence`, `new_tokens` and `correct`; `parse_rate`
    is the share of verdicts that could be read, `votes_agree` the share of texts of which several verdicts say
    the same, `margin` the chosen score less the rejected one, `cut_off` the share of texts without an end.
    A step without rows has no numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not shards:
        return {}
    schema = pq.read_schema(shards[0])
    wanted = [f.name for f in schema if _is_told(f)]
    table = pa.concat_tables([pq.read_table(shard, columns=wanted) for shard in shards])
    return dict(_measured(table)) if len(table) else {}


def of_record(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what a finished step, or a shard, says it cost and left, and what its training reports."""
    told = {name: float(record[name]) for name in _COUNTS if record.get(name) is not None}
    # What asks no model says 0 of each.
    told = {name: value for name, value in told.items() if value or "tokens" not in name}
    tokens = told.get("tokens_sampled", 0) + told.get("tokens_trained", 0)
    if tokens and told.get("seconds"):
        told["tokens_per_second"] = tokens / told["seconds"]
    for funnel in record.get("funnels") or ():
        name = f"filter/{funnel['name']}"
        told |= {f"{name}/given": funnel["given"], f"{name}/kept": funnel["kept"]}
        if funnel["given"]:
            told[f"{name}/kept_rate"] = funnel["kept"] / funnel["given"]
        told |= {f"{name}/dropped/{drop['why']}": drop["count"] for drop in funnel["dropped"]}
    return told | numbers(record.get("training") or {})


def numbers(told: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are numbers; truth values and words are none."""
    return {
        name: float(value)
        for name, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _is_told(field: pa.Field) -> bool:
    import pyarrow.types as kinds

    if field.name in ("finish", "unscored", "prompt_id", "index"):
        return True
    kind = field.type
    is_number = kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_boolean(kind)
    return bool(is_number and field.name not in _PLACES)


def _measured(table: pa.Table) -> Iterator[tuple[str, float]]:
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    names = set(table.column_names)
    for name in table.column_names:
        column = table[name]
        if name in _PLACES or kinds.is_string(column.type):
            continue
        mean = pc.mean(column.cast("float64")).as_py()
        if mean is not None:
            yield _NAMES.get(name, name), mean
    if "finish" in names:
        yield "cut_off", pc.mean(pc.equal(table["finish"], "length").cast("float64")).as_py() or 0.0
    if {"score", "unscored"} <= names:
        yield "parse_rate", 1 - table["score"].null_count / len(table)
    if {"chosen_score", "rejected_score"} <= names:
        yield from _some(
            "margin", pc.mean(pc.subtract(table["chosen_score"], table["rejected_score"]))
        )
    if {"prompt_id", "index", "score"} <= names:
        yield from _some("votes_agree", _agreement(table))


def _some(name: str, value: Any) -> Iterator[tuple[str, float]]:  # noqa: ANN401  a scalar of Arrow's
    found = value.as_py() if hasattr(value, "as_py") else value
    if found is not None:
        yield name, float(found)


def _agreement(table: pa.Table) -> float | None:
    """Return the share of texts with several scores whose scores are all the same."""
    spread = table.group_by(["prompt_id", "index"]).aggregate(
        [("score", "count"), ("score", "min"), ("score", "max")]
    )
    rows = [r for r in spread.to_pylist() if r["score_count"] > 1]
    return sum(r["score_min"] == r["score_max"] for r in rows) / len(rows) if rows else None
