"""One run of a sweep: its time, its kernel, and whose fault it is when it cannot be executed."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from sketchfusion_lite.sweeps import load_grid, plan
from sketchfusion_lite.sweeps.unit import Unit, execute
from tests.clusters import wait_for
from tests.sweep_notebooks import write_grid

# Holds the interpreter, so that no interrupt reaches it, and has started a process of its own.
HANGS = """\
import re, subprocess
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
Path(marks, "pids").write_text(f"{child.pid} {os.getpid()}")
re.match("(a*)*b", "a" * 60)
"""


def unit_of(folder: Path, middle: str = "", timeout: float | None = None) -> Unit:
    """The run of a grid as a worker gets it."""
    (run,) = plan(load_grid(write_grid(folder, middle))).runs
    stamp = {"notebook": "unit.ipynb"}
    return Unit(run, folder / "unit.ipynb", folder, folder / "run", stamp, timeout)


def is_over(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_over_its_time_is_ended_with_all_that_it_started(tmp_path):
    row = execute(unit_of(tmp_path, HANGS, timeout=15))
    assert row["status"] == "failed", "a row that is kept until it is retried"
    for word in ("TimeLimit", "15 s", "timeout", "cell 4: import re, subprocess"):
        assert word in row["error"]
    assert {"row.json", "notebook.ipynb"} <= {path.name for path in (tmp_path / "run").iterdir()}
    pids = [int(pid) for pid in (tmp_path / "marks" / "pids").read_text().split()]
    wait_for(lambda: all(map(is_over, pids)))


def test_time_may_be_over_before_the_first_cell(tmp_path):
    row = execute(unit_of(tmp_path, timeout=0.01))
    assert row["status"] == "failed" and "before its first cell" in row["error"]


def test_runs_use_this_python_whatever_python3_is_elsewhere_and_do_without_sockets(
    tmp_path, monkeypatch
):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false", "{connection_file}"], "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != "/tmp")
    assert execute(unit_of(tmp_path))["error"] == ""


def test_an_error_of_the_notebook_is_a_row_and_one_of_the_machine_is_not(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise kind("no translator")

    monkeypatch.setattr("papermill.execute_notebook", fail)
    kind = OSError
    with pytest.raises(OSError, match="no translator"):
        execute(unit_of(tmp_path))
    kind = KeyError
    row = execute(unit_of(tmp_path))
    assert row["status"] == "failed" and "no translator" in row["error"]
