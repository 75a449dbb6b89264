"""How the benchmarks time: medians after a warm-up, one thread where codecs are compared, processes of their own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["in_process", "median_seconds", "one_thread"]


def median_seconds(action: Callable[[], object], repeats: int = 7, budget: float = 12.0) -> float:
    """Median wall time in seconds after one warm-up.

    Args:
        action: what to time.
        repeats: timed runs at most.
        budget: seconds after which no further run is started; one is timed in any case.
    """
    begun = time.perf_counter()
    action()
    times: list[float] = []
    while not times or (len(times) < repeats and time.perf_counter() - begun < budget):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch in one thread, as the peers run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_process(module: str, *arguments: object, **environment: str) -> dict[str, float]:
    """Run ``python -m MODULE ARGUMENTS`` and read the JSON object in the last line that it prints.

    Args:
        module: e.g. ``"benchmarks.alone"``.
        arguments: of the command line.
        environment: variables set besides the present ones.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
