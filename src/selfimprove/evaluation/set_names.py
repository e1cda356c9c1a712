"""What held-out sets are called: by format and file, such that no two sources share a name."""

from __future__ import annotations

from collections.abc import Sequence

from selfimprove.data.sources import Source, distinct

__all__ = ["set_name", "set_names"]


def set_name(source: Source, folders: int = 0) -> str:
    """Return a source's format and its file or split, behind so many of the folders that it lies in.

    >>> set_name(Source(format="gsm8k", source="data/test.jsonl"))
    'gsm8k test'
    """
    *parents, file = source.source.split("/")
    place = [*parents[len(parents) - folders :], file.split(".", 1)[0]]
    return f"{source.format} {'/'.join(place)}".strip()


def set_names(sources: Sequence[Source]) -> list[str]:
    """Name every source; files that are called alike by their folders, parts of one file by numbers.

    >>> set_names([Source(format="llmbar", source=f"{part}/dataset.json") for part in ("Natural", "GPTInst")])
    ['llmbar Natural/dataset', 'llmbar GPTInst/dataset']
    """
    return distinct(_told_apart(source, sources) for source in sources)


def _told_apart(source: Source, sources: Sequence[Source]) -> str:
    """Return a source's name with as few folders as tell its file from every other one."""
    others = [o for o in sources if (o.format, o.source) != (source.format, source.source)]
    for folders in range(source.source.count("/") + 1):
        name = set_name(source, folders)
        if all(set_name(o, min(folders, o.source.count("/"))) != name for o in others):
            return name
    return set_name(source)
