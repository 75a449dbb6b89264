"""From a grid and its notebook to the runs, each with an identity: refuse now what would fail, or run twice, later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import SweepError
from .grid import Grid, combinations
from .notebooks import Notebook, read_notebook
from .parameters import RESULTS, check_results_parameter, checked

__all__ = ["Plan", "Run", "plan"]

ID_DIGITS = 12


@dataclass(frozen=True)
class Run:
    """One execution of the notebook.

    Attributes:
        run_id: first 12 hexadecimal digits of the sha256 of the notebook's code and of the parameters set here.
        variant: name in the grid; not part of the identity.
        parameters: those that the grid sets.
        defaults: the notebook's other parameters, as it declares them.
        varied: names of those parameters that are not the same in all runs of the grid: what a reader wants to see.
    """

    run_id: str
    variant: str
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]
    varied: tuple[str, ...] = field(default=(), compare=False)

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


def plan(grid: Grid) -> Plan:
    """All runs of a grid.

    Raises:
        SweepError: the notebook cannot be swept over, a parameter is none of its own, has another type or is read by
            no code, or two runs would be the same.
    """
    notebook = read_notebook(grid.notebook)
    check_results_parameter(notebook)
    runs: dict[str, Run] = {}
    for variant, given in combinations(grid):
        parameters = checked(notebook, given, f"{grid.name}, variant {variant!r}")
        run_id = _identity(notebook, parameters)
        if run_id in runs:
            raise SweepError(
                f"{grid.name}: the same run twice, in variant {runs[run_id].variant!r} and {variant!r}: {parameters}. "
                "Remove one."
            )
        defaults = {
            name: parameter.default
            for name, parameter in notebook.parameters.items()
            if name not in parameters and name != RESULTS
        }
        runs[run_id] = Run(run_id, variant, parameters, defaults)
    varied = _varied(list(runs.values()))
    return Plan(grid, notebook, tuple(replace(run, varied=varied) for run in runs.values()))


def _varied(runs: list[Run]) -> tuple[str, ...]:
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    values = {name: {repr(run.parameters.get(name, ...)) for run in runs} for name in names}
    return tuple(name for name in names if len(values[name]) > 1)


def _identity(notebook: Notebook, parameters: Mapping[str, Any]) -> str:
    text = json.dumps([notebook.digest, parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
