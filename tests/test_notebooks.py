"""The committed notebooks keep the rules of the workbook, and none goes without a test that runs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.notebook_book import ROOT
from tests.notebook_lint import RULES, problems

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUNS = ROOT / "tests" / "test_notebook_runs.py"

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert "00_tour" in [path.stem for path in NOTEBOOKS]


@every_notebook
@pytest.mark.parametrize("rule", RULES)
def test_notebook_keeps_the_rule(rule: str, path: Path):
    assert problems(path, rule) == []


# --------------------------------------------------------------------------------------------------
# Every notebook is run by a test


def covered(source: str) -> set[str]:
    """Notebooks that some test solves with parameters of its own and whose row it then judges."""
    found = set()
    for test in ast.walk(ast.parse(source)):
        if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
            continue
        judged = any(
            isinstance(node, ast.Subscript) and ast.unparse(node.value) == "row"
            for statement in ast.walk(test)
            if isinstance(statement, ast.Assert)
            for node in ast.walk(statement)
        )
        for call in ast.walk(test):
            solves = isinstance(call, ast.Call) and ast.unparse(call.func) == "solve"
            if solves and judged and call.keywords:
                found.add(ast.literal_eval(call.args[0]))
    return found


def test_every_notebook_is_run_with_other_parameters_and_solutions():
    assert covered(RUNS.read_text("utf-8")) == {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize(
    "body",
    [
        'row = run("00_tour", photo="china"); assert row["bytes"]',  # without solutions
        'row = solve("00_tour"); assert row["bytes"]',  # with defaults
        'row = solve("00_tour", photo="china"); assert row',  # looks at no value
    ],
)
def test_a_notebook_without_a_proper_run_is_found_out(body: str):
    assert covered('def test_a(solve): row = solve("a", b=1); assert row["c"] > 0') == {"a"}
    assert covered(f"def test_tour(solve): {body}") == set()


# --------------------------------------------------------------------------------------------------
# nbval compares the tagged outputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "marked", "passes"),
    [("42\n", True, True), ("43\n", True, False), ("43\n", False, True)],
    ids=["as stored", "changed", "not tagged"],
)
def test_nbval_compares_tagged_outputs(stored: str, marked: bool, passes: bool, tmp_path: Path):
    output = new_output("stream", name="stdout", text=stored)
    cell = new_code_cell("print(6 * 7)", outputs=[output], execution_count=1)
    cell.metadata["tags"] = ["nbval-check-output"] if marked else []
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=[cell], metadata={"kernelspec": kernelspec})
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "tiny.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) is passes, done.stdout
