"""Sweeps: nothing is lost, nothing is repeated, and the table says the same however it came about."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sketchfusion_lite.errors import ArgumentError, ResultsError, SweepError
from sketchfusion_lite.sweeps import load_grid, read_results, run
from sketchfusion_lite.workers.cluster import ONE_THREAD
from tests.clusters import wait_for
from tests.sweep_notebooks import executions, write_grid

ROOT = Path(__file__).parents[1]
READ, LEAVE = "print(results_path)\n", "results_path = os.devnull"
FAILS_FOR_2 = "assert x != 2, 'two is too many'"
SLOW_SECONDS = 300  # far longer than a test waits for the end of anything


@pytest.fixture(scope="module")
def cluster():
    """Two workers that outlive a sweep, reached by their scheduler's address; nobody chose their threads."""
    from distributed import LocalCluster

    with pytest.MonkeyPatch.context() as patch:
        for name in ONE_THREAD:  # `make test` sets some
            patch.delenv(name, raising=False)
        with LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            resources={"GPU": 1},
            silence_logs="CRITICAL",
        ) as workers:
            yield workers.scheduler_address


def sweep(path, cluster, **options):
    return run(path, scheduler=cluster, **options)


def without_times(rows):
    """What must not depend on when and where a row was measured."""
    varying = ("seconds", "started", "worker")
    return [{k: v for k, v in row.items() if k not in varying} for row in rows]


# results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_second_sweep_executes_nothing_and_gives_the_same_table(tmp_path, cluster, kind):
    path = write_grid(tmp_path, FAILS_FOR_2, grid={"x": [1, 2, 3]}, table=kind)
    heard, file = [], tmp_path / "out" / f"results.{kind}"
    rows = sweep(path, cluster, on_row=lambda *told: heard.append(told))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert "two is too many" in rows[1]["error"] and "AssertionError" in rows[1]["error"]
    assert [row["metric.product"] for row in rows] == [0.5, None, 1.5]
    first, table = file.read_bytes(), read_results(tmp_path / "out")
    again = sweep(path, cluster)
    assert file.read_bytes() == first and read_results(tmp_path / "out") == table
    assert without_times(again) == without_times(rows)
    assert executions(tmp_path) == {"1-0.5-0": 1, "2-0.5-0": 1, "3-0.5-0": 1}
    assert [told[1:] for told in heard] == [(1, 3), (2, 3), (3, 3)]
    assert {told[0]["param.x"] for told in heard} == {1, 2, 3}


