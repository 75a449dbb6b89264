"""Numbers that others published, each with its source: for plots beside what was measured, never mixed with it.

data/published/kodak_perceptual.csv   ultra-low rates: PSNR, MS-SSIM, LPIPS-Alex, DISTS, FID
data/published/kodak_curves.csv       classical and learned codecs: PSNR, MS-SSIM
"""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path
from typing import Any

from sketchfusion_lite.errors import ArgumentError, ResultsError

__all__ = ["PUBLISHED", "load_published"]

PUBLISHED = ("kodak_perceptual", "kodak_curves")
_TEXTS = ("method", "setting", "source")


def load_published(name: str = "kodak_perceptual") -> list[dict[str, Any]]:
    """Published points.

    Args:
        name: one of ``PUBLISHED``.

    Returns:
        Rows with ``method``, ``setting``, ``bpp``, metrics by the names of ``METRICS`` and ``fid`` (None where they
        were not given), and ``source``, which is never empty.

    Raises:
        ArgumentError: no such table.
        ResultsError: the file is missing or damaged.
    """
    if name not in PUBLISHED:
        raise ArgumentError(f"no published table {name!r}; there are: {', '.join(PUBLISHED)}.")
    path = _folder() / f"{name}.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_parse(row) for row in csv.DictReader(file, strict=True)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise ResultsError(
            f"{path}: missing or damaged ({error}). Restore it from the repository."
        ) from error
    if not rows or not all(row["source"] for row in rows):
        raise ResultsError(f"{path}: a row names no source. Restore it from the repository.")
    return rows


def _parse(row: dict[str, str]) -> dict[str, Any]:
    return {
        name: text if name in _TEXTS else float(text) if text else None
        for name, text in row.items()
    }


def _folder() -> Path:
    """Inside an installed package, or in the repository that it is imported from."""
    installed = Path(str(resources.files("sketchfusion_workbook") / "published"))
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data" / "published"
