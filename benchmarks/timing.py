"""How the benchmarks measure: seconds, work, and the least seconds that so much work can take on this machine.

    floor = 2 * MACs / peak          (one multiply-accumulate, MAC, is two floating-point operations)

The peak is the best of a large matrix product and a large convolution, in the type of number at hand.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

BFLOAT16_UNITS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}  # flags of x86 and of Arm


def median_seconds(action: Callable[[], object], repeats: int = 7, budget: float = 12.0) -> float:
    """Median wall time in seconds after one warm-up.

    Args:
        action: what to time.
        repeats: timed runs at most.
        budget: seconds after which no further run is started; one is timed in any case.
    """
    begun, times = time.perf_counter(), []
    action()
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

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def count_macs(action: Callable[[], object]) -> int:
    """Multiply-accumulates of the convolutions and matrix products in ``action``, which runs once.

    Element-wise work is not counted: it is limited by memory, not by arithmetic.
    """
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() // 2


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not BFLOAT16_UNITS.isdisjoint(flags)


def peaks_here(seconds: float = 1.0, side: int = 2048) -> dict[str, float]:
    """Floating-point operations per second that this machine reaches, by type of number: bfloat16 where it has it.

    Args:
        seconds: at least three runs of each kernel, and runs until so long.
        side: of the square matrices; the convolution has ``side / 8`` channels.
    """
    kinds = [torch.float32, torch.float64] + [torch.bfloat16] * has_bfloat16()
    return {str(dtype).removeprefix("torch."): _peak(dtype, seconds, side) for dtype in kinds}


def _peak(dtype: torch.dtype, seconds: float, side: int) -> float:
    channels, layout, rates = side // 8, torch.channels_last, []
    a, b = (torch.rand(side, side).to(dtype) for _ in range(2))
    maps = torch.rand(1, channels, 64, 96).to(dtype, memory_format=layout)
    weight = torch.rand(channels, channels, 3, 3).to(dtype, memory_format=layout)
    for kernel in (lambda: a @ b, lambda: F.conv2d(maps, weight, padding=1)):
        macs, times, begun = count_macs(kernel), [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - begun < seconds:
            started = time.perf_counter()
            with torch.inference_mode():
                kernel()
            times.append(time.perf_counter() - started)
        rates.append(2 * macs / min(times))
    return max(rates)
