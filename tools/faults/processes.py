"""Starting ``sketchfusion`` in a process group of its own, with or without its imports done.

    preload=()         a new interpreter: python -m sketchfusion_lite.cli ...
    preload=(modules)  a fork of this process, which has imported them and done nothing else with them

A fork runs the same command on the same code; what it saves are seconds of import per start, in which nothing can go
wrong for any file. It loses the threads of OpenMP and would wait for them for ever: a process that computes with torch
between forks, as checking files does, must do so on one thread.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Forked", "kill", "started"]

_POLL_SECONDS = 0.005


class Forked:
    """A forked child, used as :class:`subprocess.Popen` is.

    Attributes:
        pid: also of its process group.
        returncode: None while it runs; below zero if a signal ended it.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        """The exit status, or None."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("sketchfusion", timeout)
            time.sleep(_POLL_SECONDS)
        return self.returncode


@contextlib.contextmanager
def started(
    arguments: list[str], environment: Mapping[str, str], log: Path, preload: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen | Forked]:
    """A running command; nothing of its process group outlives the context.

    Args:
        arguments: of ``sketchfusion``.
        environment: variables to set besides those that are set.
        log: receives what it says.
        preload: modules to import first; empty starts a new interpreter.
    """
    for name in preload:
        importlib.import_module(name)
    with log.open("wb") as stream:
        if preload:
            process: subprocess.Popen | Forked = _fork(arguments, environment, stream.fileno())
        else:
            process = subprocess.Popen(
                [sys.executable, "-m", "sketchfusion_lite.cli", *arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen | Forked) -> None:
    """SIGKILL for the whole group, workers included; no error if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _fork(arguments: list[str], environment: Mapping[str, str], descriptor: int) -> Forked:
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        with contextlib.suppress(OSError):  # the child does the same; whoever is first
            os.setpgid(pid, pid)
        return Forked(pid)
    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        # Not those of the parent, which may be captured, as by pytest.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ.update(environment)
        from sketchfusion_lite.cli import app

        app(arguments, prog_name="sketchfusion")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # whatever it is, this copy of the process must not go on as its parent
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
