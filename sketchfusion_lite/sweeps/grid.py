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
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic import StringConstraints as Text
from pydantic import ValidationInfo as Info

from ..errors import SweepError

__all__ = ["Grid", "combinations", "load_grid"]

MAX_RUNS = 10_000
MAX_BYTES = 1 << 20  # of the YAML file
MAX_SECONDS = 366 * 86_400  # of a run
MAX_NODES = 100_000  # values in a grid, nested ones counted, aliases expanded


def _absolute(value: Any, info: Info) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("no path")
    try:
        return Path(os.path.normpath(Path(str(info.context)) / Path(value).expanduser()))
    except RuntimeError as error:
        raise ValueError("there is no such home folder; write the whole path") from error


_Name = Annotated[str, Text(pattern=r"^[^\W\d]\w*$")]
_Variant = Annotated[str, Text(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$")]
_Path = Annotated[Path, BeforeValidator(_absolute)]
_Parameters = Annotated[
    dict[_Name, JsonValue], BeforeValidator(lambda value: {} if value is None else value)
]
_QUOTE = "quote what YAML takes for something else than text"


class Grid(BaseModel):
    """A sweep as its author wrote it; its fields are the keys above, with ``axes`` for ``grid``.

    Their descriptions are what an error asks for. ``name`` is what messages call the grid, and no key of the file.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    notebook: _Path = Field(description="a path")
    out: _Path = Field(description="a path")
    fixed: _Parameters = Field({}, description=f"parameters, each with its value; {_QUOTE}")
    variants: dict[_Variant, _Parameters] = Field(
        {"default": {}},
        min_length=1,
        description="names, each with its parameters. A name becomes part of a folder's: up to 48 letters, digits, "
        f"'.', '_' and '-', a letter or digit first; {_QUOTE}",
    )
    axes: dict[_Name, Annotated[list[JsonValue], Field(min_length=1)]] = Field(
        {},
        alias="grid",
        description=f"parameters, each with a list of values, or move a single one to fixed; {_QUOTE}",
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [], min_length=1, description="a list of whole numbers from 0 on"
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description=f"the seconds that a run may take, above 0 and up to {MAX_SECONDS}, or leave it out",
    )
    table: Literal["parquet", "csv"] = Field("parquet", description="parquet or csv")
    name: str = "grid"

    @property
    def size(self) -> int:
        """Number of runs."""
        lengths = [len(values) for values in self.axes.values()]
        return len(self.variants) * math.prod(lengths) * max(1, len(self.seeds))


_KEYS = {field.alias or name: field for name, field in Grid.model_fields.items() if name != "name"}


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
    """
    if isinstance(source, Mapping):
        content, base, name = dict(source), Path.cwd(), "grid"
    else:
        content, base, name = _read_yaml(Path(source)), Path(source).resolve().parent, str(source)
    content |= {} if out is None else {"out": Path(out).absolute()}
    content |= {} if timeout is None else {"timeout": timeout}
    if unknown := [key for key in content if key not in _KEYS]:
        raise SweepError(
            f"{name}: unknown key {unknown[0]!r}. A grid has: {', '.join(_KEYS)}; parameters go below "
            "grid, fixed or variants."
        )
    _check_values(content, name)
    given = {key: value for key, value in content.items() if value is not None}
    try:
        grid = Grid.model_validate(given | {"name": name}, context=base)
    except ValidationError as error:
        reason = error.errors()[0]
        key = str(reason["loc"][0])
        where = ": ".join(map(str, [*reason["loc"], reason["msg"]]))
        raise SweepError(
            f"{name}: {key} is {reprlib.repr(content.get(key))} ({where}). Give {_KEYS[key].description}."
        ) from error
    _check_set_once(grid)
    if grid.size > MAX_RUNS:
        raise SweepError(f"{name}: {grid.size} runs; at most {MAX_RUNS}. Split the grid.")
    return grid


def combinations(grid: Grid) -> Iterator[tuple[str, dict[str, Any]]]:
    """Variant and parameters of every run: a first seed of everything comes before the second one of anything."""
    seeds = [{"seed": seed} for seed in grid.seeds] or [{}]
    axes = [[(name, value) for value in values] for name, values in grid.axes.items()]
    for seed, (variant, own) in itertools.product(seeds, grid.variants.items()):
        for chosen in itertools.product(*axes):
            yield variant, {**grid.fixed, **own, **dict(chosen), **seed}


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SweepError(f"{path}: over {MAX_BYTES} bytes; this is no grid.")
        content = yaml.load(data, _Loader)
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise SweepError(f"{path}: not readable as YAML ({reason}).") from error
    if not isinstance(content, dict):
        raise SweepError(f"{path}: holds no keys such as notebook and out; this is no grid.")
    return content


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


def _check_set_once(grid: Grid) -> None:
    """What is set in two places would be lost in one of them."""
    for variant, own in grid.variants.items():
        places: dict[str, Mapping[str, Any]]
        places = {"fixed": grid.fixed, f"variant {variant!r}": own, "grid": grid.axes}
        places["seeds"] = {"seed": None} if grid.seeds else {}
        for (one, first), (other, second) in itertools.combinations(places.items(), 2):
            if both := sorted(set(first) & set(second)):
                raise SweepError(
                    f"{grid.name}: {both[0]} is set by {one} and by {other}; keep one."
                )
