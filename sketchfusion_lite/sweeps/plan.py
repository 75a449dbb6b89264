"""From a grid and its notebook to the runs, each with an identity: refuse now what would fail, or run twice, later.

papermill itself only warns of a parameter that a notebook does not have, and runs with the default.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Optional, Union

from pydantic import TypeAdapter, ValidationError

from ..errors import SweepError
from .grid import Grid, combinations
from .notebooks import Notebook, read_notebook

__all__ = ["RESULTS", "Plan", "Run", "plan"]

RESULTS = "results_path"  # the engine sets it; the notebook writes its row of results there
ID_DIGITS = 12


@dataclass(frozen=True)
class Run:
    """One execution of the notebook.

    Attributes:
        run_id: first 12 hexadecimal digits of the sha256 of the notebook's code and of the parameters set here.
        variant: name in the grid; not part of the identity.
        parameters: those that the grid sets.
        defaults: the notebook's other parameters, as it declares them.
    """

    run_id: str
    variant: str
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its folder, and in messages."""
        return f"{self.variant}-{self.run_id}"


@dataclass(frozen=True)
class Plan:
    """Attributes: the grid, its notebook as it was read, and the runs in the order in which they start."""

    grid: Grid
    notebook: Notebook
    runs: tuple[Run, ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the parameters that are not the same in all runs: what a reader wants to see."""
        names = dict.fromkeys(name for run in self.runs for name in run.parameters)
        values = {n: {repr(run.parameters.get(n, ...)) for run in self.runs} for n in names}
        return tuple(name for name in names if len(values[name]) > 1)


def plan(grid: Grid) -> Plan:
    """All runs of a grid.

    Raises:
        SweepError: the notebook cannot be swept over, a parameter is none of its own, has another type or is read by
            no code, or two runs would be the same.
    """
    notebook = read_notebook(grid.notebook)
    if RESULTS not in notebook.parameters or RESULTS in notebook.unread:
        lack = "no code reads it" if RESULTS in notebook.parameters else "it is not there"
        raise SweepError(
            f'{notebook.path}: needs a parameter `{RESULTS}: str = ""`, but {lack}. Write one JSON object with the '
            f"results to that file. It has: {_listed(notebook)}."
        )
    runs: dict[str, Run] = {}
    for variant, given in combinations(grid):
        where = f"{grid.name}, variant {variant!r}"
        parameters = {name: _checked(notebook, name, given[name], where) for name in given}
        text = json.dumps([notebook.digest, parameters], sort_keys=True)
        run_id = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
        if run_id in runs:
            raise SweepError(
                f"{grid.name}: the same run twice, in variant {runs[run_id].variant!r} and {variant!r}: {parameters}. "
                "Remove one."
            )
        others = [p for p in notebook.parameters.values() if p.name not in {*parameters, RESULTS}]
        runs[run_id] = Run(run_id, variant, parameters, {p.name: p.default for p in others})
    return Plan(grid, notebook, tuple(runs.values()))


def _listed(notebook: Notebook) -> str:
    return "; ".join(str(p) for p in notebook.parameters.values() if p.name != RESULTS) or "none"


def _checked(notebook: Notebook, name: str, value: Any, where: str) -> Any:
    """A parameter as the notebook will get it: a whole number becomes a float where it wants a float.

    Raises:
        SweepError: it is unknown, has another type, is read by no code, or is the engine's own.
    """
    if name == RESULTS:
        raise SweepError(f"{where}: {RESULTS} is set by the sweep itself. Remove it.")
    parameter, file = notebook.parameters.get(name), notebook.path.name
    if parameter is None:
        raise SweepError(f"{where}: {file} has no parameter {name!r}. It has: {_listed(notebook)}.")
    if name in notebook.unread:
        raise SweepError(
            f"{where}: {file} declares {name!r}, but no later code reads it: all its values would give the same "
            "result. Use it in the notebook, or remove it from the grid."
        )
    kind = _kind(parameter.annotation or type(parameter.default).__name__)
    try:
        found = kind.validate_python(value, strict=True)
    except ValidationError as error:
        hint = ""
        if isinstance(value, str) and any(each["type"] == "float_type" for each in error.errors()):
            hint = " YAML takes numbers such as 1e-4 for text: write them with a decimal point."
        raise SweepError(
            f"{where}: {name} is {value!r} ({type(value).__name__}), but {file} has {parameter}.{hint}"
        ) from error
    # Nothing else is taken from there: the identity of a run is that of its values as they were written.
    return found if type(value) is int and type(found) is float else value


# What an annotation may be made of; others, as of a class of the notebook's own, are left to the notebook to judge.
_NAMES: dict[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}
_NAMES |= {"Optional": Optional}


@lru_cache
def _kind(annotation: str) -> TypeAdapter:
    """What judges the values of a parameter with this annotation: any value fits one that nobody here understands."""
    try:
        return TypeAdapter(_type_of(ast.parse(annotation, mode="eval").body))
    except Exception:  # of Python's parser, of ours below, of pydantic
        return TypeAdapter(Any)


def _type_of(node: ast.expr) -> Any:
    """The type that an annotation names, built without running it: it is text of a stranger's notebook."""
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=str(text)):  # "int | None" in quotes
            return _type_of(ast.parse(text, mode="eval").body)
        case ast.Name(id=name):
            return _NAMES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type_of(left), _type_of(right)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return Literal[ast.literal_eval(choices)]
        case ast.Subscript(value=outer, slice=ast.Tuple(elts=inner)):
            return _type_of(outer)[tuple(map(_type_of, inner))]
        case ast.Subscript(value=outer, slice=inner):
            return _type_of(outer)[_type_of(inner)]
    raise ValueError("of another kind")
