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


def sketchfusion(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_a_sweep_from_the_command_line(tmp_path):
    fails = "assert x != 2, 'two is too many'"
    path = write_grid(tmp_path, fails, grid={"x": [1, 2, 3]}, variants={"v": {}}, timeout=90)
    for options, told in (([], "90 s"), (["--timeout", "75.5"], "75.5 s")):
        listed = sketchfusion(path, "--dry-run", *options)
        assert listed.exit_code == 0 and listed.stdout.count("to do") == 4
        assert f"time limit of a run: {told}" in listed.stdout
    assert not (tmp_path / "out").exists()

    done = sketchfusion(path, "--workers", 2, "--out", tmp_path / "here")
    assert done.exit_code == 50 and "3 runs  2 ok" in done.stdout
    first, *lines, last = done.stderr.splitlines()
    assert all(word in last for word in ("1 of 3 runs", "two is too many", "--retry-failed"))
    assert first == "3 runs, 0 of them finished before" and len(lines) == 3, "a line per run"
    assert lines[0].startswith("[1/3, 0:0") and lines[2].startswith("[3/3, 0:00:00 left] ")
    (bad,) = (line for line in lines if "failed v-" in line)
    assert " s (x=2): AssertionError: two is too many" in bad
    assert len(read_results(tmp_path / "here")) == 3

    for options, status, words in (
        (["--dry-run"], 0, ["0 to do", "failed"]),
        (["--dry-run", "--retry-failed"], 0, ["1 to do", "failed, again"]),
        (["--no-resume"], 50, ["has 3 results"]),
    ):
        again = sketchfusion(path, "--out", tmp_path / "here", *options)
        assert again.exit_code == status and all(word in again.output for word in words)
    assert set(executions(tmp_path).values()) == {1}


def test_errors_are_one_line_and_start_nothing(tmp_path):
    wrong = write_grid(tmp_path, grid={"rat": [1.0]})
    for dry in ([], ["--dry-run"]):
        done = sketchfusion(wrong, *dry)
        assert done.exit_code == 50 and len(done.stderr.splitlines()) == 1
        assert "error:" in done.stderr and "'rat'" in done.stderr and "rate: float" in done.stderr
    done = sketchfusion(write_grid(tmp_path), "--dry-run", "--timeout", "0")
    assert done.exit_code == 50 and "timeout is 0" in done.stderr
    for text in ("GPU", "GPU=", "GPU=0", "=1", "GPU=nan"):
        assert sketchfusion(wrong, "--resources", text).exit_code == 2
    assert sketchfusion(tmp_path / "none.yaml").exit_code == 50
    assert not (tmp_path / "out").exists() and executions(tmp_path) == {}


def test_without_its_packages_a_sweep_names_the_extra():
    app = "from sketchfusion_lite.cli import app; app(['sweep', 'grid.yaml'])"
    for package in ("papermill", "yaml"):
        code = f"import sys; sys.modules[{package!r}] = None\n{app}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 33 and "sketchfusion-lite[sweep]" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file descriptors of POSIX")
def test_a_sweep_needs_no_home_no_locale_no_input_and_no_place_for_temporary_files(tmp_path):
    """As under a scheduler of jobs, where little is set; the folder's name is long and has all that quoting is for."""
    folder = tmp_path / f"{'long ' * 20}é\"'{{x}}"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    environment |= {"HOME": "/nonexistent", "LC_ALL": "C", "TMPDIR": "/nonexistent"}
    command = [sys.executable, "-m", "sketchfusion_lite.cli", "sweep", write_grid(folder)]
    options = {"capture_output": True, "text": True, "preexec_fn": lambda: os.close(0)}
    done = subprocess.run(command, env=environment, **options)
    assert done.returncode == 0, done.stderr
    (row,) = read_results(folder / "out")
    assert row["status"] == "ok" and row["metric.folder"] == str(folder)
