"""Rows of a dataset on the Hugging Face hub, through the `datasets` library."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfimprove.data.tables import Record
from selfimprove.errors import DataError

__all__ = ["hub_records", "is_hub_id"]

_HUB_ID = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+?)(?:@(?P<config>[\w.-]+))?(?::(?P<split>[\w.+%\[\]:-]+))?"
)
_FILE_SUFFIX = re.compile(r"\.(?:jsonl?|csv|tsv|parquet|gz|ya?ml|txt)\Z", re.IGNORECASE)


def is_hub_id(source: str) -> bool:
    """Tell whether a source that is no file can be a hub id: owner/name[@config][:split].

    >>> is_hub_id("openai/gsm8k:test"), is_hub_id("data/train.jsonl")
    (True, False)
    """
    return _HUB_ID.fullmatch(source) is not None and _FILE_SUFFIX.search(source) is None


def hub_records(source: str, known: tuple[str, str | None] | None) -> Iterator[Record]:
    """Yield the rows of 'owner/name[@config][:split]'; the split is train where none is named.

    Args:
        source: the hub id.
        known: the id that the format is usually read from, and its configuration.

    Raises:
        DataError: the dataset cannot be fetched: no network and not in the cache, or no such
            dataset, configuration or split.
    """
    import datasets

    named = _HUB_ID.fullmatch(source)
    if named is None:
        raise DataError(f"{source!r} is not a hub id such as openai/gsm8k:test")
    config = named["config"]
    if config is None and known is not None and named["id"] == known[0]:
        config = known[1]
    try:
        table = datasets.load_dataset(named["id"], config, split=named["split"] or "train")
    # `datasets` lets errors of its network client through: OSError covers them all.
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{source} is no file here and cannot be had from the Hugging Face hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'})"
            ": check the name, or fetch it where there is a network and give the file"
        ) from error
    return (Record(f"row {n}", dict(row)) for n, row in enumerate(table, 1))
