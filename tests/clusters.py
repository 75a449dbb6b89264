"""Dask schedulers and workers in processes of their own, as on several machines, and light work for them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sketchfusion_lite

ROOT = Path(sketchfusion_lite.__file__).parents[1]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Cluster:
    """A scheduler without workers: its file, its ``tcp://`` address, and all processes that were started."""

    def __init__(self, folder: Path) -> None:
        self.file, self.started = folder / "scheduler.json", []
        self.scheduler = self._start("scheduler", ROOT, "--port", 0, "--scheduler-file", self.file)
        wait_for(lambda: self.file.is_file() and self.file.read_text().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]

    def add_worker(self, path: Path = ROOT) -> subprocess.Popen:
        """Start a worker; ``path`` is where it imports the library from."""
        common = ("--nthreads", 1, "--no-nanny", "--death-timeout", 60)
        return self._start("worker", path, self.address, *common)

    def _start(self, what: str, path: Path, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *map(str, arguments)]
        command += ["--no-dashboard", "--host", "127.0.0.1"]
        environment, quiet = {**os.environ, "PYTHONPATH": str(path)}, subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, cwd=path, stdout=quiet, stderr=quiet)
        self.started.append(process)
        return process


@contextmanager
def started_cluster(folder: Path) -> Iterator[Cluster]:
    """A :class:`Cluster` that ends with the block."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        for process in reversed(cluster.started):
            process.kill()
            process.wait()


# work ---------------------------------------------------------------------------------------------


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


def die_over_1(task: tuple[Path, int], times: int = 9) -> int:
    """As if the machine ran out of memory, for number 1, the first times."""
    if leave_mark(task) <= times and task[1] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task[1]


def take_a_while(task: tuple[Path, int]) -> tuple[float, float]:
    """When it began and ended."""
    leave_mark(task)
    begun = time.time()
    time.sleep(0.1)
    return begun, time.time()
