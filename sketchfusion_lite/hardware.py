"""Where the networks run, and in which numbers: what ``"auto"`` means on this machine.

Only the float networks are meant. Entropy coding is integer work on the CPU everywhere, so that neither choice can
change what a stream means; an encoder may pick a neighbouring symbol.
"""

from __future__ import annotations

import os

import torch

from . import checks
from .errors import WorkersError

__all__ = [
    "DTYPES",
    "bfloat16_units",
    "choose_device",
    "choose_dtype",
    "describe_choice",
    "refuse_fork",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device meant: ``"auto"`` is a GPU when there is one, else the CPU.

    Raises:
        ArgumentError: no such device, or not on this machine.
    """
    checks.kind("device", device, (str, torch.device), "the name of a device, such as 'cpu'")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)  # only trying tells whether it is there
        if chosen.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (AssertionError, ImportError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise checks.refusal(
            "device", str(device), f"cannot be used here ({reason}). Use 'auto' or 'cpu'."
        ) from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """The data type meant: ``"auto"`` is bfloat16 where the device has units for it, else float32.

    Args:
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or one of the two as a ``torch.dtype``.
        device: where the networks run.

    Raises:
        ArgumentError: another data type.
    """
    device = device if isinstance(device, torch.device) else choose_device(device)
    if isinstance(dtype, str) and dtype == "auto":
        return torch.bfloat16 if bfloat16_units(device) else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or chosen not in DTYPES.values():
        raise checks.refusal("dtype", dtype, f"choose 'auto', {', '.join(map(repr, DTYPES))}.")
    return chosen


def bfloat16_units(device: torch.device) -> str:
    """Name of the units that multiply bfloat16 faster than float32 on a device, or nothing.

    AVX512-BF16 alone says too little: against float32 it doubled the peak of an AMD EPYC (Zen 4), and our convolutions
    ran at 0.55 times their speed on an Intel Xeon whose AMX was hidden by its hypervisor.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(device) if native else ""
    if device.type != "cpu":
        return ""
    have = torch.cpu.get_capabilities()
    if have.get("amx_bf16"):
        return "AMX"
    is_amd = "AMD" in have.get("cpu_name", "")
    return "AVX512-BF16" if is_amd and have.get("avx512_bf16") else ""


def describe_choice(device: torch.device, dtype: torch.dtype) -> str:
    """What people are told, e.g. ``"cpu, bfloat16 (AMX)"``."""
    name = str(dtype).removeprefix("torch.")
    units = bfloat16_units(device) if dtype == torch.bfloat16 else ""
    return f"{device}, {name}" + (f" ({units})" if units else "")


_ran_in: int | None = None  # the process whose networks started more than one thread


def refuse_fork() -> None:
    """Called before networks run: in a forked process they would wait for ever for threads that only its parent has.

    Raises:
        WorkersError: this process is a fork of one whose networks ran in several threads, and has not been given
            ``torch.set_num_threads(1)``.
    """
    global _ran_in
    if torch.get_num_threads() == 1:
        return
    if _ran_in not in (None, os.getpid()):
        raise WorkersError(
            "this process was forked from one that had used the codec, whose threads it lacks: it would hang. Start "
            "processes with multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) first in each."
        )
    _ran_in = os.getpid()
