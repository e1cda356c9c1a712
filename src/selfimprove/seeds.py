"""Named streams of randomness: each is a function of the run's seed and its name alone.

A stream does not depend on how many numbers were drawn elsewhere, so a resumed run, or one whose
steps run in another order, draws the same numbers.
"""

import hashlib
import random

__all__ = ["rng", "seed_of"]


def seed_of(seed: int, *name: str | int) -> int:
    """Return a 63-bit seed for the stream called `name` under the run's `seed`.

    >>> seed_of(0, "paths", 3) == seed_of(0, "paths", 3)
    True
    >>> seed_of(0, "paths", 3) == seed_of(0, "paths", "3")
    False
    """
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(seed: int, *name: str | int) -> random.Random:
    """Return a generator for the stream called `name` under the run's `seed`."""
    return random.Random(seed_of(seed, *name))
