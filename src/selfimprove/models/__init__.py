"""Which models there are on this machine, and how one gets here."""

from selfimprove.models.find import (
    config_here,
    find_here,
    finished_model,
    is_here,
    is_hub_id,
    locate,
)

__all__ = ["config_here", "find_here", "finished_model", "is_here", "is_hub_id", "locate"]
