"""What a notebook says about itself: its parameters, which of them its code reads, and a hash of its code.

The cell tagged ``parameters`` is read as Python, not by papermill's inspection, which goes line by line: a ``:`` or
``=`` inside a string or a comment misleads it, and ``int | None`` is invisible to it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SweepError

__all__ = ["Notebook", "Parameter", "read_notebook"]

MAX_BYTES = 64 << 20

_TAG = "parameters"
_LOOKUPS = ("eval", "exec", "get_ipython", "globals", "locals", "vars")


@dataclass(frozen=True)
class Parameter:
    """One assignment of the cell tagged ``parameters``.

    Attributes:
        name: of the variable.
        default: the value there.
        annotation: its type as written, None without one.
    """

    name: str
    default: Any
    annotation: ast.expr | None = None

    def __str__(self) -> str:
        kind = f": {ast.unparse(self.annotation)}" if self.annotation is not None else ""
        return f"{self.name}{kind} = {self.default!r}"


@dataclass(frozen=True)
class Notebook:
    """A notebook, read.

    Attributes:
        path: of the file.
        node: its content as nbformat has it, outputs removed.
        parameters: by name, in the notebook's order.
        unread: names of parameters that no later code reads: setting them would change nothing.
        digest: sha256 of the code, in hexadecimal; the same after a change of prose or outputs.
    """

    path: Path
    node: Any
    parameters: dict[str, Parameter]
    unread: frozenset[str]
    digest: str


def read_notebook(path: str | Path) -> Notebook:
    """Read a notebook.

    Raises:
        SweepError: missing, no notebook, without parameters, or with parameters that are not literals.
    """
    path = Path(path)
    node = _load(path)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    tagged = [i for i, cell in enumerate(code) if _TAG in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise SweepError(
            f"{path}: {len(tagged)} code cells are tagged {_TAG!r}; a notebook to sweep over has one."
        )
    parameters = _declared(code[tagged[0]].source, path)
    later = "\n".join(_without_magics(cell.source) for cell in code[tagged[0] + 1 :])
    digest = hashlib.sha256()
    for number, cell in enumerate(code):
        digest.update(f"{number}:{number == tagged[0]}:{len(cell.source)}:".encode())
        digest.update(cell.source.encode("utf-8", "surrogatepass"))
    read = _read_names(later, set(parameters), path)
    return Notebook(path, node, parameters, frozenset(set(parameters) - read), digest.hexdigest())


def _load(path: Path) -> Any:
    import nbformat

    if not path.is_file():
        raise SweepError(f"{path}: no such notebook.")
    if path.stat().st_size > MAX_BYTES:
        raise SweepError(f"{path}: over {MAX_BYTES >> 20} MB. Clear its outputs.")
    try:
        node = nbformat.read(path, as_version=4)
        for cell in node.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    except Exception as error:  # nbformat and its JSON schema raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SweepError(f"{path}: is no readable notebook ({reason}).") from error
    return node


# --------------------------------------------------------------------------------------------------
# Parameters


def _declared(source: str, path: Path) -> dict[str, Parameter]:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise SweepError(f"{path}: its cell of parameters is no Python ({error}).") from error
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        for name, value, annotation in _assignments(statement):
            try:
                default = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError) as error:
                raise SweepError(
                    f"{path}: the parameter {name} = {ast.unparse(value)} is no literal, so it would not follow "
                    "when a sweep sets others. Compute it in a later cell."
                ) from error
            parameters[name] = Parameter(name, default, annotation)
    return parameters


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        if isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value, statement.annotation
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value, None


# --------------------------------------------------------------------------------------------------
# What is read


def _without_magics(source: str) -> str:
    """Code whose IPython magics and shell lines are Python: calls of ``get_ipython()`` with the line as text."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def _read_names(code: str, wanted: set[str], path: Path) -> set[str]:
    """Those of the wanted names that are read before they are assigned anew."""
    try:
        statements = ast.parse(code).body
    except SyntaxError as error:
        raise SweepError(
            f"{path}: its code is no Python ({error.msg}: {error.text!r:.80})."
        ) from error
    read: set[str] = set()
    lost: set[str] = set()
    for statement in statements:
        read |= (_names_in(statement) & wanted) - lost
        lost |= {name for name, _, _ in _assignments(statement)} & wanted
    return read


def _names_in(statement: ast.stmt) -> set[str]:
    """Names that a statement reads, and the words of its texts where it looks names up by their text."""
    nodes = list(ast.walk(statement))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    names |= {
        n.target.id
        for n in nodes
        if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)
    }
    if names & set(_LOOKUPS):
        texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        names |= set(re.findall(r"\w+", " ".join(texts)))
    return names
