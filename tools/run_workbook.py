"""Execute a notebook, turn it into a page that opens without a network, and say what came out.

    notebooks/00_tour.ipynb --papermill--> build/workbook/00_tour.ipynb --nbconvert--> 00_tour.html
                                 |
                                 +--results_path--> 00_tour.json --> one line on the terminal

Usage: ``python tools/run_workbook.py notebooks/00_tour.ipynb [-o FOLDER] [-p name=value ...]``.
Exit status: 0 done, 1 a cell failed or the notebook gave no result, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import os
import re
import sys
import time
import warnings
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from traitlets.config import Config

sys.path.insert(0, str(Path(__file__).parent))
from make_book import for_pages

from sketchfusion_lite.errors import SweepError
from sketchfusion_lite.sweeps.notebooks import read_notebook

# Code comes first: a dollar in it begins no formula.
FORMULA = re.compile(
    r"(?:^```.*?^```|`[^`\n]+`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$",
    re.MULTILINE | re.DOTALL,
)


class WorkbookError(Exception):
    """The notebook cannot be run, or a cell of it failed."""


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("build/workbook"), metavar="FOLDER")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(argv)
    started = time.perf_counter()
    try:
        parameters = dict(parse_parameter(text) for text in options.parameter)
        executed, row = execute(options.notebook, options.out, parameters)
        page = export_html(executed)
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"notebook  {executed}")
    print(f"page      {page}")
    print(f"result    {summary(row)} ({time.perf_counter() - started:.0f} s)")
    return 0


def parse_parameter(text: str) -> tuple[str, Any]:
    """``"steps=4"`` -> ``("steps", 4)``; what is no Python literal stays a string."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise WorkbookError(f"parameter {text!r}: write NAME=VALUE.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def execute(
    notebook: Path, folder: Path, parameters: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Run ``notebook`` in its own folder with ``parameters``.

    Args:
        notebook: the notebook.
        folder: where the executed copy and the results row are put; created if absent.
        parameters: values for its ``parameters`` cell. ``results_path`` is added.

    Returns:
        The executed notebook, and the row of results that it wrote.

    Raises:
        WorkbookError: no such notebook, an unknown parameter, a failed cell, or no result.
    """
    import papermill

    # papermill only warns of a misspelt parameter, and then runs with the default.
    try:
        known = read_notebook(notebook).parameters
    except SweepError as error:
        raise WorkbookError(str(error)) from error
    if unknown := {*parameters, "results_path"} - set(known):
        raise WorkbookError(
            f"{notebook}: has no parameter {', '.join(sorted(unknown))}. "
            f"It has: {', '.join(known) or 'none'}."
        )
    logging.getLogger("papermill").setLevel(logging.ERROR)
    kernel = Config()  # it talks through local sockets where there are any: no ports to race for
    if os.name == "posix" and len(str(Path.home())) < 40:  # a socket's path is at most 107 bytes
        kernel.KernelManager.transport = "ipc"
    folder.mkdir(parents=True, exist_ok=True)
    executed, results = folder / notebook.name, folder / f"{notebook.stem}.json"
    results.unlink(missing_ok=True)  # a row of an earlier run must not pass for this one's
    try:
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters={**parameters, "results_path": str(results.resolve())},
            kernel_name="python3",
            language="python",  # which not every program notes in its notebooks
            cwd=str(notebook.parent),
            progress_bar=sys.stderr.isatty(),
            config=kernel,
        )
    except papermill.PapermillExecutionError as error:
        raise WorkbookError(
            f"{notebook}: cell {error.exec_count} failed: {error.ename}: {error.evalue}\n"
            f"The notebook as far as it came: {executed}"
        ) from error
    return executed, read_row(results)


def read_row(path: Path) -> dict[str, Any]:
    """The row of results that a notebook wrote."""
    try:
        row = json.loads(path.read_bytes())
    except OSError as error:
        raise WorkbookError(f"{path}: the notebook wrote no results ({error.strerror}).") from error
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise WorkbookError(f"{path}: no JSON object; the notebook's last cell should write one.")
    return row


def summary(row: dict[str, Any]) -> str:
    """One line of a results row: its ``summary`` if it has one, else its first plain values."""
    plain = {name: value for name, value in row.items() if isinstance(value, str | int | float)}
    shown = [f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in plain.items()]
    return str(row.get("summary") or ", ".join(shown[:10]) or "no values")


def export_html(executed: Path) -> Path:
    """Write the executed notebook as one HTML file beside it, which needs nothing from elsewhere."""
    from nbconvert import HTMLExporter

    prepared = for_pages(json.loads(executed.read_text("utf-8")))
    notebook = nbformat.reads(json.dumps(prepared), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(formula, cell.source)
    where = {"metadata": {"name": executed.stem, "path": str(executed.parent)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # images without alt text, of other people's outputs
        html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, where)
    page = executed.with_suffix(".html")
    page.write_text(without_remote_scripts(html), "utf-8")
    return page


def formula(found: re.Match) -> str:
    """LaTeX -> MathML, which browsers draw themselves; as plain code where the converter cannot."""
    from latex2mathml.converter import convert

    if (latex := found["block"] or found["inline"]) is None:
        return found[0]  # code
    try:
        mathml = convert(latex.strip(), display="block" if found["block"] else "inline")
    except Exception:  # the converter raises a different error for each thing it does not know
        return f"<code>{escape(latex.strip())}</code>"
    return mathml.replace("*", "&#42;").replace(
        "_", "&#95;"
    )  # which Markdown would take for its own


def without_remote_scripts(html: str) -> str:
    """Remove scripts that a page would load from elsewhere (RequireJS, MathJax, Mermaid, widgets).

    The page needs none of them: formulas are MathML, and every widget cell shows a picture too.
    """
    remote = re.compile(r"""\bsrc=["'](?:https?:)?//|cdnjs\.|unpkg\.|jsdelivr\.""")
    scripts = re.compile(r"<script\b[^>]*>.*?</script>", re.DOTALL | re.IGNORECASE)
    return scripts.sub(lambda m: "" if remote.search(m[0]) else m[0], html)


if __name__ == "__main__":
    sys.exit(main())
