"""Notebook 04 with other parameters and solved exercises."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("papermill")

from tests.test_notebooks import TOUR, run, with_solutions


@pytest.mark.notebook
@pytest.mark.slow
def test_preview_decoding_with_another_photo_and_a_short_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = TOUR.with_name("04_preview_decoding.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    parameters = {"photo": "chelsea", "train_steps": 2, "crop": 48, "batch": 2, "width": 8}
    table = notebook.parents[1] / "data" / "results" / "adversarial.csv"
    parameters |= {"at_scale": str(table)}
    row = run(solved, tmp_path, parameters, monkeypatch)
    assert (row["photo"], row["train_steps"], row["width"]) == ("chelsea", 2, 8)
    assert row["doubling"] == pytest.approx(2, rel=0.03)
    assert row["macs_per_pixel"] > 1000 and row["receptive_field"] % 16 == 0
    assert 0 < row["near"] <= 1 and 0 < row["invented"] < 1
    names = {key.removesuffix("_psnr") for key in row if key.endswith("_psnr")}
    assert len(names) == 7, "the shipped decoder and six tuned ones"
    for name in names:
        assert 12 < row[f"{name}_psnr"] < 40
        assert 0 < row[f"{name}_lpips_alex"] < 1 and 0 < row[f"{name}_dists"] < 1
        assert row[f"{name}_weave"] > 0
