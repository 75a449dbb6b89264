"""Spread tasks over workers: a few in flight, results as they come, an error costs its task only.

tasks --> [in flight: twice as many as there are threads] --> worker --> Finished(task, result or error)
  ^                                                                            |
  +---------------------------- the next one, as one ends ---------------------+

Backpressure: a million tasks are not a million futures in the scheduler's memory, and whatever the caller writes
for a result is written before many more are under way. A worker that dies takes one attempt with it: Dask gives the
task to another one.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, WorkersError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Finished", "spread"]

_REFILL_SECONDS = 1.0


@dataclass(frozen=True)
class Finished:
    """What became of one task.

    Attributes:
        task: as it was given.
        result: what the work returned; None after an error.
        error: what it raised in its last attempt; WorkersError if its workers died or it was lost; None if all went
            well.
    """

    task: Any
    result: Any = None
    error: BaseException | None = None


def spread(
    client: Client,
    work: Callable[[Any], Any],
    tasks: Iterable[Any],
    *,
    retries: int = 1,
    per_thread: int = 2,
    resources: Mapping[str, float] | None = None,
    patience: float = 300.0,
) -> Generator[Finished, None, None]:
    """Do ``work(task)`` for all tasks on the workers; yields each as it ends, in any order.

    Closing the iterator, or an exception in the loop over it, cancels what has not begun.

    Args:
        client: from :func:`.open_client`.
        work: an importable function, whose arguments and results can be pickled.
        tasks: taken one by one, as room comes free.
        retries: further attempts of a task whose work raised.
        per_thread: tasks handed to the scheduler at a time, for each thread of the workers, who are counted anew every
            second; 1 where tasks are long, so that a worker that dies takes no waiting one with it.
        resources: what one task needs of a worker, e.g. ``{"GPU": 1}``.
        patience: seconds without any worker after which to give up, where Dask itself would wait for ever; others may
            come in place of those that died.

    Raises:
        ArgumentError: no worker offers the resources.
        WorkersError: the connection to the scheduler is lost, or all workers are gone for good.
    """
    for name, amount in (resources or {}).items():
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        if not any(each["resources"].get(name, 0) >= amount for each in known):
            raise ArgumentError(
                f"no worker offers {name}={amount:g}. Start workers with: "
                f'dask worker ADDRESS --nthreads 1 --resources "{name}={amount:g}"'
            )
    options: dict[str, Any] = {
        "pure": False,
        "retries": retries,
        "resources": dict(resources or {}) or None,
    }
    waiting = iter(tasks)
    given: dict[Any, tuple[Future, Any]] = {}  # by the future's key
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    seen = time.monotonic()  # a worker
    try:
        while True:
            with _lost_as_error(client):
                threads = sum(client.nthreads().values())  # workers may have come, or gone
            if threads:
                seen = time.monotonic()
            elif time.monotonic() - seen > patience:
                raise WorkersError(
                    f"all workers are gone, and none came back within {patience:g} s. What is finished is kept: "
                    "start workers, and then the same command, to go on."
                )
            room = max(1, per_thread * threads) - len(given)
            for task in itertools.islice(waiting, max(0, room)):
                with _lost_as_error(client):
                    future = client.submit(work, task, **options)
                given[future.key] = future, task
                future.add_done_callback(ended.put)
            if not given:
                return
            with suppress(queue.Empty):
                future = ended.get(timeout=_REFILL_SECONDS)
                _, task = given.pop(future.key)
                with _lost_as_error(client):
                    done = _finished(task, future)
                yield done
    finally:
        if client.status == "running":
            client.cancel([future for future, _ in given.values()])


@contextmanager
def _lost_as_error(client: Client) -> Iterator[None]:
    try:
        yield
    except (OSError, CancelledError) as error:  # distributed's CommClosedError is an OSError
        address = client.scheduler.address if client.scheduler else "the scheduler"
        raise WorkersError(
            f"{address}: the connection is lost. What is finished is kept: start the scheduler again, and then the "
            "same command, to go on."
        ) from error


def _finished(task: Any, future: Future) -> Finished:
    from distributed import KilledWorker

    if future.status == "finished":
        return Finished(task, future.result())
    if future.status != "error":
        # Cancelled or lost: there is no scheduler any more that would know of it.
        raise CancelledError
    error = future.exception()
    if isinstance(error, KilledWorker):
        error = WorkersError(
            f"{error.allowed_failures + 1} workers died over this task, the last one at "
            f"{error.last_worker.address}: they were killed, or memory ran out. Start fewer of them on a machine."
        )
    return Finished(task, error=error)
