"""Figures: they draw, carry alt text, state what the data say, and leave global settings alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import ImageError
from sketchfusion_lite.samples import SAMPLES, load_photo, sample_path

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import figures, say, show  # noqa: E402

SECTIONS = {"header": 13, "crc": 6, "hyper": 72, "structure": 500, "tone": 800}


@pytest.fixture(scope="module")
def changed(picture: Image.Image) -> Image.Image:
    """The picture, altered inside (50, 20)-(70, 40) only."""
    array = np.array(picture)
    array[20:40, 50:70] ^= 0xFF
    return Image.fromarray(array)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_every_figure_becomes_a_picture_with_alt_text(kind, picture, changed):
    before, boxes = dict(matplotlib.rcParams), {"here": (0, 0, 30, 20)}
    points = [(bpp, {"psnr": psnr, "lpips_alex": 0.2}) for bpp, psnr in ((0.02, 20), (0.1, 24))]
    for figure in (
        figures.panels({"one": picture, "two": changed.convert("L")}, "finding", "two pictures"),
        figures.section_bytes(SECTIONS, 1370.5),
        figures.comparison({"a": picture, "b": changed}, boxes, "finding"),
        figures.rate_curve(points, {"AVIF": points[1]}, "finding"),
        figures.raw_pixels(picture, 300),
    ):
        shown = figures.render(figure, kind)
        data, metadata = shown._repr_mimebundle_()
        assert set(data) == {f"image/{kind}"} and len(metadata[f"image/{kind}"]["alt"]) > 10
        assert Image.open(io.BytesIO(shown.data)).width > 600
    assert dict(matplotlib.rcParams) == before, "global plot settings changed"
    assert "9 x 6 raw pixels" in figures.raw_pixels(picture, 183).axes[1].get_title()
    assert "90 x 60" in figures.raw_pixels(picture, 10**6).axes[1].get_title()


def test_section_bytes_states_the_finding():
    figure = figures.section_bytes(SECTIONS, 1370.5)
    title = figure.get_suptitle()
    assert "Tone takes 58%" in title and "1,391 bytes" in title and "1.4%" in title
    assert all(str(count) in figure.get_label() for count in SECTIONS.values())


def test_show_and_say_display(capsys, picture):
    assert show(figures.raw_pixels(picture, 300)) is None and say("**text**") is None
    assert "Image" in (shown := capsys.readouterr().out) and "Markdown" in shown


def test_difference_windows_find_the_change_and_lie_apart(picture, changed):
    assert figures.difference_window(picture, changed, (20, 20)) == (50, 20, 70, 40)
    tiny = Image.new("RGB", (5, 3))
    assert figures.difference_window(tiny, tiny, (50, 50), avoid=(0, 0, 5, 3)) == (0, 0, 5, 3)
    first = figures.difference_window(picture, changed, (10, 10))
    left, top, right, bottom = figures.difference_window(picture, changed, (10, 10), avoid=first)
    apart = left >= first[2] or right <= first[0] or top >= first[3] or bottom <= first[1]
    assert apart
    assert 40 < left < 70 and 10 < top < 40, "the second window lies in the change as well"


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_photos_ship_with_their_packages(name):
    pytest.importorskip(SAMPLES[name].module)
    photo = load_photo(name)
    assert photo.name == name and photo.image.mode == "RGB" and photo.licence
    assert photo.pixels == photo.image.width * photo.image.height > 100_000


def test_a_photo_may_be_a_path_and_an_unknown_one_names_the_samples(tmp_path):
    Image.new("RGB", (7, 5), "red").save(tmp_path / "my photo.png")
    photo = load_photo(tmp_path / "my photo.png")
    assert (photo.name, photo.image.size, photo.credit) == ("my photo", (7, 5), "")
    for load in (sample_path, load_photo):
        with pytest.raises(ImageError, match="coffee, astronaut"):
            load("lena")
