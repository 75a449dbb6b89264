"""What a notebook says about itself: its parameters, what its code reads and imports, and a hash of its code.

    any .ipynb --> normal form: nbformat 4.5, Python, one cell tagged `parameters` --> Notebook --> a run executes it

Whatever program wrote a notebook, papermill meets the same form. The cell tagged ``parameters`` is read as Python, not
by papermill's inspection, which goes line by line: a ``:`` or ``=`` inside a string or a comment misleads it, and
``int | None`` is invisible to it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ..errors import SweepError

__all__ = ["Notebook", "Parameter", "missing_modules", "read_notebook"]

MAX_BYTES = 64 << 20

_TAG, _INJECTED = "parameters", "injected-parameters"
_RAISES, _SKIPPED = "raises-exception", "skip-execution"
_LOOKUPS = {"eval", "exec", "get_ipython", "globals", "locals", "vars"}
# Kernels of other languages, for notebooks that name no language.
_FOREIGN = re.compile(
    r"(ir|julia|bash|scala|matlab|octave|java|deno|sparkr?kernel|xc(pp)?\d*|\.net-\w+)\b.*", re.I
)
_KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
# After code with one of these words a module may be found that is not there now.
_MAY_INSTALL = re.compile(r"\b(pip\d?|conda|mamba|uv|apt|install|cd|chdir|run|system|sys\.path)\b")


@dataclass(frozen=True)
class Parameter:
    """One assignment of the cell tagged ``parameters``: name, default value, type as written (None without one)."""

    name: str
    default: Any
    annotation: str | None = None

    def __str__(self) -> str:
        kind = f": {self.annotation}" if self.annotation is not None else ""
        return f"{self.name}{kind} = {self.default!r}"


@dataclass(frozen=True)
class Notebook:
    """A notebook, read.

    Attributes:
        path: of the file.
        node: its cells in a form that papermill executes as they are meant, without outputs.
        parameters: by name, in the notebook's order.
        unread: names of parameters that no later code reads: setting them would change nothing.
        modules: top-level modules that it is certain to import.
        notes: what is done in another way than its file asks for, each one line.
        digest: sha256 of the code, in hexadecimal; the same after a change of prose or outputs.
    """

    path: Path
    node: Any
    parameters: dict[str, Parameter]
    unread: frozenset[str]
    modules: frozenset[str]
    notes: tuple[str, ...]
    digest: str


def read_notebook(path: str | Path) -> Notebook:
    """Read a notebook.

    Raises:
        SweepError: missing, no notebook, in another language than Python, without one cell of parameters, with
            parameters that are not literals, or with a cell that is meant to fail.
    """
    path = Path(path)
    node, notes = _load(path)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    tagged = [i for i, cell in enumerate(code) if _TAG in cell.metadata.tags]
    if len(tagged) != 1:
        raise SweepError(
            f"{path}: {len(tagged)} code cells are tagged {_TAG!r}; a notebook to sweep over has one. Tag the cell "
            "that holds the defaults (in JupyterLab: Property Inspector, Cell Tags)."
        )
    digest = hashlib.sha256()
    every: list[ast.stmt] = []
    later: list[ast.stmt] = []
    for number, cell in enumerate(code):
        is_tagged = number == tagged[0]
        if _RAISES in cell.metadata.tags:
            raise SweepError(
                f"{path}: its cell {node.cells.index(cell) + 1} is tagged {_RAISES!r}, but an error ends a run "
                "whatever its tags. Catch the error in the cell, or remove the tag."
            )
        digest.update(f"{number}:{is_tagged}:{len(cell.source)}:{cell.source}".encode())
        if is_tagged or _SKIPPED not in cell.metadata.tags:
            statements = _parsed(cell.source, f"{path}: its code")
            every += statements
            later += statements if number > tagged[0] else []
            if is_tagged:
                parameters = {p.name: p for p in _parameters(statements, path)}
    unread = frozenset(parameters) - _read_names(later, parameters)
    modules = frozenset(_imports(every))
    return Notebook(path, node, parameters, unread, modules, notes, digest.hexdigest())


# The file -----------------------------------------------------------------------------------------


def _load(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The notebook's normal form, and what is left out of it or done otherwise."""
    import nbformat

    try:
        if not path.is_file():  # to read from a pipe would be to wait for ever
            what = "is a folder. Name a notebook in it." if path.is_dir() else "no such notebook."
            raise SweepError(f"{path}: {what}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror}). Check its rights.") from error
    if len(data) > MAX_BYTES:
        raise SweepError(f"{path}: over {MAX_BYTES >> 20} MB. Clear its outputs.")
    try:
        # UTF-8, -16 or -32, with a byte order mark or without.
        node = nbformat.convert(nbformat.reader.reads(data.decode(json.detect_encoding(data))), 4)
        notes = _kernel_note(node.get("metadata"), path)
        cells = [_normal(cell, number) for number, cell in enumerate(node.cells)]
    except UnicodeDecodeError as error:
        raise SweepError(
            f"{path}: is no text in UTF-8 (byte {error.start}). Save it as UTF-8, as every notebook is."
        ) from error
    except SweepError:
        raise
    except Exception as error:  # nbformat and its JSON schema raise many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SweepError(
            f"{path}: is no readable notebook ({reason}). Open it in Jupyter, and save it there."
        ) from error
    if any(_INJECTED in cell.metadata.tags for cell in cells):
        cells = [cell for cell in cells if _INJECTED not in cell.metadata.tags]
        notes.append(f"{path.name}: the parameters that papermill left in it are not used")
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": _KERNELSPEC}), tuple(notes)


