"""Where the workers are: processes of this machine, or those of a scheduler that runs already.

    scheduler=None   -> LocalCluster: worker processes here, each with one thread, gone with this process
    scheduler="tcp://host:8786", "tls://..." or a scheduler file (.json) -> the workers that are there

A worker has one thread and its numeric libraries have one each: results must not depend on how many work beside it,
and two busy thread pools on the same cores run several times slower than one.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, checks
from ..errors import ArgumentError, DependencyMissing, WorkersError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

__all__ = ["ONE_THREAD", "environment", "open_client", "refuse_while_imported"]

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
_GUARD = 'put what it does below the line `if __name__ == "__main__":`.'
_SETTINGS = {  # of Dask
    # Photos travel with their tasks, which Dask takes for a mistake; how many do is bounded.
    "distributed.admin.large-graph-warning-threshold": "1 GiB",
    # A busy machine may take longer than the usual 15 s to start a worker again; after that its place is lost.
    "distributed.deploy.lost-worker-timeout": "1 hour",
    # Environment of a worker must be set before its libraries are imported, hence by its nanny, for which
    # variables that are set here already win over its own settings: hence ``environment`` below, too.
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
    "distributed.scheduler.allowed-failures": 1,  # a task that kills two workers would kill all
}


@contextmanager
def open_client(
    workers: int = 1,
    scheduler: str | Path | None = None,
    *,
    resources: Mapping[str, float] | None = None,
    timeout: float = 30.0,
) -> Iterator[Client]:
    """Connect to workers, starting them here unless a scheduler is named.

    Args:
        workers: processes to start here; not used with a scheduler, which has workers of its own.
        scheduler: address such as ``"tcp://host:8786"``, or the path of a scheduler file; None starts workers here.
        resources: what each worker started here offers, e.g. ``{"GPU": 1}``; see ``spread(resources=)``.
        timeout: seconds to wait for the scheduler and for its first worker.

    Raises:
        ArgumentError: no worker asked for.
        WorkersError: no scheduler at the address, no worker connected, or another release of the library there; no
            worker could be started here.
        DependencyMissing: dask.distributed is not installed.
    """
    try:
        import dask
        from distributed import Client
        from distributed.utils import silence_logging_cmgr
    except ModuleNotFoundError as error:
        raise DependencyMissing.for_extra(
            "distributed", "sweep", "spreading work over workers"
        ) from error
    refuse_while_imported()
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        if scheduler is None:
            cluster = stack.enter_context(_start_workers(workers, resources or {}))
            yield stack.enter_context(Client(cluster))
            return
        address = str(scheduler) if "://" in str(scheduler) else _address_in(Path(scheduler))
        try:
            client = Client(address, timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise WorkersError(
                f"{scheduler}: no Dask scheduler answers within {timeout:g} s ({error}). "
                "Start one with `dask scheduler`, and `dask worker ADDRESS --nthreads 1` on every machine."
            ) from error
        # A lost connection is an error of ours; distributed would log a traceback besides.
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        stack.enter_context(client)
        _check_workers(client, scheduler, timeout)
        yield client


def refuse_while_imported() -> None:
    """End a process that is about to be a worker, and imports a script which would start workers itself.

    Call it first where workers are about to be started, before anything is done twice. The script's own process goes
    on to say what is wrong.

    Raises:
        SystemExit: the main script is being imported anew by a process that it has started.
    """
    # What multiprocessing itself asks before it refuses to start a process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"a worker imports this script, which starts workers: {_GUARD}")


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what is started meanwhile; afterwards they are as before."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_workers(workers: int, resources: Mapping[str, float]) -> LocalCluster:
    from distributed import LocalCluster

    checks.whole("workers", workers, 1)
    try:
        with environment(ONE_THREAD):
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # of its HTTP server: the usual port may be taken
                scheduler_kwargs={"dashboard": False},
                resources=dict(resources),
                silence_logs="CRITICAL",  # errors come back as results
            )
    except (RuntimeError, OSError) as error:  # Dask says no more than that its nanny failed
        script = getattr(sys.modules["__main__"], "__file__", None) or "a notebook"
        raise WorkersError(
            f"no worker could be started here ({error}). Look for memory, and for room in the folder of temporary "
            f"files; and if what starts them is a script ({script}), {_GUARD}"
        ) from None


def _address_in(file: Path) -> str:
    """The address that a scheduler wrote into its file."""
    if not file.is_file():
        raise ArgumentError(
            f"scheduler={file}: neither an address such as tcp://host:8786 nor a scheduler file."
        )
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkersError(
            f"{file}: no scheduler file ({error!r}). `dask scheduler --scheduler-file {file}` writes one."
        ) from error


def _check_workers(client: Client, scheduler: str | Path, timeout: float) -> None:
    """At least one worker, and all with this release: another one could give other results."""
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise WorkersError(
            f"{scheduler}: no worker is connected. Start some: dask worker ADDRESS --nthreads 1"
        ) from error

    def version() -> str:  # local, so that it travels as code: a worker may have no such module
        try:
            from sketchfusion_lite import __version__
        except ModuleNotFoundError:
            return "none"
        return __version__

    if other := sorted({*client.run(version).values()} - {__version__}):
        raise WorkersError(
            f"{scheduler}: workers have sketchfusion-lite {', '.join(other)}, here is {__version__}. "
            "Install the same release on all machines."
        )