def test_a_row_says_what_it_is(tmp_path, cluster):
    def git(*command):
        me = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", tmp_path, *me, *command]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    path = write_grid(tmp_path, variants={"v": {"rate": 2}})
    git("init", "-q")
    git("add", "unit.ipynb")
    git("commit", "-qm", "first")
    (row,) = sweep(path, cluster)
    assert (row["git"], row["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    assert row["variant"] == "v" and row["notebook"] == "unit.ipynb" and row["error"] == ""
    assert row["param.rate"] == 2.0 and row["param.x"] == 1, "defaults are in the row, too"
    assert row["metric.folder"] == str(tmp_path), "a notebook runs in its own folder"
    assert row["metric.threads"] == "1"
    assert row["seconds"] > 0 and row["started"].endswith("+00:00") and row["python"]
    folder = tmp_path / "out" / "runs" / f"v-{row['run_id']}"
    stored = json.loads((folder / "row.json").read_text())
    assert {name: row[name] for name in stored} == stored
    executed = json.loads((folder / "notebook.ipynb").read_text())
    assert executed["cells"][-1]["execution_count"]
    source = json.loads((tmp_path / "unit.ipynb").read_text())
    assert not any(cell.get("outputs") for cell in source["cells"]), "the original is left alone"


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    """Also that workers started here have one thread, whatever the environment says."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    tables = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        run(write_grid(folder, grid={"x": [3, 1]}, seeds=[0, 1]), workers=workers)
        rows = without_times(read_results(folder / "out"))
        place = ("param.marks", "metric.folder", "run_id")
        tables.append([{k: v for k, v in row.items() if k not in place} for row in rows])
    assert tables[0] == tables[1] and len(tables[0]) == 4
    assert {row["metric.threads"] for row in tables[0]} == {"1"}


ENDS = {
    "pass": "wrote nothing to its parameter results_path",
    "Path(results_path).write_text('[1]')": "no JSON object",
    "Path(results_path).write_text('{')": "no JSON",
    "Path(results_path).write_text('[' * 100_000)": "no JSON",
    "Path(results_path).write_text('{}' + ' ' * 2_000_000)": "bytes",
    "os.kill(os.getpid(), 9)": "kernel died",
    "raise ValueError('z' * 9999)": "ValueError: zzz",
}


def test_whatever_a_notebook_does_is_a_row(tmp_path, cluster):
    code = f"{READ}exec({list(ENDS)}[x])\n{LEAVE}"
    rows = sweep(write_grid(tmp_path, code, grid={"x": list(range(len(ENDS)))}), cluster)
    for row, words in zip(rows, ENDS.values(), strict=True):
        assert row["status"] == "failed" and words in row["error"] and len(row["error"]) <= 2000


def test_metrics_of_any_kind_fit_the_table(tmp_path, cluster):
    values = (
        "{'a': [1, 2], 'b': x if x > 1 else 0.5, 'c': None, 'd': True, 'e': 'é\\n', 'f': 10**30}"
    )
    code = f"Path(results_path).write_text(json.dumps({values} | {{f'only{{x}}': float('nan')}}))"
    path = write_grid(tmp_path, f"{READ}{code}\n{LEAVE}", grid={"x": [1, 2]})
    sweep(path, cluster)
    one, two = read_results(tmp_path / "out")
    assert one["metric.a"] == "[1, 2]" and one["metric.e"] == "é\n" and one["metric.d"] is True
    assert (one["metric.b"], two["metric.b"]) == (0.5, 2.0) and one["metric.c"] is None
    assert one["metric.only1"] != one["metric.only1"] and two["metric.only1"] is None
    assert one["metric.f"] == 1e30


def test_rows_of_other_grids_and_of_an_earlier_notebook_stay(tmp_path, cluster):
    sweep(write_grid(tmp_path, grid={"x": [1]}), cluster)
    (row,) = sweep(write_grid(tmp_path, grid={"x": [2]}), cluster)
    assert row["param.x"] == 2
    assert [r["param.x"] for r in read_results(tmp_path / "out")] == [1, 2]
    sweep(write_grid(tmp_path, "pass", grid={"x": [2]}), cluster)  # other code is another run
    assert executions(tmp_path) == {"1-0.5-0": 1, "2-0.5-0": 2}
    assert [r["param.x"] for r in read_results(tmp_path / "out")] == [1, 2, 2]


# what is there, what is missing ---------------------------------------------------------------------


def test_failed_runs_are_repeated_when_asked(tmp_path, cluster):
    keys = {"middle": "assert x != 2 or times", "grid": {"x": [1, 2]}}
    rows = sweep(write_grid(tmp_path, **keys), cluster)
    assert [row["status"] for row in rows] == ["ok", "failed"]
    # Under another name, so that the failed row lies in another folder than the new one.
    path = write_grid(tmp_path, **keys, variants={"another": {}})
    rows = sweep(path, cluster, retry_failed=True)
    assert [(row["status"], row["variant"]) for row in rows] == [("ok", "another")] * 2
    assert sweep(path, cluster) == rows
    assert executions(tmp_path) == {"1-0.5-0": 1, "2-0.5-0": 2}


def test_a_table_or_the_folders_may_be_lost_but_not_damaged(tmp_path, cluster):
    path, out = write_grid(tmp_path), tmp_path / "out"
    table, runs = out / "results.parquet", out / "runs"
    sweep(path, cluster)
    rows, whole = read_results(table), table.read_bytes()
    table.write_bytes(whole[:-20])
    with pytest.raises(ResultsError, match="damaged"):
        sweep(path, cluster)
    table.unlink()
    assert sweep(path, cluster) == read_results(table) == rows
    shutil.rmtree(runs)
    assert sweep(path, cluster) == rows and executions(tmp_path) == {"1-0.5-0": 1}

    table.unlink()
    torn = runs / f"default-{rows[0]['run_id']}" / "row.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"schema": 1')
    notes = []
    (again,) = sweep(path, cluster, report=notes.append)
    assert again["status"] == "ok" and "row.json" in notes[0], "repeated, and said"
    assert executions(tmp_path) == {"1-0.5-0": 2}


def test_one_sweep_at_a_time_and_results_only_where_they_are_wanted(tmp_path, cluster):
    from filelock import FileLock

    path = write_grid(tmp_path)
    assert run(path, dry_run=True) == [] and not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".sweep.lock"), pytest.raises(SweepError, match="another"):
        sweep(path, cluster)
    assert executions(tmp_path) == {}
    assert sweep(path, cluster, resume=False)[0]["status"] == "ok"
    with pytest.raises(SweepError, match="has 1 results"):
        sweep(path, cluster, resume=False)


def test_an_interrupt_keeps_what_is_finished(tmp_path, cluster):
    def stop(row, done, total):
        raise KeyboardInterrupt

    path = write_grid(tmp_path, grid={"x": [1, 2, 3, 4, 5, 6]})
    with pytest.raises(KeyboardInterrupt):
        sweep(path, cluster, on_row=stop)
    assert len(read_results(tmp_path / "out")) == 1
    assert len(executions(tmp_path)) <= 4, "what had not begun was cancelled"
    rows = sweep(path, cluster)
    assert [row["param.x"] for row in rows] == [1, 2, 3, 4, 5, 6]


# death --------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_one_attempt_and_a_run_that_kills_two_is_lost_alone(tmp_path):
    kill = "if times < {1: 1, 2: 2, 3: 0}[x]:\n"
    kill += "    os.kill(int(os.environ['JPY_PARENT_PID']), signal.SIGKILL)\n    time.sleep(60)"
    path = write_grid(tmp_path, kill, grid={"x": [1, 2, 3]})
    rows = run(path, workers=1)
    assert [row["status"] for row in rows] == ["ok", "lost", "ok"]
    assert "died" in rows[1]["error"] and rows[1]["param.x"] == 2
    assert read_results(tmp_path / "out") == rows
    assert executions(tmp_path) == {"1-0.5-0": 2, "2-0.5-0": 2, "3-0.5-0": 1}
    rows = run(path, workers=1)
    assert [row["status"] for row in rows] == ["ok"] * 3, "a lost run is tried at the next start"
    assert executions(tmp_path) == {"1-0.5-0": 2, "2-0.5-0": 3, "3-0.5-0": 1}


def test_a_killed_sweep_goes_on_where_it_was(tmp_path, cluster):
    slow = f"if x == 2 and not times: time.sleep({SLOW_SECONDS})"
    path = write_grid(tmp_path, slow, grid={"x": [1, 2, 3]})
    command = [sys.executable, "-m", "sketchfusion_lite.cli", "sweep", str(path), "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: executions(tmp_path).get("2-0.5-0"), SLOW_SECONDS - 10)
    finally:
        process.kill()
        process.wait()
    kernel = int((tmp_path / "marks" / "2-0.5-0.log").read_text())
    wait_for(lambda: not Path(f"/proc/{kernel}").exists())
    rows = sweep(path, cluster)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert executions(tmp_path) == {"1-0.5-0": 1, "2-0.5-0": 2, "3-0.5-0": 1}


# workers ------------------------------------------------------------------------------------------


def test_what_no_worker_offers_and_wrong_numbers_and_addresses_are_refused(tmp_path, cluster):
    path = write_grid(tmp_path)
    with pytest.raises(ArgumentError, match="TPU"):
        sweep(path, cluster, resources={"TPU": 1})
    with pytest.raises(ArgumentError, match="workers=0"):
        run(path, workers=0)
    with pytest.raises(ArgumentError, match=r"nowhere\.json"):
        run(path, scheduler="nowhere.json")
    assert executions(tmp_path) == {}
    assert sweep(path, cluster, resources={"GPU": 1})[0]["status"] == "ok"


# tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_values_survive_the_table_and_damaged_ones_are_refused(tmp_path, kind):
    from sketchfusion_lite.sweeps import plan, table

    (planned,) = plan(load_grid(write_grid(tmp_path, grid={"x": [1]}))).runs
    metrics = {"f": 0.1 + 0.2, "i": 2**60, "t": 'a,"b"\n', "z": "007", "n": None, "flag": False}
    good = table.row_of(planned, metrics, status="ok", seconds=1.0, git_dirty=False)
    path = tmp_path / f"results.{kind}"
    table.write_results(path, [good])
    assert read_results(path) == [good]
    for name, wrong in (("schema", 99), ("status", "fine")):
        table.write_results(path, [good | {name: wrong}])
        with pytest.raises(ResultsError, match=rf"{name}( is)? '?{wrong}"):
            read_results(path)
    path.write_bytes(b"a,b\n1\n")
    with pytest.raises(ResultsError, match=path.name):
        read_results(path)
    path.unlink()
    with pytest.raises(ResultsError, match="cannot be read"):
        read_results(path)
