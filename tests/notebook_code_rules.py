"""Rules for the code of notebooks: parameters, set-up, length of cells, imports."""

from __future__ import annotations

import ast
import logging
import statistics
import warnings
from collections.abc import Iterator

from tests.notebook_book import Book, load_tool, rule, tagged, walk

MAX_LINES, CELLS = 30, (15, 25)
TYPES = {"str": str, "int": int, "float": float, "bool": bool}

# Every notebook runs with another codec, elsewhere and in other numbers, but for what has no meaning in it.
COMMON = {"weights", "refiner", "device", "precision"}
WITHOUT = {
    "03_entropy_coding": {"precision"},  # exact integers
    "07_rate_distortion": {"precision"},  # a table is in float32, whatever the machine
    "08_ablations": COMMON,  # reads tables; the runs of its live sweep train on what there is
}


@rule
def parameters(book: Book) -> Iterator[str]:
    cells = book.tagged("parameters")
    if len(cells) != 1 or cells[0] is not book.node.cells[1]:
        yield "needs exactly one cell tagged 'parameters', right after the opening"
        return
    names = []
    for statement in ast.parse(cells[0].source).body:
        shown = ast.unparse(statement)
        kind = TYPES.get(ast.unparse(getattr(statement, "annotation", statement)))
        if kind is None:
            yield f"{shown!r}: write name: str, int, float or bool = literal  # what it does"
            continue
        names.append(statement.target.id)
        try:
            if type(ast.literal_eval(statement.value)) is not kind:
                yield f"{shown!r} is of another type than it says"
        except (ValueError, TypeError):
            yield f"{shown!r} is no literal"
    if "results_path" not in names:
        yield "has no parameter results_path"
    missing = COMMON - WITHOUT.get(book.path.stem, set()) - set(names)
    yield from (f"has no parameter {name}" for name in sorted(missing))
    later = [cell for cell in book.code if cell is not cells[0]]
    read = {
        n.id for c in later for n in walk(c) if isinstance(n, ast.Name) and type(n.ctx) is ast.Load
    }
    yield from (f"parameter {name} is never read" for name in names if name not in read)


@rule
def papermill_sees(book: Book) -> Iterator[str]:
    """papermill reads the cell line by line: a second ``=``, even in the comment, makes it blind."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = papermill.inspect_notebook(str(book.path))
    for cell in book.tagged("parameters"):
        for statement in ast.parse(cell.source).body:
            if not isinstance(statement, ast.AnnAssign | ast.Assign):
                continue
            target = getattr(statement, "target", None) or statement.targets[0]
            found = seen.get(ast.unparse(target))
            if found is None:
                yield f"does not see {ast.unparse(target)}: one '=' per line, also in its comment"
            elif found["default"] != ast.get_source_segment(cell.source, statement.value):
                yield f"takes {found['default']} for the default of {ast.unparse(target)}"
            elif not found["help"]:
                yield f"sees no comment that explains {ast.unparse(target)}"


@rule
def setup(book: Book) -> Iterator[str]:
    tool = load_tool("notebook_setup")
    expected = [("markdown", tool.NOTE), ("code", tool.CODE)]
    if [(c.cell_type, c.source) for c in book.node.cells[2:4]] != expected:
        yield "cells 3 and 4 are not the common set-up; run: python tools/notebook_setup.py"


@rule
def cells(book: Book) -> Iterator[str]:
    own = [c for c in book.code if not tagged(c, "setup") and not tagged(c, "parameters")]
    own = [c for c in own if not c.source.startswith("show(drawings.")]  # pictures in the text
    if not CELLS[0] <= len(own) <= CELLS[1]:
        yield f"has {len(own)} code cells besides parameters and set-up, {CELLS} are wanted"
    if any(not cell.source.strip() for cell in book.node.cells):
        yield "has an empty cell"
    lines = [len(cell.source.splitlines()) for cell in own] or [0]
    if max(lines) > MAX_LINES:
        yield f"a cell has {max(lines)} lines, {MAX_LINES} are allowed; move it to the library"
    statements = [len(ast.parse(cell.source).body) for cell in own] or [0]
    if not 4 <= statistics.median(statements) <= 9 or statistics.median(lines) > 14:
        median = f"{statistics.median(statements)} statements on {statistics.median(lines)} lines"
        yield f"the median cell has {median}; 4 to 9 on at most 14 are wanted"


@rule
def imports(book: Book) -> Iterator[str]:
    nodes = [node for cell in book.code for node in walk(cell)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = (alias.asname or alias.name).partition(".")[0]
                if name not in used:
                    yield f"imports {name} and never uses it"
