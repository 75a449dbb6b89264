"""The grid of a sweep: which notebook, which parameters, where the results go.

    notebook: train_and_evaluate.ipynb     # relative to this file, like out
    out: ../runs/ablation                  # folder of all runs and of the table of results
    fixed: {steps: 200}                    # the same in every run
    variants:                              # named sets of parameters; an empty one has the notebook's defaults
      full: {}
      no_gate: {gate: false}
    grid: {rate: [0.03, 0.07]}             # every combination of these
    seeds: [0, 1, 2]                       # fills the parameter seed
    timeout: 3600                          # seconds of a run; one that takes longer is ended and has failed
    table: parquet                         # or csv

Every variant is run with every combination and every seed. A parameter is set in one place only. Nothing here looks
into the notebook; :mod:`.plan` does.
"""

from __future__ import annotations

import itertools
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import DependencyMissing, SweepError

__all__ = ["Grid", "combinations", "load_grid"]

MAX_RUNS = 10_000
MAX_BYTES = 1 << 20  # of the YAML file
MAX_SECONDS = 366 * 86_400  # of a run
MAX_NODES = 100_000  # values in a grid, nested ones counted, aliases expanded
DEFAULT_VARIANT = "default"

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """A sweep as its author wrote it.

    Attributes:
        notebook: the notebook to run.
        out: folder of the results; made when the sweep begins.
        fixed: parameters of all runs.
        variants: name -> parameters.
        axes: parameter -> the values it takes, in every combination.
        seeds: values of the parameter ``seed``; empty leaves it alone.
        timeout: seconds of wall time that a run may take, the kernel's start included; None for any number.
        table: ``"parquet"`` or ``"csv"``.
        name: what messages call the grid.
    """

    notebook: Path
    out: Path
    fixed: Parameters = field(default_factory=dict)
    variants: Mapping[str, Parameters] = field(default_factory=lambda: {DEFAULT_VARIANT: {}})
    axes: Mapping[str, list[Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    timeout: float | None = None
    table: str = "parquet"
    name: str = "grid"

    @property
    def size(self) -> int:
        """Number of runs."""
        lengths = [len(values) for values in self.axes.values()]
        return len(self.variants) * math.prod(lengths) * max(1, len(self.seeds))


def load_grid(
    source: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    timeout: float | None = None,
) -> Grid:
    """Read a grid and check all that can be told without its notebook.

    Args:
        source: a YAML file, whose relative paths start at its folder; or the same keys as a mapping, whose relative
            paths start at the current folder.
        out: folder of the results instead of the grid's, relative to the current folder.
        timeout: seconds that a run may take, instead of the grid's.

    Raises:
        SweepError: unreadable, an unknown or a missing key, a value of the wrong kind, a parameter set twice, or more
            than ``MAX_RUNS`` runs.
        DependencyMissing: a package of the extra ``sweep`` is not installed.
    """
    if isinstance(source, Mapping):
        content, base, name = dict(source), Path.cwd(), "grid"
    else:
        content, base, name = _read_yaml(Path(source)), Path(source).resolve().parent, str(source)
    if out is not None:
        content["out"] = str(Path(out).absolute())
    if timeout is not None:
        content["timeout"] = timeout
    _check(content, name)
    variants = content.get("variants") or {DEFAULT_VARIANT: {}}
    seconds = content.get("timeout")
    grid = Grid(
        notebook=_path(content, "notebook", base, name),
        out=_path(content, "out", base, name),
        fixed=dict(content.get("fixed") or {}),
        variants={variant: dict(own or {}) for variant, own in variants.items()},
        axes=dict(content.get("grid") or {}),
        seeds=tuple(content.get("seeds") or ()),
        timeout=None if seconds is None else float(seconds),
        table=content.get("table") or "parquet",
        name=name,
    )
    _check_set_once(grid)
    if grid.size > MAX_RUNS:
        raise SweepError(f"{name}: {grid.size} runs; at most {MAX_RUNS}. Split the grid.")
    return grid


def _check(content: Mapping[str, Any], name: str) -> None:
    """Has a grid the keys that it can have, with values of their kinds?"""
    from pydantic import Field, JsonValue, StringConstraints, TypeAdapter, ValidationError

    text = Annotated[str, StringConstraints(min_length=1)]
    parameter = Annotated[str, StringConstraints(pattern=r"^[^\W\d]\w*$")]
    variant = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$")]
    values = dict[parameter, JsonValue]
    several = Annotated[list[JsonValue], Field(min_length=1)]
    quote = "quote what YAML takes for something else than text"
    keys: dict[str, tuple[Any, str]] = {  # the type, and what to give
        "notebook": (text | Path, "a path"),
        "out": (text | Path, "a path"),
        "fixed": (values | None, f"parameters, each with its value; {quote}"),
        "variants": (
            Annotated[dict[variant, values | None], Field(min_length=1)] | None,
            "names, each with its parameters. A name becomes part of a folder's: up to 48 letters, digits, '.', '_' "
            f"and '-', a letter or digit first; {quote}",
        ),
        "grid": (
            dict[parameter, several] | None,
            f"parameters, each with a list of values, or move a single one to fixed; {quote}",
        ),
        "seeds": (
            Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None,
            "a list of whole numbers from 0 on",
        ),
        "timeout": (
            Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None,
            f"the seconds that a run may take, above 0 and up to {MAX_SECONDS}, or leave it out",
        ),
        "table": (Literal["parquet", "csv"] | None, "parquet or csv"),
    }
    if unknown := [key for key in content if key not in keys]:
        raise SweepError(
            f"{name}: unknown key {unknown[0]!r}. A grid has: {', '.join(keys)}; parameters go below "
            "grid, fixed or variants."
        )
    _check_values(content, name)
    for key, (kind, wanted) in keys.items():
        value = content.get(key)
        try:
            TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]
            where = ": ".join(map(str, [*reason["loc"], reason["msg"]]))
            raise SweepError(
                f"{name}: {key} is {reprlib.repr(value)} ({where}). Give {wanted}."
            ) from error


def _check_values(content: Any, name: str) -> None:
    """Not too many: a few lines of YAML whose aliases refer to each other can stand for billions. And all Unicode."""
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        if (seen := seen + 1) > MAX_NODES:
            raise SweepError(f"{name}: over {MAX_NODES} values. Split the grid.")
        if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
            raise SweepError(
                f"{name}: {value!r} is no Unicode, as a notebook must be. Write it anew."
            )
        inside = value.values() if isinstance(value, Mapping) else value
        waiting += inside if isinstance(value, Mapping | list) else []


def combinations(grid: Grid) -> Iterator[tuple[str, Parameters]]:
    """Variant and parameters of every run: a first seed of everything comes before the second one of anything."""
    seeds = [{"seed": seed} for seed in grid.seeds] or [{}]
    axes = [[(name, value) for value in values] for name, values in grid.axes.items()]
    for seed, (variant, own) in itertools.product(seeds, grid.variants.items()):
        for chosen in itertools.product(*axes):
            yield variant, {**grid.fixed, **own, **dict(chosen), **seed}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise DependencyMissing.for_extra("pyyaml", "sweep", "a grid in YAML") from error

    class Loader(yaml.SafeLoader):
        """Plain values only, and no key twice, of which YAML would keep the last without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            plain = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            keys = [key.value for key in plain if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is there twice", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SweepError(f"{path}: over {MAX_BYTES} bytes; this is no grid.")
        content = yaml.load(data, Loader)
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise SweepError(f"{path}: not readable as YAML ({reason}).") from error
    if not isinstance(content, dict):
        raise SweepError(f"{path}: holds no keys such as notebook and out; this is no grid.")
    return content


def _path(content: Mapping[str, Any], key: str, base: Path, name: str) -> Path:
    value = content[key]
    try:
        return Path(os.path.normpath(base / Path(value).expanduser()))
    except RuntimeError as error:
        raise SweepError(
            f"{name}: {key} is {str(value)!r}, and there is no such home folder. Write the whole path."
        ) from error


def _check_set_once(grid: Grid) -> None:
    """What is set in two places would be lost in one of them."""
    for variant, own in grid.variants.items():
        places = {"fixed": grid.fixed, f"variant {variant!r}": own, "grid": grid.axes}
        if grid.seeds:
            places["seeds"] = {"seed": None}
        for (one, first), (other, second) in itertools.combinations(places.items(), 2):
            if both := sorted(set(first) & set(second)):
                raise SweepError(
                    f"{grid.name}: {both[0]} is set by {one} and by {other}; keep one."
                )
