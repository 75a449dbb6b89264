"""One run, on a worker: papermill executes the notebook, and a row says what came out of it.

    Unit --> kernel in the notebook's folder, one thread, local sockets --> OUT/runs/NAME/notebook.ipynb
                  |  (killed when the time limit is over)                   OUT/runs/NAME/results.json
                  v                                                                 |
             ok or failed --> row --> OUT/runs/NAME/row.json  <---------------------+

A notebook that fails, or takes too long, is a row with its error. The row is on the disk before anybody hears of it;
a run without one was cut off, and is repeated.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import site
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import OutputError
from ..files import atomic_write_bytes
from ..workers.cluster import ONE_THREAD, environment
from .plan import RESULTS, Run
from .table import FAILED, OK, Row, row_of

__all__ = ["ROW_FILE", "Unit", "execute"]

ROW_FILE = "row.json"
MAX_RESULT_BYTES = 1 << 20
MAX_METRICS = 1000
MAX_ERROR = 2000  # characters
# Papermill rewrites its output in place after every cell; under the final name it must be whole.
_UNDER_WAY = ".notebook.ipynb"

_KERNEL = "python3"
_WAIT_SECONDS = 300  # for a kernel's start, or for the last of a cell's outputs, on a busy machine
_KILL_SECONDS = 0.5  # between attempts to end a kernel that has used up its time
_SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Unit:
    """What a worker needs to know.

    Attributes:
        run: what to run.
        notebook: file to execute: the sweep's own copy, which nobody edits meanwhile.
        cwd: folder of the original, where its relative paths start.
        folder: of the run.
        stamp: columns that are the same for all runs of the sweep.
        timeout: seconds after which the run is ended; None for never.
    """

    run: Run
    notebook: Path
    cwd: Path
    folder: Path
    stamp: Mapping[str, Any]
    timeout: float | None = None


class _NoResult(Exception):
    """The notebook left no row of results that can be used; says why."""


def execute(unit: Unit) -> Row:
    """Execute a notebook.

    Returns:
        Its row, of status ok or failed.

    Raises:
        OutputError: the run's folder cannot be written.
    """
    results, done = unit.folder / "results.json", unit.folder / ROW_FILE
    if done.exists():
        # Done by a worker that died before it could say so; the sweep has removed rows that do not count.
        return json.loads(done.read_bytes())
    try:
        unit.folder.mkdir(parents=True, exist_ok=True)
        results.unlink(missing_ok=True)  # of an earlier attempt; must not pass for this one's
    except OSError as error:
        raise OutputError(f"{unit.folder}: cannot be written ({error.strerror}).") from error
    started, begun = datetime.now(UTC), time.perf_counter()
    status, said = OK, ""
    metrics: dict[str, Any] = {}
    try:
        _run_notebook(unit, results)
        metrics = _read_results(results)
    except _NoResult as reason:
        status, said = FAILED, str(reason)
        said = said if len(said) <= MAX_ERROR else f"{said[: MAX_ERROR - 4]} ..."
    if (unit.folder / _UNDER_WAY).exists():
        os.replace(unit.folder / _UNDER_WAY, unit.folder / "notebook.ipynb")
    row = row_of(
        unit.run,
        metrics,
        status=status,
        error=said,
        seconds=round(time.perf_counter() - begun, 3),
        started=started.isoformat(timespec="seconds"),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        library=__version__,
        python=platform.python_version(),
        torch=version("torch"),
        papermill=version("papermill"),
        **unit.stamp,
    )
    atomic_write_bytes(done, json.dumps(row, indent=1).encode())
    return row


def _run_notebook(unit: Unit, results: Path) -> None:
    """Execute the cells.

    Raises:
        _NoResult: the notebook failed, or its time was over.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # of what it warns, we have refused
    cells: list[Any] = []  # that have begun
    with _kernel_home() as (folder, config), _ended_after(unit.timeout, folder) as is_over:

        def begins(cell: Any, cell_index: int) -> None:
            if not is_over.is_set():  # a kernel that comes up too late still begins a cell
                cells.append(cell)

        try:
            papermill.execute_notebook(
                nbformat.read(unit.notebook, as_version=4),
                # papermill fills in braces
                str(unit.folder / _UNDER_WAY).replace("{", "{{").replace("}", "}}"),
                parameters={**unit.run.parameters, RESULTS: str(results)},
                kernel_name=_KERNEL,
                language="python",
                cwd=str(unit.cwd),
                progress_bar=False,
                start_timeout=_WAIT_SECONDS,
                on_cell_execute=begins,
                config=config,
            )
            return
        except papermill.PapermillExecutionError as error:
            where = f" (cell {error.exec_count})" if error.exec_count else ""
            reason = f"{error.ename}: {error.evalue}{where}"
        except (OSError, MemoryError):
            raise  # of the machine, not of the notebook: another attempt may do better
        except DeadKernelError:
            reason = "DeadKernelError: the kernel died (out of memory, killed, or crashed in native code)"
        except Exception as error:  # papermill, nbclient and jupyter_client raise many kinds
            reason = f"the notebook could not be executed: {type(error).__name__}: {error}"
        if is_over.is_set():
            first = cells and cells[-1].source.strip().splitlines()[0]
            where = f"in cell {len(cells)}: {first}" if cells else "before its first cell"
            reason = f"TimeLimit: over {unit.timeout:g} s, the grid's timeout, {where}"
        raise _NoResult(reason)


