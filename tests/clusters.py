"""Dask schedulers and workers in processes of their own, as on several machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sketchfusion_lite

ROOT = Path(sketchfusion_lite.__file__).parents[1]


class Cluster:
    """A scheduler without workers; ``with`` ends all that was started.

    Attributes:
        file: scheduler file.
        address: ``tcp://...``.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self._started = [
            _start("scheduler", "--port", "0", "--scheduler-file", self.file, "--no-dashboard")
        ]
        self.address = json.loads(_awaited(self.file))["address"]

    @property
    def scheduler(self) -> subprocess.Popen:
        return self._started[0]

    def add_worker(self, *options: object, path: Path = ROOT) -> subprocess.Popen:
        """Start a worker; ``path`` is where it imports the library from."""
        common = ("--nthreads", "1", "--no-dashboard", "--no-nanny", "--death-timeout", "60")
        worker = _start("worker", self.address, *common, *options, path=path)
        self._started.append(worker)
        return worker

    def close(self) -> None:
        for process in reversed(self._started):
            process.kill()
            process.wait()


@contextmanager
def started_cluster(folder: Path) -> Iterator[Cluster]:
    """A :class:`Cluster` that ends with the block."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()


def _start(what: str, *arguments: object, path: Path = ROOT) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *map(str, arguments)]
    return subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        env=environment,
        cwd=path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _awaited(file: Path) -> str:
    deadline = time.monotonic() + 60
    while not file.is_file() or not file.read_text().endswith("}"):
        assert time.monotonic() < deadline, "no scheduler came up"
        time.sleep(0.02)
    return file.read_text()
