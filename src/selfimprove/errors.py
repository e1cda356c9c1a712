"""The errors a user can meet; each message says what happened, where, and what to do.

SelfImproveError
├── ConfigError          a recipe or an override does not parse
├── DataError            a data file cannot be read, or a row of it is broken
├── StoreError           a run folder cannot be used
│   ├── StaleStepError     a step was made from other inputs
│   ├── CorruptShardError  a stored file does not match its digest
│   ├── DiskFullError      there is no room left to write
│   ├── LockedRunError     another living process writes this run
│   └── RemoteError        the place that keeps a run cannot be reached, or refuses
├── EngineError          a model cannot be loaded or sampled
├── TrainingError        a training run cannot start or went wrong
└── HubError             the Hugging Face hub refused, or cannot be reached
"""

__all__ = [
    "ConfigError",
    "CorruptShardError",
    "DataError",
    "DiskFullError",
    "EngineError",
    "HubError",
    "JudgeError",
    "LockedRunError",
    "OwnCodeError",
    "RemoteError",
    "SelfImproveError",
    "StaleStepError",
    "StoreError",
    "TrainingError",
]


class SelfImproveError(Exception):
    """Anything that the user can mend; the command line prints it without a traceback."""


class ConfigError(SelfImproveError):
    """A recipe or an override does not parse."""


class DataError(SelfImproveError):
    """A data file cannot be read, or a row of it is broken."""


class StoreError(SelfImproveError):
    """A run folder cannot be used."""


class StaleStepError(StoreError):
    """A step was made from other inputs than those given now."""


class CorruptShardError(StoreError):
    """A stored file does not match the digest written when it was made."""


class DiskFullError(StoreError):
    """There is no room left to write."""


class LockedRunError(StoreError):
    """Another living process writes this run."""


class RemoteError(StoreError):
    """The place that keeps a run cannot be reached, or refuses what is asked of it."""


class EngineError(SelfImproveError):
    """A model cannot be loaded or sampled."""


class OwnCodeError(SelfImproveError):
    """Code of the user's own raised, or gave what it must not."""


class JudgeError(SelfImproveError):
    """A judge gave no verdicts that can be used."""


class TrainingError(SelfImproveError):
    """A training run cannot start or went wrong."""


class HubError(SelfImproveError):
    """The Hugging Face hub refused an upload, or cannot be reached."""
