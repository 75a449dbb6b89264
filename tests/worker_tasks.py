"""What workers of the tests are given to do; importable by them, and light."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def threads(_: object) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def leave_mark(task: tuple[Path, int]) -> int:
    """Say that a task was begun; how often it was."""
    folder, number = task
    (folder / f"{number}.{secrets.token_hex(4)}").touch()
    return len(list(folder.glob(f"{number}.*")))


def fail_if_odd(task: tuple[Path, int]) -> int:
    leave_mark(task)
    if task[1] % 2:
        raise ValueError(f"{task[1]} is odd")
    return task[1]


def die_at_first(task: tuple[Path, int]) -> int:
    """As if the machine ran out of memory, for number 1 and at the first attempt."""
    if leave_mark(task) == 1 and task[1] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task[1]


def die_always(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def take_a_while(task: tuple[Path, int]) -> tuple[float, float]:
    """When it began and ended."""
    leave_mark(task)
    begun = time.time()
    time.sleep(0.1)
    return begun, time.time()
