"""Every kind of picture that a format can hold is read as its specification says, or refused by name.

One cell of the table in docs/formats.md is one test here, and the table is written from these. Files are made by hand
or by encoders that are not Pillow's, of pixels that are known.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from sketchfusion_lite.errors import ImageError, PictureWarning
from sketchfusion_lite.images import load_image

from .formats import lossy, plain, tiff  # noqa: F401  (they register their cells)
from .formats.cells import CELLS, Case

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
ORDER = ("PNG", "JPEG", "TIFF", "WebP", "AVIF", "HEIC", "JPEG 2000", "BMP", "GIF", "PPM", "QOI")
START, END = "<!-- table of formats -->\n", "<!-- end of table -->\n"


@pytest.mark.parametrize(("form", "feature"), CELLS, ids=lambda value: value)
def test_cell(form, feature, tmp_path):
    for number, fields in enumerate(CELLS[form, feature]()):
        case = Case(*fields)
        path = tmp_path / f"picture {number}"
        path.write_bytes(case.data)
        where = f"case {number}"
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            if isinstance(case.pixels, str):
                with pytest.raises(ImageError, match=f"(?s)^{path}: .*(?:{case.pixels})"):
                    load_image(path)
                continue
            found = load_image(path)[0].permute(1, 2, 0).double().numpy() * 255
        said = [str(each.message) for each in seen if issubclass(each.category, PictureWarning)]
        if case.says:
            assert any(text.startswith(f"{path}: ") for text in said), where
            assert any(re.search(case.says, text) for text in said), (where, said)
        else:
            assert not said, (where, said)
        wanted = case.pixels if case.pixels.ndim == 3 else case.pixels[..., None]
        wanted = np.broadcast_to(wanted, (*wanted.shape[:2], 3)).astype(float)
        assert found.shape == wanted.shape, where
        assert np.abs(found - wanted).max() <= case.tolerance, (where, np.abs(found - wanted).max())


def table() -> str:
    """The table of the page, from the cells: "read", "refused", or nothing where the format knows no such thing."""
    cells = sorted(CELLS, key=lambda cell: ORDER.index(cell[0]))
    lines = ["| | " + " | ".join(ORDER) + " |", "|---|" + "---|" * len(ORDER)]
    for feature in dict.fromkeys(feature for _, feature in cells):
        words = []
        for form in ORDER:
            make = CELLS.get((form, feature))
            read = make and any(not isinstance(pixels, str) for _, pixels, *_ in make())
            words.append("" if make is None else "read" if read else "refused")
        lines.append(f"| {feature} | " + " | ".join(words) + " |")
    return "\n".join(lines) + "\n"


def test_the_page_shows_these_cells():
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0] == table(), (
        "write it: python -m tests.test_image_formats"
    )


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(before + START + table() + END + rest.partition(END)[2], encoding="utf-8")
