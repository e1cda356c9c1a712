"""How a model is fine-tuned on rows of text."""

from __future__ import annotations

from pydantic import Field

from selfimprove.training.training_config import TrainingConfig

__all__ = ["SftConfig"]


class SftConfig(TrainingConfig):
    """Fine-tuning; the defaults are LMSI's (Sec. 4) where the paper gives one."""

    max_length: int = Field(default=1024, ge=2)
    """In tokens; a longer prompt loses its oldest turns, then its oldest text; system and headers stay.
    A longer completion loses its row."""
