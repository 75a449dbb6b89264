"""Counting work, and the speed that this machine can reach: what a floor of seconds is made of.

    floor = 2 * MACs / peak          (one multiply-accumulate, MAC, is two floating-point operations)

No program of so many MACs is faster than its floor here, so measured seconds are stated beside it. The peak is the
best of a large matrix product and a large convolution, in the type of number at hand and in the threads in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_macs", "floor_seconds", "has_bfloat16", "measure_peak", "numbers_here"]

_UNITS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")  # flags of x86 and of Arm


def count_macs(action: Callable[[], object]) -> int:
    """Multiply-accumulates of the convolutions and matrix products in ``action``, which runs once.

    Element-wise work is not counted: it is limited by memory, not by arithmetic.
    """
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() // 2


def floor_seconds(macs: Mapping[str, float], peaks: Mapping[str, float]) -> float:
    """Least seconds that some MACs take.

    Args:
        macs: by type of number, e.g. ``{"float32": 4e9}``.
        peaks: floating-point operations per second, by type of number.
    """
    return sum(2 * count / peaks[number] for number, count in macs.items())


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    lines = info.read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not set(_UNITS).isdisjoint(flags)


def numbers_here() -> dict[str, torch.dtype]:
    """Types of number that the codec computes in here: bfloat16 only where the processor has it."""
    kinds = {"float32": torch.float32, "float64": torch.float64}
    return kinds | ({"bfloat16": torch.bfloat16} if has_bfloat16() else {})


def measure_peak(dtype: torch.dtype, seconds: float = 1.0, side: int = 2048) -> float:
    """The most floating-point operations per second that this machine is seen to reach.

    Args:
        dtype: type of number.
        seconds: at least three runs of each kernel, and runs until so long.
        side: of the square matrices; the convolution has ``side / 8`` channels.
    """
    a, b = (torch.rand(side, side).to(dtype) for _ in range(2))
    channels = side // 8
    maps = torch.rand(1, channels, 64, 96).to(dtype, memory_format=torch.channels_last)
    weight = torch.rand(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
    kernels = [lambda: a @ b, lambda: F.conv2d(maps, weight, padding=1)]
    with torch.inference_mode():
        return max(_best_rate(kernel, seconds) for kernel in kernels)


def _best_rate(kernel: Callable[[], object], seconds: float) -> float:
    macs, times = count_macs(kernel), []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        kernel()
        times.append(time.perf_counter() - started)
    return 2 * macs / min(times)
