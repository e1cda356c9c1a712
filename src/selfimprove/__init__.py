"""selfimprove: language models that improve themselves (LMSI, Self-Rewarding LMs, PIT)."""

__version__ = "0.1.0"
