"""The key of a recipe that names trackers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

__all__ = ["Tracker", "Trackers"]

Tracker: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "trackio"]

Trackers: TypeAlias = Annotated[
    tuple[Tracker, ...],
    Field(
        description="Who is told of every step while the run goes on, e.g. [tensorboard, wandb]: each an extra of the "
        "package, set up by its own environment variables (docs/watching.md). Changes nothing that the run makes."
    ),
]
