"""A run is a folder, a step is a folder in it; what is done is read back."""

from selfimprove.store.run import Run, Training, TrainingResult, in_chunks
from selfimprove.store.step import places, row_type, trained_model
from selfimprove.store.unstored import Unstored

__all__ = [
    "Run",
    "Training",
    "TrainingResult",
    "Unstored",
    "in_chunks",
    "places",
    "row_type",
    "trained_model",
]
