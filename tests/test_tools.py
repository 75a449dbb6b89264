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


WRITES = """\
import json
with open(results_path, 'w') as f:
    json.dump({'steps': steps, 'psnr': 23.456789, 'parts': [1]}, f)"""
PARAMETERS = (
    'steps: int = 2  # how many\nresults_path: str = ""  # one JSON row here; empty: do not'
)


def notebook(path: Path, code: str) -> Path:
    text = r"# Title" "\n\n" r"`$x` Bits are $-\log_2 p_*$: $$R = \sum_i r_i$$"
    cells = [nbformat.v4.new_markdown_cell(text)]
    cells.append(nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    data, alt = {"image/png": "eA=="}, {"image/png": {"alt": 'a "red" line'}}
    shown = nbformat.v4.new_output("display_data", data, metadata=alt)
    cells += [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("", outputs=[shown])]
    kernel = {"name": "python3", "display_name": "Python 3"}  # some programs write no language
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.notebook
def test_runs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = notebook(tmp_path / "book.ipynb", WRITES)
    out = tmp_path / "out"
    assert run_workbook.main([str(book), "-o", str(out), "-p", "steps=5"]) == 0
    printed = capsys.readouterr().out
    assert "steps 5, psnr 23.46" in printed
    assert str(out / "book.ipynb") in printed and str(out / "book.html") in printed


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = run_workbook.export_html(notebook(tmp_path / "book.ipynb", "1")).read_text("utf-8")
    assert page.count("<math") >= 2 and "$R" not in page and "<code>$x</code>" in page
    assert '<script src="http' not in page and "cdnjs" not in page
    assert re.search("""alt=["']a "red" line["']""", unescape(page))
    local = "<script>let url = 'x';</script>"
    remote = '<script src="https://cdn.example.org/a.js"></script>'
    module = '<script type="module">import("//unpkg.com/x")</script>'
    assert run_workbook.without_remote_scripts(local + remote + module) == local
    cannot = run_workbook.FORMULA.sub(run_workbook.formula, r"$a < \begin{$")
    assert cannot == r"<code>a &lt; \begin{</code>"


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("code", "more", "words"),
    [
        ("raise ValueError('no such photo')", (), "ValueError: no such photo"),
        ("pass", (), "wrote no results"),
        (WRITES, ("-p", "stepz=5"), "no parameter stepz. It has: steps, results_path"),
        ("{}", (), "no readable notebook"),
        ("", (), "no such notebook"),
    ],
)
def test_what_cannot_be_run_is_said(code, more, words, tmp_path, capsys) -> None:
    book = tmp_path / "book.ipynb"
    if code == "{}":
        book.write_text(code)
    elif code:
        notebook(book, code)
    assert run_workbook.main([str(book), "-o", str(tmp_path / "out"), *more]) == 1
    error = capsys.readouterr().err
    assert words in error and ("as far as it came" in error) == code.startswith("raise")


def test_parameters_and_rows(tmp_path: Path) -> None:
    texts = {"bpp=0.03": 0.03, "photo=chelsea": "chelsea", "a='1'": "1", "path=x=y": "x=y"}
    assert {text: run_workbook.parse_parameter(text)[1] for text in texts} == texts
    path = tmp_path / "row.json"
    path.write_text(json.dumps({"summary": "fine"}, indent=1))
    assert run_workbook.summary(run_workbook.read_row(path)) == "fine"
    for text in ("[1, 2]", "{"):
        path.write_text(text)
        with pytest.raises(run_workbook.WorkbookError, match="no JSON object"):
            run_workbook.read_row(path)


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
    played = sorted(p.name for p in (checkout / "playground").iterdir())
    assert played == ["00_tour.ipynb", "01_cues.ipynb"]
    (checkout / "mine.ipynb").touch()
    assert make_lab(checkout, "NOTEBOOK=mine.ipynb")[1] == "mine.ipynb", "it is opened where it is"
