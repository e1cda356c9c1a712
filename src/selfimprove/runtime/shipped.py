"""The recipes that ship: `selfimprove run lmsi-tiny` needs no clone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from selfimprove.errors import ConfigError

__all__ = ["recipe_names", "recipe_path"]

# In a wheel they lie within the package, in a checkout beside its source.
_FOLDERS: Final = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")


def recipe_names() -> list[str]:
    """Return what the shipped recipes are called."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.yaml")})


def recipe_path(given: Path) -> Path:
    """Return a recipe's file: the one that is given, or the shipped one of that name.

    Raises:
        ConfigError: a name is given, and no recipe that ships has it.
    """
    if given.exists() or given.suffix:  # of a file that is not there, its reader tells
        return given
    shipped = (folder / f"{given}.yaml" for folder in _FOLDERS)
    found = next((path for path in shipped if path.is_file()), None)
    if found is None:
        raise ConfigError(f"no recipe at {given}; those that ship: {', '.join(recipe_names())}")
    return found
