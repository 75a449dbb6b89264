"""The workbook runner: parameters, failures, results and the offline page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import nbformat
import pytest

from tests.notebook_book import load_tool

ROOT = Path(__file__).parents[1]
run_workbook = load_tool("run_workbook")


def notebook(path: Path, code: str) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell(
            r"# Title" "\n\n" r"Bits are $-\log_2 p$: $$R = \sum_i r_i$$"
        ),
        nbformat.v4.new_code_cell(
            'steps: int = 2  # how many\nresults_path: str = ""  # one JSON row; "" = none',
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}  # some programs write no language
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, path)
    return path


WRITES = (
    "import json\n"
    "with open(results_path, 'w') as f:\n"
    "    json.dump({'steps': steps, 'psnr': 23.456789, 'parts': [1]}, f)"
)


@pytest.mark.notebook
def test_runs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = notebook(tmp_path / "book.ipynb", WRITES)
    out = tmp_path / "out"
    assert run_workbook.main([str(book), "-o", str(out), "-p", "steps=5"]) == 0
    printed = capsys.readouterr().out
    assert "steps 5, psnr 23.46" in printed
    assert str(out / "book.ipynb") in printed and str(out / "book.html") in printed
    page = (out / "book.html").read_text("utf-8")
    assert "<math" in page and "$R" not in page
    assert '<script src="http' not in page and "cdnjs" not in page


@pytest.mark.notebook
def test_failing_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = notebook(tmp_path / "book.ipynb", "raise ValueError('no such photo')")
    assert run_workbook.main([str(book), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "ValueError: no such photo" in error and "as far as it came" in error


@pytest.mark.notebook
def test_notebook_without_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = notebook(tmp_path / "book.ipynb", "pass")
    assert run_workbook.main([str(book), "-o", str(tmp_path)]) == 1
    assert "wrote no results" in capsys.readouterr().err


def test_misspelt_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = notebook(tmp_path / "book.ipynb", WRITES)
    assert run_workbook.main([str(book), "-o", str(tmp_path), "-p", "stepz=5"]) == 1
    assert "no parameter stepz. It has: steps, results_path" in capsys.readouterr().err


def test_no_notebook_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "book.ipynb").write_text("{}")
    assert run_workbook.main([str(tmp_path / "book.ipynb"), "-o", str(tmp_path)]) == 1
    assert "no readable notebook" in capsys.readouterr().err


def test_missing_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_workbook.main([str(tmp_path / "none.ipynb")]) == 1
    assert "no such notebook" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bpp=0.03", 0.03), ("photo=chelsea", "chelsea"), ("a='1'", "1"), ("path=x=y", "x=y")],
)
def test_parse_parameter(text: str, expected: object) -> None:
    assert run_workbook.parse_parameter(text)[1] == expected


def test_rows(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert run_workbook.read_row(path) == {"a": 2}
    path.write_text(json.dumps({"summary": "fine"}, indent=1))
    assert run_workbook.summary(run_workbook.read_row(path)) == "fine"
    path.write_text("[1, 2]")
    with pytest.raises(run_workbook.WorkbookError, match="no JSON object"):
        run_workbook.read_row(path)


def test_only_remote_scripts_are_removed() -> None:
    local = "<script>let url = 'x';</script>"
    remote = '<script src="https://cdn.example.org/a.js"></script>'
    module = '<script type="module">import("//unpkg.com/x")</script>'
    assert run_workbook.without_remote_scripts(local + remote + module) == local


def test_formula_that_cannot_be_converted() -> None:
    assert "<math" in run_workbook.formula(r"\hat{y} = \frac{a}{b}", "block")
    assert "&lt;" in run_workbook.formula(r"a < \begin{", "inline")


def test_figures_of_the_page_carry_the_notebooks_alt_texts(tmp_path: Path) -> None:
    output, page = nbformat.v4.new_output, tmp_path / "book.ipynb"
    outputs = [
        output("display_data", {"image/png": "eA=="}, metadata={"image/png": {"alt": alt}})
        for alt in ('a "red" line', "two dots")
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    nbformat.write(book, page)
    html = unescape(run_workbook.export_html(page).read_text("utf-8"))
    assert re.search("""alt=["']a "red" line["']""", html) and 'alt="two dots"' in html


# make lab -----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makefile and two notebooks, with a stand-in for an environment that is installed already."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("00_tour", "01_cues"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    for name in ("jupyter", "sketchfusion"):
        (programs / name).write_text('#!/bin/sh\necho "$@" >"$0.called"\n')
        (programs / name).chmod(0o755)
    (extras,) = re.findall(r"^EXTRAS\s*\?=\s*(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (tmp_path / ".venv" / f".installed-{extras.replace(',', '-')}").touch()
    return tmp_path


def make_lab(checkout: Path, *arguments: str) -> tuple[str, str]:
    """What it says, and which notebook it opens."""
    command = ["make", "-C", str(checkout), "lab", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, (checkout / ".venv/bin/jupyter.called").read_text().split()[-1]


def test_lab_opens_a_copy_that_stays(checkout: Path) -> None:
    said, opened = make_lab(checkout)
    assert opened == "playground/00_tour.ipynb" and "playground/; git ignores" in said
    assert "\n/playground/\n" in (ROOT / ".gitignore").read_text()
    (checkout / opened).write_text("played")
    (checkout / "playground" / "01_cues.ipynb").unlink()
    said, opened = make_lab(checkout, "NOTEBOOK=notebooks/01_cues.ipynb")
    assert opened == "playground/01_cues.ipynb" and (checkout / opened).read_text() == "01_cues"
    assert (checkout / "playground" / "00_tour.ipynb").read_text() == "played"
    assert (checkout / "notebooks" / "00_tour.ipynb").read_text() == "00_tour"
    assert "kept" not in said
    os.utime(checkout / "notebooks" / "00_tour.ipynb", (2e9, 2e9))
    assert "playground/00_tour.ipynb: kept, and older" in make_lab(checkout)[0]
    assert sorted(p.name for p in (checkout / "playground").iterdir()) == [
        "00_tour.ipynb",
        "01_cues.ipynb",
    ]


def test_lab_opens_another_notebook_where_it_is(checkout: Path) -> None:
    (checkout / "mine.ipynb").touch()
    assert make_lab(checkout, "NOTEBOOK=mine.ipynb")[1] == "mine.ipynb"
