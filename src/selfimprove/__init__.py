"""selfimprove: language models that improve themselves (LMSI, Self-Rewarding LMs, PIT)."""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# GNU OpenMP, which torch computes with, reads this once. Its threads wait for each other by spinning
# for milliseconds: on a busy machine they spin on the very cores that the awaited ones need.
if "torch" not in _sys.modules and "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ.setdefault("GOMP_SPINCOUNT", "1000")
