"""Work spread over processes: nothing lost, nothing twice, a few tasks ahead, errors that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from sketchfusion_lite import __version__
from sketchfusion_lite.errors import ArgumentError, WorkersError
from sketchfusion_lite.workers import open_client, spread

from .clusters import (
    ROOT,
    die_over_1,
    double,
    fail_if_odd,
    started_cluster,
    take_a_while,
    threads,
    wait_for,
)
from .sweep_notebooks import write_grid


@pytest.fixture(scope="module")
def client():
    """Two worker processes with something to offer."""
    with open_client(2, resources={"LICENCE": 1}) as client:
        yield client


def marks(folder: Path, name: object = "*") -> int:
    return len(list(folder.glob(f"{name}.*")))


def refuses_to_open(error: type[Exception], words: str, *arguments: object, **options: object):
    with pytest.raises(error, match=words), open_client(*arguments, **options):
        pass


@pytest.mark.parametrize("per_thread", [1, 2])
def test_every_task_comes_back_once_and_only_a_few_are_taken_ahead(client, per_thread):
    taken, results = 0, []

    def tasks():
        nonlocal taken
        for number in [*range(20), 7, 7]:  # equal ones are all done
            taken += 1
            assert taken - len(results) <= 2 * per_thread
            yield number

    for each in spread(client, double, tasks(), per_thread=per_thread):
        results.append((each.task, each.result))
        assert each.error is None
    assert sorted(results) == sorted((n, 2 * n) for n in [*range(20), 7, 7])
    assert list(spread(client, double, [])) == []


def test_an_error_costs_its_task_after_its_attempts(client, tmp_path):
    tasks = [(tmp_path, number) for number in range(6)]
    finished = {f.task[1]: f for f in spread(client, fail_if_odd, tasks, retries=2)}
    for number, each in finished.items():
        odd = number % 2
        assert (each.result is None) == odd and marks(tmp_path, number) == (3 if odd else 1)
        assert (str(each.error) == f"{number} is odd") if odd else each.error is None
    assert len(finished) == 6


def test_killed_workers_cost_attempts_and_a_task_that_kills_all_is_given_up(client, tmp_path):
    (tmp_path / "always").mkdir()
    once = partial(die_over_1, times=1)
    finished = list(spread(client, once, [(tmp_path, number) for number in range(8)]))
    assert sorted(f.result for f in finished) == list(range(8)), "no result is missing"
    assert marks(tmp_path, 1) == 2
    tasks = [(tmp_path / "always", number) for number in range(4)]
    finished = [f for task in tasks for f in spread(client, die_over_1, [task])]
    assert isinstance(finished[1].error, WorkersError) and "memory" in str(finished[1].error)
    assert [finished[n].result for n in (0, 2, 3)] == [0, 2, 3]
    client.wait_for_workers(2, timeout=60)  # those that were killed are starting again
    assert list(client.nthreads().values()) == [1, 1]
    assert [f.result for f in spread(client, threads, [None])] == ["1"]


def test_what_has_not_begun_is_cancelled_on_close_and_on_an_exception(client, tmp_path):
    def tasks(last):
        yield from ((tmp_path, n) for n in range(last))
        raise KeyError("no more")

    with closing(spread(client, take_a_while, tasks(1000))) as results:
        next(results)
    wait_for(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
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


# finding workers ----------------------------------------------------------------------------------


def test_a_scheduler_from_its_first_worker_to_its_end(tmp_path):
    tasks = [(tmp_path, n) for n in range(50)]
    with started_cluster(tmp_path) as cluster:
        words = r"no worker is connected.*dask worker"
        refuses_to_open(WorkersError, words, scheduler=cluster.address, timeout=0.5)
        worker = cluster.add_worker()
        with open_client(scheduler=cluster.address) as client:
            results = spread(client, take_a_while, tasks, patience=1.0)
            next(results)
            worker.kill()
            with pytest.raises(WorkersError, match=r"all workers are gone.*go on"):
                list(results)
        before = marks(tmp_path)
        cluster.add_worker()
        with open_client(scheduler=str(cluster.file)) as client:
            results = spread(client, take_a_while, tasks)
            next(results)
            cluster.scheduler.kill()
            with pytest.raises(WorkersError, match=r"connection is lost.*go on"):
                list(results)
            assert marks(tmp_path) - before < 50


def test_other_releases_are_refused(tmp_path):
    other = tmp_path / "other" / "sketchfusion_lite"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    with started_cluster(tmp_path) as cluster:
        cluster.add_worker(path=other.parent)
        words = rf"have sketchfusion-lite 0\.0\.1, here is {__version__}"
        refuses_to_open(WorkersError, words, scheduler=cluster.address)


@pytest.mark.parametrize(
    "script",
    [
        "from sketchfusion_lite.workers import open_client\nwith open_client(1): pass\n",
        "from sketchfusion_lite.sweeps import run\nrun('grid.yaml')\n",
    ],
)
def test_a_script_that_its_workers_import_is_told_so(tmp_path, script):
    write_grid(tmp_path)
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    *lines, last = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) < 30
    for word in ("WorkersError", str(path), 'if __name__ == "__main__":'):
        assert word in last


def test_workers_that_do_not_start_here_are_an_error_of_ours(monkeypatch):
    def fail(**options):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    refuses_to_open(WorkersError, r"Nanny failed to start.*temporary files")
    refuses_to_open(ArgumentError, "workers=0", 0)


@pytest.mark.parametrize(
    ("where", "kind", "words"),
    [
        ("tcp://127.0.0.1:1", WorkersError, "no Dask scheduler answers.*dask scheduler"),
        ("tcp://", WorkersError, "no Dask scheduler"),
        ("broken.json", WorkersError, "no scheduler file.*--scheduler-file"),
        ("host:8786", ArgumentError, "neither an address such as tcp://"),
        ("absent.json", ArgumentError, "nor a scheduler file"),
    ],
)
def test_no_scheduler(tmp_path, monkeypatch, where, kind, words):
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{}")
    refuses_to_open(kind, words, scheduler=where, timeout=0.5)
