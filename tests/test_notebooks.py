"""The committed notebooks keep the rules of the workbook, and none goes without a test that runs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests import notebook_code_rules, notebook_output_rules, notebook_prose_rules  # noqa: F401
from tests.notebook_book import ROOT, problems

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUNS = ROOT / "tests" / "test_notebook_runs.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path: Path):
    assert problems(path) == []


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
def test_nbval_compares_tagged_outputs(tmp_path: Path):
    cells = []
    for stored, marked in (("42\n", True), ("43\n", True), ("43\n", False)):
        output = new_output("stream", name="stdout", text=stored)
        cells.append(new_code_cell("print(6 * 7)", outputs=[output], execution_count=len(cells)))
        cells[-1].metadata["tags"] = ["nbval-check-output"] if marked else []
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    nbformat.write(notebook, tmp_path / "tiny.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "tiny.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "1 failed, 2 passed" in done.stdout and "Cell 1" in done.stdout, done.stdout
