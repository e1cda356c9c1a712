"""Under what licence a base model stands, as far as its folder tells."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import yaml

from selfimprove.models import cache

__all__ = ["Licence", "licence_of"]

_FILES: Final = (
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE",
    "COPYING",
    "NOTICE",
    "USE_POLICY.md",
)


class Licence(NamedTuple):
    """What is known of it."""

    name: str
    """As the model card of the base names it; empty: it does not."""
    files: tuple[Path, ...]
    """Its text, to go along with what is made of the base."""


def licence_of(folder: Path | None) -> Licence:
    """Return the licence of the model in a folder; None for a model that is not here."""
    if folder is None:
        return Licence("", ())
    files = tuple(folder / name for name in _FILES if (folder / name).is_file())
    name = str(_front_matter(folder / "README.md").get("license") or "")
    if not name and folder.parent == cache.models_folder():
        name = cache.origin_of(folder).licence.lower()
    return Licence(name, files)


def _front_matter(card: Path) -> dict[str, object]:
    """Return the YAML block that a model card begins with; empty: there is none that can be read."""
    if not card.is_file():
        return {}
    parts = card.read_text(encoding="utf-8").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        told = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return told if isinstance(told, dict) else {}
