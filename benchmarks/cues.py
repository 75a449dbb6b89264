"""Structural cues against people: F-measure on the BSDS500 test photos, when they are there.

Needs ``../shared/data/bsds500_test`` or another folder of ``NAME.jpg`` with ``NAME_boundary.png`` (the mean of the
annotators), named by the environment variable ``BSDS500_TEST``.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sketchfusion_lite import load_codec
from sketchfusion_lite.cues import difference_of_gaussians, sobel
from sketchfusion_lite.images import load_image
from sketchfusion_lite.training.data import human_boundaries, training_files
from sketchfusion_workbook.lessons.boundaries import boundary_curve

from .common import machine, markdown, write_rows

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "bsds500_test"


def main() -> None:
    print(machine())
    folder = Path(os.environ.get("BSDS500_TEST", DEFAULT))
    if not folder.is_dir():
        print(f"skipped: {folder.name} is not here; set BSDS500_TEST to its folder")
        return
    codec = load_codec(device="cpu", dtype="float32")
    detectors = {"difference of Gaussians": difference_of_gaussians, "Sobel": sobel}
    detectors["ours"] = codec.boundaries
    files = training_files([folder])
    rows = []
    with torch.inference_mode():
        for name, detector in detectors.items():
            images = ((file, load_image(file)) for file in files)
            score = boundary_curve((detector(i), human_boundaries(f, i)) for f, i in images).best
            shown = (score.f_measure, score.precision, score.recall)
            numbers = zip(("F (ODS)", "precision", "recall"), shown, strict=True)
            rows.append({"detector": name, **{key: f"{value:.3f}" for key, value in numbers}})
    write_rows("cues", rows)
    print(f"{len(files)} photos\n{markdown(rows)}")


if __name__ == "__main__":
    main()
