"""The unit of the ablation: every switch trains, makes real files and leaves a row; a wrong one leaves its error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("papermill")
pytest.importorskip("distributed")

from sketchfusion_lite import __version__
from sketchfusion_lite.sweeps import load_grid, plan, read_results, run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("grid", ["ablation.yaml", "smoke.yaml"])
def test_the_grids_fit_their_notebook(grid: str):
    planned = plan(load_grid(ROOT / "sweeps" / grid))
    assert len(planned.runs) == planned.grid.size >= 9
    switched = {name for r in planned.runs for name in r.parameters} - set(planned.grid.fixed)
    assert {"cues", "context", "gain_vectors", "adversarial_weight", "seed"} <= switched


def test_the_committed_results_are_those_of_the_committed_grid():
    """Every run of it, with its parameters; by identity where they are of this release's notebook."""
    runs = plan(load_grid(ROOT / "sweeps" / "ablation.yaml")).runs
    rows = read_results(ROOT / "data" / "results" / "ablation.csv")
    of_now = {row["run_id"] for row in rows if row["library"] == __version__}
    assert of_now <= {r.run_id for r in runs}
    planned = {(r.variant, r.parameters["seed"]): r for r in runs}
    assert {(row["variant"], row["param.seed"]) for row in rows} == set(planned)
    for row in rows:
        run_of_row = planned[row["variant"], row["param.seed"]]
        assert row["variant"] == run_of_row.variant and row["status"] == "ok"
        for name, value in run_of_row.parameters.items():
            assert row[f"param.{name}"] == value
        assert row["worker"] == "", "a machine's name is nobody's business"


@pytest.mark.notebook
@pytest.mark.slow
def test_switches_train_and_make_files(tmp_path: Path):
    """Three of the smoke test's variants, which between them take every branch that the others do not share."""
    grid = load_grid(ROOT / "sweeps" / "smoke.yaml", out=tmp_path / "out")
    chosen = {name: grid.variants[name] for name in ("adversarial", "factorised", "refined")}
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
    assert rows["factorised"]["metric.parameters"] < rows["adversarial"]["metric.parameters"]
