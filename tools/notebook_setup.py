"""The set-up note and cell that every notebook holds, word for word, right after its parameters.

    pyproject.toml --version--> NOTE, CODE --> notebooks/*.ipynb

Usage: ``python tools/notebook_setup.py [--check] [NOTEBOOK ...]`` inserts the two cells or brings them
up to date, in all notebooks by default. Execute a notebook again after the cells were inserted; an update
keeps the execution count, since the cell does nothing where the library is installed.
Exit status: 0 all up to date, 1 something was changed (or, with ``--check``, would be).
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
EXTRAS = "workbook,sweep,peers"  # all that the notebooks import
TAG = "setup"

NOTE = (
    "**Set-up.** Nothing to do after `make lab`, or on Binder. On Colab, first run a cell "
    "`%env SKETCHFUSION_SOURCE=ADDRESS` with the address of the project's repository, or upload a "
    f"bundle of it (`git bundle create sketchfusion.bundle v{VERSION}`). Should Colab ask for a restart: "
    "restart and run all."
)

CODE = f"""\
import importlib.util
import os
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.isdir("../sketchfusion_lite"):
    source = os.environ.get("SKETCHFUSION_SOURCE", "sketchfusion.bundle")
    if not os.path.isdir("sketchfusion"):
        clone = ["git", "clone", "--quiet", "--branch", "v{VERSION}", source, "sketchfusion"]
        subprocess.run(clone, check=True)
    if importlib.util.find_spec("sketchfusion_lite") is None:
        package = "./sketchfusion[{EXTRAS}]"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", package]
        subprocess.run(pip, check=True)
    os.chdir("sketchfusion/notebooks")
elif importlib.util.find_spec("sketchfusion_lite") is None:
    raise ModuleNotFoundError(
        "sketchfusion_lite is not installed for this kernel. In the project's folder run `make lab`, "
        "or `pip install '.[{EXTRAS}]'` with the Python of this kernel."
    )\
"""


def updated(notebook: nbformat.NotebookNode) -> bool:
    """Put the two cells, tagged ``setup``, in place of those of that tag; says whether anything had to be changed.

    Raises:
        ValueError: no cell is tagged ``parameters``.
    """
    old = [cell for cell in notebook.cells if TAG in tags(cell)]
    kept = [cell for cell in notebook.cells if TAG not in tags(cell)]
    after = next((i for i, cell in enumerate(kept, 1) if "parameters" in tags(cell)), 0)
    if not after:
        raise ValueError("no cell is tagged 'parameters'")
    note, code = nbformat.v4.new_markdown_cell(NOTE), nbformat.v4.new_code_cell(CODE)
    if notebook.cells[after : after + 2] == old and [c.source for c in old] == [NOTE, CODE]:
        return False
    for cell, name in ((note, "note"), (code, "code")):
        cell.id, cell.metadata["tags"] = f"{kept[after - 1].id}-setup-{name}", [TAG]
    code.execution_count = next((c.execution_count for c in old if c.cell_type == "code"), None)
    notebook.cells = [*kept[:after], note, code, *kept[after:]]
    return True


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, nargs="*")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(argv)
    changed = []
    for path in options.notebook or sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if updated(notebook):
            changed.append(path)
            if not options.check:
                nbformat.write(notebook, path)
    for path in changed:
        print(f"{path}: {'is out of date' if options.check else 'updated'}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
