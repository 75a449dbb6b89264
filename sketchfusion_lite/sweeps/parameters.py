"""Are these parameters the notebook's, of its types, and read by it? Asked before anything starts.

papermill itself only warns of a parameter that a notebook does not have, and runs with the default.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import SweepError
from .notebooks import Notebook, Parameter

__all__ = ["RESULTS", "check_results_parameter", "checked"]

RESULTS = "results_path"  # the engine sets it; the notebook writes its row of results there

_SIMPLE = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}


def check_results_parameter(notebook: Notebook) -> None:
    """A notebook to sweep over writes one JSON object to its parameter ``results_path``.

    Raises:
        SweepError: it does not.
    """
    if RESULTS not in notebook.parameters:
        raise SweepError(
            f'{notebook.path}: has no parameter {RESULTS}. Add `{RESULTS}: str = ""` to its parameters, and write '
            f"one JSON object with the results to that file. It has: {_listed(notebook)}."
        )
    if RESULTS in notebook.unread:
        raise SweepError(
            f"{notebook.path}: has a parameter {RESULTS} but no code reads it. "
            "Write one JSON object with the results to that file."
        )


def checked(notebook: Notebook, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The parameters as the notebook will get them: whole numbers become floats where it wants floats.

    Args:
        notebook: whose parameters they are to be.
        given: name -> value.
        where: what messages call the place where they are set.

    Raises:
        SweepError: a parameter is unknown, has another type, is read by no code, or is the engine's own.
    """
    result = {}
    for name, value in given.items():
        if name == RESULTS:
            raise SweepError(f"{where}: {RESULTS} is set by the sweep itself. Remove it.")
        parameter = notebook.parameters.get(name)
        if parameter is None:
            raise SweepError(
                f"{where}: {notebook.path.name} has no parameter {name!r}. It has: {_listed(notebook)}."
            )
        if name in notebook.unread:
            raise SweepError(
                f"{where}: {notebook.path.name} declares {name!r}, but no later code reads it: all its values would "
                "give the same result. Use it in the notebook, or remove it from the grid."
            )
        result[name] = _fitting(parameter, value, where, notebook)
    return result


def _listed(notebook: Notebook) -> str:
    names: Iterable[str] = (str(p) for p in notebook.parameters.values() if p.name != RESULTS)
    return "; ".join(names) or "none"


def _fitting(parameter: Parameter, value: Any, where: str, notebook: Notebook) -> Any:
    kind = _kind_of(parameter)
    if kind is None or _accepts(kind, value):
        wants_float = kind is not None and not _accepts_exactly_int(kind) and type(value) is int
        return float(value) if wants_float else value
    hint = ""
    if isinstance(value, str) and _accepts(kind, 0.5) and _is_number(value):
        hint = f" YAML takes {value} for text; write {float(value)!r} with a decimal point."
    raise SweepError(
        f"{where}: {parameter.name} is {value!r} ({type(value).__name__}), "
        f"but {notebook.path.name} has {parameter}.{hint}"
    )


def _kind_of(parameter: Parameter) -> ast.expr | None:
    """The annotation, else the type of the default; None where neither tells anything."""
    if parameter.annotation is not None:
        return parameter.annotation
    name = type(parameter.default).__name__
    return ast.Name(name) if name in _SIMPLE else None


def _accepts(kind: ast.expr, value: Any) -> bool:
    """Does the value fit a type as it is written? An int fits a float, a bool fits nothing but a bool."""
    match kind:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str(text)):  # "int | None" in quotes
            with contextlib.suppress(SyntaxError, ValueError):
                return _accepts(ast.parse(text, mode="eval").body, value)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _accepts(left, value) or _accepts(right, value)
        case ast.Name(id="float"):
            return type(value) in (int, float)
        case ast.Name(id=name) if name in _SIMPLE:
            return type(value) is _SIMPLE[name]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _accepts(inner, value)
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return type(value) is list and all(_accepts(inner, each) for each in value)
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, inner])):
            return type(value) is dict and all(_accepts(inner, each) for each in value.values())
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            allowed = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            with contextlib.suppress(ValueError):  # names of constants
                return any(_same(ast.literal_eval(each), value) for each in allowed)
    return True  # a type that we do not know: let the notebook judge


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _accepts_exactly_int(kind: ast.expr) -> bool:
    """Would an int be taken as it is, not as a float?"""
    match kind:
        case ast.Name(id="float"):
            return False
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return any(_accepts_exactly_int(k) for k in (left, right) if _accepts(k, 0))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _accepts_exactly_int(inner)
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