def _kernel_note(metadata: Any, path: Path) -> list[str]:
    """What its kernel asks for and does not get.

    Raises:
        SweepError: another language than Python.
    """
    metadata = metadata if isinstance(metadata, Mapping) else {}
    parts = [metadata.get(name) for name in ("kernelspec", "language_info")]
    spec, info = (part if isinstance(part, Mapping) else {} for part in parts)
    kernel = str(spec.get("name") or "")
    told = kernel if _FOREIGN.fullmatch(kernel) else "python"
    language = str(spec.get("language") or info.get("name") or told)
    if not re.fullmatch(r"i?python\d*", language, re.I):
        raise SweepError(
            f"{path}: is in {language}, by its kernel {kernel!r}; a sweep runs notebooks in Python. If it is in "
            "Python, choose a Python kernel in Jupyter and save it."
        )
    is_usual = kernel in ("", "python", "python3")  # what everybody calls the Python at hand
    note = f"{path.name}: asks for the kernel {kernel!r}; runs use the workers' own Python"
    return [] if is_usual else [note]


def _normal(cell: Any, number: int) -> Any:
    """A cell of nbformat 4.5 with what an execution needs: its source, its tags, pictures of its prose."""
    from nbformat import v4

    tags = (cell.get("metadata") or {}).get("tags") or []
    tags = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
    source = "".join(cell.source)
    source.encode()  # half of a surrogate pair cannot be written again
    if cell.cell_type == "code":
        return v4.new_code_cell(source, metadata={"tags": tags}, id=f"cell-{number}")
    # Of two cells tagged `parameters` papermill takes the first, be it prose, and the defaults would win.
    tags = [tag for tag in tags if tag not in (_TAG, _INJECTED)]
    make = {"markdown": v4.new_markdown_cell, "raw": v4.new_raw_cell}[cell.cell_type]
    pictures = {"attachments": cell.attachments} if cell.get("attachments") else {}
    return make(source, metadata={"tags": tags}, id=f"cell-{number}", **pictures)


# Its code -----------------------------------------------------------------------------------------


def _parsed(source: str, what: str) -> list[ast.stmt]:
    """Statements; IPython's magics and shell lines are calls of ``get_ipython()`` with the line as text."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return ast.parse(TransformerManager().transform_cell(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "text", None)
        at = f": {line.strip()!r:.80}" if line else ""
        raise SweepError(
            f"{what} is no Python ({getattr(error, 'msg', error)}{at}). Write magics with %."
        ) from error


def _parameters(statements: Iterable[ast.stmt], path: Path) -> Iterator[Parameter]:
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and statement.value is None:
            raise SweepError(
                f"{path}: the parameter `{ast.unparse(statement)}` has no value. Give it a default."
            )
        kind = getattr(statement, "annotation", None)
        for name in _assigned(statement):
            value: ast.expr = statement.value  # type: ignore[attr-defined]
            try:
                default = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
                raise SweepError(
                    f"{path}: the parameter {name} = {ast.unparse(value)} is no literal, so it would not "
                    "follow when a sweep sets others. Compute it in a later cell."
                ) from error
            yield Parameter(name, default, None if kind is None else ast.unparse(kind))


def _assigned(statement: ast.stmt) -> list[str]:
    """Names that a statement gives a value."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _read_names(statements: Iterable[ast.stmt], wanted: Iterable[str]) -> set[str]:
    """Those of the wanted names that are read before they are assigned anew."""
    read: set[str] = set()
    left = set(wanted)
    for statement in statements:
        read |= _names_in(statement) & left
        left -= set(_assigned(statement))
    return read


def _names_in(statement: ast.stmt) -> set[str]:
    """Names that a statement reads, and the words of its texts where it looks names up by their text."""
    nodes = list(ast.walk(statement))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    names |= {ast.unparse(n.target) for n in nodes if isinstance(n, ast.AugAssign)}
    if names & _LOOKUPS:
        texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        names |= set(re.findall(r"\w+", " ".join(texts)))
    return names


def _imports(statements: Iterable[ast.stmt]) -> set[str]:
    """Top-level modules whose absence ends a run: imported by no condition, and before anything can install them."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            found.add(statement.module.partition(".")[0])
        elif _MAY_INSTALL.search(ast.unparse(statement)):
            break
    return found


def missing_modules(modules: Iterable[str], folder: Path) -> list[str]:
    """Those that this process's Python cannot import, sorted.

    Args:
        modules: top-level names.
        folder: where the notebook runs; modules may lie there.
    """

    def is_there(name: str) -> bool:
        try:
            return bool(PathFinder.find_spec(name, [str(folder)]) or importlib.util.find_spec(name))
        except ValueError:  # it is loaded, and does not say from where
            return True

    return sorted(name for name in modules if not is_there(name))