def _read_results(path: Path) -> dict[str, Any]:
    """The JSON object that a notebook wrote; lists and mappings in it become JSON text.

    Raises:
        _NoResult: none, too large, or no object.
    """
    try:
        if (size := path.stat().st_size) > MAX_RESULT_BYTES:
            raise _NoResult(f"its results are {size} bytes, at most {MAX_RESULT_BYTES} are read")
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _NoResult(f"the notebook wrote nothing to its parameter {RESULTS}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _NoResult(f"its results are no JSON: {error}") from error
    if not isinstance(values, dict) or len(values) > MAX_METRICS:
        raise _NoResult(f"its results are no JSON object of at most {MAX_METRICS} values")
    return {name: _flat(value) for name, value in values.items()}


def _flat(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    if type(value) is int and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1023 else math.copysign(math.inf, value)
    return value


@contextlib.contextmanager
def _kernel_home() -> Iterator[tuple[Path, Any]]:
    """A folder for the kernel's connection, with this Python as its kernel, and the settings for it.

    Kernels talk through local sockets where those work: there are no ports that two could race for. A socket's path
    has at most 107 bytes, hence /tmp. Kernels inherit one thread, unless the worker was started with more, and the
    library that we are.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from traitlets.config import Config

    config = Config()
    # A failed kernel is interrupted before it is shut down, and would say so on the terminal.
    config.NotebookClient.extra_arguments = ["--IPKernelApp.log_level=CRITICAL"]
    config.NotebookClient.iopub_timeout = _WAIT_SECONDS
    has_sockets = hasattr(socket, "AF_UNIX") and os.access("/tmp", os.W_OK | os.X_OK)
    with tempfile.TemporaryDirectory(
        prefix="skf-", dir="/tmp" if has_sockets else None, ignore_cleanup_errors=True
    ) as home:
        folder = Path(home)
        if has_sockets:
            config.KernelManager.transport = "ipc"
        config.KernelManager.connection_file = str(folder / "kernel.json")
        (folder / "kernels" / _KERNEL).mkdir(parents=True)
        (folder / "kernels" / _KERNEL / "kernel.json").write_text(json.dumps(get_kernel_dict()))
        settings = {name: value for name, value in ONE_THREAD.items() if name not in os.environ}
        settings["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else kernels warn on the terminal
        # The first place where kernels are looked for: elsewhere another Python may have taken the name of ours.
        first = {"JUPYTER_PATH": str(folder)}
        if str(_SOURCE) not in (*site.getsitepackages(), site.getusersitepackages()):
            first["PYTHONPATH"] = str(_SOURCE)
        for name, place in first.items():
            settings[name] = os.pathsep.join(filter(None, (place, os.environ.get(name))))
        with environment(settings):
            yield folder, config


@contextlib.contextmanager
def _ended_after(seconds: float | None, folder: Path) -> Iterator[threading.Event]:
    """Kill the kernel that is connected in a folder when its time is over; the event says that it is.

    By its process, not by its consent: a cell that holds the interpreter, or ignores interrupts, ends as well.
    """
    is_over, is_done = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not is_done.wait(wait):  # again, for a kernel that was about to start
            is_over.set()
            _kill_kernels(folder)
            wait = _KILL_SECONDS

    if seconds is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield is_over
    finally:
        is_done.set()


def _kill_kernels(folder: Path) -> None:
    """Those of this process whose connection is in a folder, and all that they have started."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in part for part in child.cmdline()):
                for process in (*child.children(recursive=True), child):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
