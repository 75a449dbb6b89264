"""The unit of the ablation: every switch trains, makes real files and leaves a row; a wrong one leaves its error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("papermill")
pytest.importorskip("distributed")

from sketchfusion_lite.sweeps import load_grid, plan, read_results, run

ROOT = Path(__file__).parents[1]


SWITCHES = {"cues", "context", "quantiser", "adversary", "seed"}
GRIDS = {"ablation": SWITCHES, "quantisers": {"quantiser", "seed"}}
SMOKE = SWITCHES | {"gain_vectors", "sketch_weight"}
YOUNGER = {
    "rate_gain",
    "vgg_share",
}  # parameters than the committed results; the grids fix them at what was


@pytest.mark.parametrize(("grid", "switches"), [*GRIDS.items(), ("smoke", SMOKE)])
def test_the_grids_fit_their_notebook(grid: str, switches: set[str]):
    planned = plan(load_grid(ROOT / "sweeps" / f"{grid}.yaml"))
    assert len(planned.runs) == planned.grid.size >= 4
    switched = {name for r in planned.runs for name in r.parameters} - set(planned.grid.fixed)
    assert switches <= switched


@pytest.mark.parametrize("grid", GRIDS)
def test_the_committed_results_are_those_of_the_committed_grid(grid: str):
    """Every run of it, with the parameters that there were. (The notebook may have changed since: no identities.)"""
    path = ROOT / "data" / "results" / f"{grid}.csv"
    rows = read_results(path)
    runs = plan(load_grid(ROOT / "sweeps" / f"{grid}.yaml")).runs
    planned = {(r.variant, json.dumps(r.parameters, sort_keys=True)) for r in runs}
    names = {name for r in runs for name in r.parameters}
    found = set()
    for row in rows:
        (run_of_row,) = [
            r
            for r in runs
            if r.variant == row["variant"]
            and all(row[f"param.{n}"] == r.parameters[n] for n in r.parameters.keys() - YOUNGER)
            and all(row[f"param.{n}"] == r.defaults[n] for n in names - {*r.parameters} - YOUNGER)
        ]
        found.add((run_of_row.variant, json.dumps(run_of_row.parameters, sort_keys=True)))
        assert row["status"] == "ok"
        assert row["worker"] == "", "a machine's name is nobody's business"
    assert found == planned


@pytest.mark.notebook
@pytest.mark.slow
def test_switches_train_and_make_files(tmp_path: Path):
    """Three of the smoke test's variants, which between them take every branch that the others do not share."""
    grid = load_grid(ROOT / "sweeps" / "smoke.yaml", out=tmp_path / "out")
    chosen = {name: grid.variants[name] for name in ("noise", "factorised", "refined")}
    content = {
        "notebook": str(grid.notebook),
        "out": str(tmp_path / "out"),
        "fixed": {**grid.fixed, "train_steps": 4},
        "variants": {**chosen, "impossible": {"context": "raster"}},
        "seeds": [0],
    }
    rows = {row["variant"]: row for row in run(content, workers=2)}
    assert "context must be one of" in rows.pop("impossible")["error"]
    for name, row in rows.items():
        assert row["status"] == "ok", row["error"]
        assert row["metric.photos_4"] == 2 and row["metric.pixels_seen"] == 4 * 4 * 64 * 64
        if row["metric.fits_4"] == 2:
            assert 0 < row["metric.bpp_4"] <= 4 and 5 < row["metric.psnr_4"] < 40
        folder = tmp_path / "out" / "runs" / f"{name}-{row['run_id']}"
        assert (folder / "codec" / "codec.safetensors").is_file()
        cells = json.loads((folder / "notebook.ipynb").read_text())["cells"]
        assert any(cell.get("outputs") for cell in cells)
    assert (tmp_path / "out" / "runs" / f"refined-{rows['refined']['run_id']}" / "refiner").is_dir()
    assert rows["factorised"]["metric.parameters"] < rows["noise"]["metric.parameters"]
