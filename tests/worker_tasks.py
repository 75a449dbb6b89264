"""What workers of the tests are given to do; importable by them, and light."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def thread_settings(_: object) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def leave_mark(folder: Path, name: object) -> int:
    """Say that a task was begun; how often it was."""
    (folder / f"{name}.{secrets.token_hex(4)}").touch()
    return len(list(folder.glob(f"{name}.*")))


def fail_if_odd(task: tuple[Path, int]) -> int:
    folder, number = task
    leave_mark(folder, number)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def die_at_first(task: tuple[Path, int]) -> int:
    """As if the machine ran out of memory, for number 1 and at the first attempt."""
    folder, number = task
    if leave_mark(folder, number) == 1 and number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def take_a_while(task: tuple[Path, int]) -> tuple[float, float]:
    """When it began and ended."""
    folder, number = task
    leave_mark(folder, number)
    begun = time.time()
    time.sleep(0.1)
    return begun, time.time()
