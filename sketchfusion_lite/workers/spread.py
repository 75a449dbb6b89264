"""Spread tasks over workers: a few in flight, results as they come, an error costs its task only.

tasks --> [in flight: twice as many as there are threads] --> worker --> Finished(task, result or error)
  ^                                                                            |
  +---------------------------- the next one, as one ends ---------------------+

Backpressure: a million tasks are not a million futures in the scheduler's memory, and whatever the caller writes
for a result is written before many more are under way. A worker that dies takes one attempt with it: Dask gives the
task to another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Finished", "spread"]


@dataclass(frozen=True)
class Finished:
    """What became of one task.

    Attributes:
        task: as it was given.
        result: what the work returned; None after an error.
        error: what it raised in its last attempt, or how its workers died; None if all went well.
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
    in_flight: int | None = None,
    resources: Mapping[str, float] | None = None,
) -> Iterator[Finished]:
    """Do ``work(task)`` for all tasks on the workers; yields each as it ends, in any order.

    Closing the iterator, or an exception in the loop over it, cancels what has not begun.

    Args:
        client: from :func:`.open_client`.
        work: an importable function, whose arguments and results can be pickled.
        tasks: taken one by one, as room comes free.
        retries: further attempts of a task whose work raised.
        in_flight: tasks handed to the scheduler at a time; None for twice the number of worker threads, asked again
            for every task, since clusters grow and shrink.
        resources: what one task needs of a worker, e.g. ``{"GPU": 1}``.

    Raises:
        ArgumentError: no worker offers the resources.
    """
    from distributed import as_completed

    if in_flight is not None and in_flight < 1:
        raise ArgumentError(f"in_flight={in_flight}: give at least one.")
    if resources:
        _check_resources(client, resources)
    waiting, given = iter(tasks), {}
    arriving = as_completed(with_results=True, raise_errors=False)

    def fill() -> None:
        room = in_flight or max(2, 2 * sum(client.nthreads().values()))
        while len(given) < room:
            try:
                task = next(waiting)
            except StopIteration:
                return
            future = client.submit(
                work, task, pure=False, retries=retries, resources=dict(resources or {}) or None
            )
            given[future.key] = future, task
            arriving.add(future)

    try:
        fill()
        for future, result in arriving:
            _, task = given.pop(future.key)
            if future.status == "finished":
                yield Finished(task, result)
            else:
                yield Finished(task, error=_error_of(future, result))
            fill()
    finally:
        client.cancel([future for future, _ in given.values()])


def _error_of(future: Any, result: Any) -> BaseException:
    """The exception of a task that ended badly, whatever form Dask hands it over in."""
    if isinstance(result, BaseException):
        return result
    if isinstance(result, tuple) and len(result) > 1 and isinstance(result[1], BaseException):
        return result[1]  # (type, exception, traceback)
    error = future.exception() if future.status == "error" else None
    return error or RuntimeError(f"the task was {future.status}")


def _check_resources(client: Client, resources: Mapping[str, float]) -> None:
    offered = [w["resources"] for w in client.scheduler_info(n_workers=-1)["workers"].values()]
    for name, amount in resources.items():
        if not any(each.get(name, 0) >= amount for each in offered):
            raise ArgumentError(
                f"no worker offers {name}={amount:g}. Start workers with: "
                f'dask worker ADDRESS --nthreads 1 --resources "{name}={amount:g}"'
            )
