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
    detectors = {
        "difference of Gaussians": difference_of_gaussians,
        "Sobel": sobel,
        "ours": codec.boundaries,
    }
    files = training_files([folder])
    rows = []
    with torch.inference_mode():
        for name, detector in detectors.items():
            pairs = ((detector(image), human_boundaries(f, image)) for f, image in _images(files))
            score = boundary_curve(pairs).best
            rows.append(
                {
                    "detector": name,
                    "F (ODS)": f"{score.f_measure:.3f}",
                    "precision": f"{score.precision:.3f}",
                    "recall": f"{score.recall:.3f}",
                }
            )
    write_rows("cues", rows)
    print(f"{len(files)} photos\n{markdown(rows)}")


def _images(files: list[Path]):
    return ((file, load_image(file)) for file in files)


if __name__ == "__main__":
    main()
