"""Work spread over processes: nothing lost, nothing twice, a few tasks ahead, errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sketchfusion_lite import __version__
from sketchfusion_lite.errors import ArgumentError, WorkersError
from sketchfusion_lite.workers import open_client, spread

from .clusters import ROOT, started_cluster
from .sweep_notebooks import write_grid
from .worker_tasks import die_always, die_at_first, double, fail_if_odd, take_a_while, threads


@pytest.fixture(scope="module")
def client():
    """Two worker processes with something to offer."""
    with open_client(2, resources={"LICENCE": 1}) as client:
        yield client


def marks(folder: Path, name: object = "*") -> int:
    return len(list(folder.glob(f"{name}.*")))


def test_every_task_comes_back_once_and_equal_ones_are_all_done(client, tmp_path):
    finished = list(spread(client, double, range(30)))
    assert sorted((f.task, f.result) for f in finished) == [(n, 2 * n) for n in range(30)]
    assert all(f.error is None for f in finished)
    assert list(spread(client, double, [])) == []
    assert len(list(spread(client, take_a_while, [(tmp_path, 0)] * 3))) == marks(tmp_path) == 3


@pytest.mark.parametrize("per_thread", [1, 2])
def test_only_a_few_tasks_are_taken_ahead(client, per_thread):
    taken, ended, most = 0, 0, 2 * per_thread

    def tasks():
        nonlocal taken
        for number in range(20):
            taken += 1
            assert taken - ended <= most
            yield number

    for _ in spread(client, double, tasks(), per_thread=per_thread):
        ended += 1
    assert ended == 20


def test_an_error_costs_its_task_after_its_attempts(client, tmp_path):
    tasks = [(tmp_path, number) for number in range(6)]
    finished = {f.task[1]: f for f in spread(client, fail_if_odd, tasks, retries=2)}
    for number, each in finished.items():
        odd = number % 2
        assert (each.result is None) == odd and marks(tmp_path, number) == (3 if odd else 1)
        assert (str(each.error) == f"{number} is odd") if odd else each.error is None
    assert len(finished) == 6


def test_killed_workers_cost_attempts_and_a_task_that_kills_all_is_given_up(client, tmp_path):
    finished = list(spread(client, die_at_first, [(tmp_path, number) for number in range(8)]))
    assert sorted(f.result for f in finished) == list(range(8)), "no result is missing"
    assert marks(tmp_path, 1) == 2
    finished = [f for n in range(4) for f in spread(client, die_always, [n])]
    assert isinstance(finished[1].error, WorkersError) and "memory" in str(finished[1].error)
    assert [finished[n].result for n in (0, 2, 3)] == [0, 2, 3]


def test_what_has_not_begun_is_cancelled_on_close_and_on_an_exception(client, tmp_path):
    def tasks(last):
        yield from ((tmp_path, n) for n in range(last))
        raise KeyError("no more")

    with closing(spread(client, take_a_while, tasks(1000))) as results:
        next(results)
    deadline = time.monotonic() + 30
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        assert time.monotonic() < deadline, "the scheduler still has tasks of a closed iterator"
        time.sleep(0.05)
    begun = marks(tmp_path)
    time.sleep(0.3)
    assert marks(tmp_path) == begun <= 6
    with pytest.raises(KeyError, match="no more"):
        list(spread(client, take_a_while, tasks(5)))
    assert [f.result for f in spread(client, double, [4])] == [8], "workers are free again"


def test_resources_are_respected(client, tmp_path):
    tasks = [(tmp_path, number) for number in range(4)]
    times = sorted(f.result for f in spread(client, take_a_while, tasks, resources={"LICENCE": 1}))
    assert all(begun >= times[i][1] for i, (begun, _) in enumerate(times[2:])), "two at a time"
    with pytest.raises(ArgumentError, match=r'--resources "GPU=1"'):
        list(spread(client, double, [1], resources={"GPU": 1}))


# --------------------------------------------------------------------------------------------------
# Finding workers


def test_workers_have_one_thread(client):
    client.wait_for_workers(2, timeout=60)  # those that were killed above are starting again
    assert list(client.nthreads().values()) == [1, 1]
    assert [f.result for f in spread(client, threads, [None])] == ["1"]


def test_a_scheduler_from_its_first_worker_to_its_end(tmp_path):
    with started_cluster(tmp_path) as cluster:
        with (
            pytest.raises(WorkersError, match=r"no worker is connected.*dask worker"),
            open_client(scheduler=cluster.address, timeout=0.5),
        ):
            pass
        cluster.add_worker()
        for where in (cluster.address, cluster.file):
            with open_client(scheduler=where) as client:
                assert [f.result for f in spread(client, double, [3])] == [6]

        with open_client(scheduler=str(cluster.file)) as client:
            results = spread(client, take_a_while, [(tmp_path, n) for n in range(50)])
            next(results)
            cluster.scheduler.kill()
            with pytest.raises(WorkersError, match=r"connection is lost.*go on"):
                list(results)
            assert marks(tmp_path) < 50


def test_all_workers_gone(tmp_path):
    with started_cluster(tmp_path) as cluster:
        worker = cluster.add_worker()
        with open_client(scheduler=cluster.address) as client:
            tasks = ((tmp_path, n) for n in range(50))
            results = spread(client, take_a_while, tasks, patience=1.0)
            next(results)
            worker.kill()
            with pytest.raises(WorkersError, match=r"all workers are gone.*go on"):
                list(results)


def test_other_releases_are_refused(tmp_path):
    other = tmp_path / "other" / "sketchfusion_lite"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    with started_cluster(tmp_path) as cluster:
        cluster.add_worker(path=other.parent)
        with (
            pytest.raises(
                WorkersError, match=rf"have sketchfusion-lite 0\.0\.1, here is {__version__}"
            ),
            open_client(scheduler=cluster.address),
        ):
            pass


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("workers", "open_client", "with open_client(1): pass"),
        ("sweeps", "run", "run('grid.yaml')"),
    ],
)
def test_a_script_that_its_workers_import_is_told_so(tmp_path, module, name, call):
    write_grid(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(f"from sketchfusion_lite.{module} import {name}\n{call}\n")
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    *lines, last = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) < 30
    for word in ("WorkersError", str(script), 'if __name__ == "__main__":'):
        assert word in last


def test_workers_that_do_not_start_here_are_an_error_of_ours(monkeypatch):
    def fail(**options):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    with (
        pytest.raises(WorkersError, match=r"Nanny failed to start.*temporary files"),
        open_client(),
    ):
        pass


def test_no_scheduler(tmp_path):
    broken = tmp_path / "scheduler.json"
    broken.write_text("{}")
    for where, kind, words in (
        ("tcp://127.0.0.1:1", WorkersError, "no Dask scheduler answers.*dask scheduler"),
        ("tcp://", WorkersError, "no Dask scheduler"),
        (broken, WorkersError, "no scheduler file.*--scheduler-file"),
        ("host:8786", ArgumentError, "neither an address such as tcp://"),
        (tmp_path / "absent.json", ArgumentError, "nor a scheduler file"),
    ):
        with pytest.raises(kind, match=words), open_client(scheduler=where, timeout=0.5):
            pass
    with pytest.raises(ArgumentError, match="workers=0"), open_client(0):
        pass
