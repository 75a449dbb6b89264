"""What a process took from its machine."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import EvaluationError

__all__ = ["peak_megabytes"]


def peak_megabytes() -> float:
    """Largest resident memory of this process so far.

    Not ``ru_maxrss``: that of a child starts at what its parent had.

    Raises:
        EvaluationError: this system does not tell.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        raise EvaluationError(f"peak memory is read from {status}, which {sys.platform} lacks.")
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
