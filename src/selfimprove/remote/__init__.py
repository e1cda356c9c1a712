"""A run that is kept at a URL: worked on in a copy on this machine, published as it goes, pulled as it is read."""

from selfimprove.remote.keeper import Here, Keeper, Mirror, kept_at
from selfimprove.remote.place import as_url, copies_in, told
from selfimprove.remote.reading import here, runs_below, send, whole

__all__ = [
    "Here",
    "Keeper",
    "Mirror",
    "as_url",
    "copies_in",
    "here",
    "kept_at",
    "runs_below",
    "send",
    "told",
    "whole",
]
