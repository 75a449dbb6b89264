"""Sweeps: one parameterised notebook over a grid of parameters, resumable, on as many workers as there are.

    GRID.yaml --grid--> parameters of every run --plan--> Run(run_id, variant, parameters), all checked
                                                               |
                       workers (Dask)  <---- engine -----------+
                          | unit: papermill, one kernel, own folder
                          v
    OUT/runs/VARIANT-RUN_ID/{notebook.ipynb, row.json} --table--> OUT/results.parquet (or .csv)

Needs the extra ``sweep``.
"""

from ..errors import DependencyMissing

try:
    from .engine import run
    from .grid import Grid, load_grid
    from .plan import Run, plan
    from .table import read_results
except ModuleNotFoundError as error:
    raise DependencyMissing.for_extra(error.name or "", "sweep", "a sweep") from error

__all__ = ["Grid", "Run", "load_grid", "plan", "read_results", "run"]
