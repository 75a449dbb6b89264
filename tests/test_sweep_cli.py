"""``sketchfusion sweep``: what a person sees, and what a script can rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sketchfusion_lite.cli import app
from sketchfusion_lite.sweeps import read_results
from tests.sweep_notebooks import executions, write_grid

FAILS_FOR_2 = "assert x != 2, 'two is too many'"


def sketchfusion(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_a_sweep_from_the_command_line(tmp_path):
    path = write_grid(tmp_path, FAILS_FOR_2, grid={"x": [1, 2, 3]}, variants={"v": {}})
    listed = sketchfusion(path, "--dry-run")
    assert listed.exit_code == 0 and listed.stdout.count("to do") == 4
    assert not (tmp_path / "out").exists()

    done = sketchfusion(path, "--workers", 2, "--out", tmp_path / "here")
    assert done.exit_code == 50
    assert "3 runs  2 ok" in done.stdout
    for word in ("1 of 3 runs", "two is too many", "--retry-failed"):
        assert word in done.stderr.splitlines()[-1]
    first, *lines, _ = done.stderr.splitlines()
    assert first == "3 runs, 0 of them finished before" and len(lines) == 3, "a line per run"
    assert lines[0].startswith("[1/3, 0:0") and lines[2].startswith("[3/3, 0:00:00 left] ")
    (bad,) = (line for line in lines if "failed v-" in line)
    assert " s (x=2): AssertionError: two is too many" in bad
    assert len(read_results(tmp_path / "here")) == 3

    again = sketchfusion(path, "--out", tmp_path / "here", "--dry-run")
    assert "0 to do" in again.stdout and again.stdout.count("failed") == 1
    retry = sketchfusion(path, "--out", tmp_path / "here", "--dry-run", "--retry-failed")
    assert "1 to do" in retry.stdout and "failed, again" in retry.stdout
    refused = sketchfusion(path, "--out", tmp_path / "here", "--no-resume")
    assert refused.exit_code == 50 and "has 3 results" in refused.stderr
    assert set(executions(tmp_path).values()) == {1}


def test_errors_are_one_line_and_start_nothing(tmp_path):
    wrong = write_grid(tmp_path, grid={"rat": [1.0]})
    for dry in ([], ["--dry-run"]):
        done = sketchfusion(wrong, *dry)
        assert done.exit_code == 50 and len(done.stderr.splitlines()) == 1
        assert "error:" in done.stderr and "'rat'" in done.stderr and "rate: float" in done.stderr
    assert not (tmp_path / "out").exists() and executions(tmp_path) == {}
    for text in ("GPU", "GPU=", "GPU=0", "=1", "GPU=nan"):
        assert sketchfusion(wrong, "--resources", text).exit_code == 2
    assert sketchfusion(tmp_path / "none.yaml").exit_code == 50


def test_a_dry_run_tells_the_time_limit(tmp_path):
    path = write_grid(tmp_path, timeout=90)
    for options, told in (([], "90 s"), (["--timeout", "7.5"], "7.5 s")):
        done = sketchfusion(path, "--dry-run", *options)
        assert done.exit_code == 0 and f"time limit of a run: {told}" in done.stdout
    done = sketchfusion(path, "--dry-run", "--timeout", "0")
    assert done.exit_code == 50 and "timeout is 0" in done.stderr


def test_without_its_packages_a_sweep_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['papermill'] = None\n"
        "from sketchfusion_lite.cli import app; app(['sweep', 'grid.yaml'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 33 and "sketchfusion-lite[sweep]" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file descriptors of POSIX")
def test_a_sweep_needs_no_home_no_locale_no_input_and_no_place_for_temporary_files(tmp_path):
    """As under a scheduler of jobs, where little is set; the folder's name is long and has all that quoting is for."""
    folder = tmp_path / f"{'long ' * 20}é\"'{{x}}"
    folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "TMPDIR": "/nonexistent",
    }
    command = [sys.executable, "-m", "sketchfusion_lite.cli", "sweep", write_grid(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=lambda: os.close(0)
    )
    assert done.returncode == 0, done.stderr
    (row,) = read_results(folder / "out")
    assert row["status"] == "ok" and row["metric.folder"] == str(folder)
