"""Figures: they draw, carry alt text, state what the data say, and leave global settings alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sketchfusion_lite.errors import ArgumentError, ImageError
from sketchfusion_lite.samples import SAMPLES, load_photo, sample_path

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import figures, say, show  # noqa: E402

SECTIONS = {"header": 13, "crc": 6, "hyper": 72, "structure": 500, "tone": 800}


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    ramp = np.linspace(0, 255, 60 * 90 * 3).astype(np.uint8).reshape(60, 90, 3)
    return Image.fromarray(ramp)


@pytest.fixture(scope="module")
def changed(picture: Image.Image) -> Image.Image:
    """The picture, altered inside (50, 20)-(70, 40) only."""
    array = np.array(picture)
    array[20:40, 50:70] ^= 0xFF
    return Image.fromarray(array)


def draw(name: str, a: Image.Image, b: Image.Image) -> matplotlib.figure.Figure:
    return {
        "panels": lambda: figures.panels(
            {"one": a, "two": b.convert("L")}, "finding", "two pictures"
        ),
        "section_bytes": lambda: figures.section_bytes(SECTIONS, 1370.5),
        "comparison": lambda: figures.comparison(
            {"a": a, "b": b}, {"here": (0, 0, 30, 20)}, "finding"
        ),
        "rate_curve": lambda: figures.rate_curve(
            [(0.02, {"psnr": 20}), (0.1, {"psnr": 24})],
            {"AVIF": (0.05, {"psnr": 23})},
            "finding",
            ["psnr"],
        ),
        "raw_pixels": lambda: figures.raw_pixels(a, 300),
    }[name]()


@pytest.mark.parametrize(
    "name", ["panels", "section_bytes", "comparison", "rate_curve", "raw_pixels"]
)
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_every_figure_becomes_a_picture_with_alt_text(name, kind, picture, changed):
    before = dict(matplotlib.rcParams)
    shown = figures.render(draw(name, picture, changed), kind)
    data, metadata = shown._repr_mimebundle_()
    assert set(data) == {f"image/{kind}"}
    assert len(metadata[f"image/{kind}"]["alt"]) > 10
    assert Image.open(io.BytesIO(shown.data)).width > 600
    assert dict(matplotlib.rcParams) == before, "global plot settings changed"


def test_section_bytes_states_the_finding():
    figure = figures.section_bytes(SECTIONS, 1370.5)
    title = figure.get_suptitle()
    assert "Tone takes 58%" in title and "1,391 bytes" in title and "1.4%" in title
    assert all(str(count) in figure.get_label() for count in SECTIONS.values())


def test_show_and_say_display(capsys, picture):
    assert show(figures.raw_pixels(picture, 300)) is None and say("**text**") is None
    assert "Image" in (shown := capsys.readouterr().out) and "Markdown" in shown


def test_raw_pixels_stay_within_the_budget(picture):
    assert "9 x 6 raw pixels" in figures.raw_pixels(picture, 183).axes[1].get_title()
    assert "90 x 60" in figures.raw_pixels(picture, 10**6).axes[1].get_title()


def test_unknown_kind_is_refused():
    with pytest.raises(ArgumentError, match="jpeg"):
        show(figures.section_bytes(SECTIONS, 1.0), "svg")


def test_difference_window_finds_the_change(picture, changed):
    left, top, right, bottom = figures.difference_window(picture, changed, (20, 20))
    assert (left, top, right, bottom) == (50, 20, 70, 40)


def test_difference_window_avoids(picture, changed):
    first = figures.difference_window(picture, changed, (10, 10))
    left, top, right, bottom = figures.difference_window(picture, changed, (10, 10), avoid=first)
    apart = left >= first[2] or right <= first[0] or top >= first[3] or bottom <= first[1]
    assert apart
    assert 40 < left < 70 and 10 < top < 40, "the second window lies in the change as well"


def test_difference_window_fits_small_pictures():
    tiny = Image.new("RGB", (5, 3))
    assert figures.difference_window(tiny, tiny, (50, 50), avoid=(0, 0, 5, 3)) == (0, 0, 5, 3)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_photos_ship_with_their_packages(name):
    pytest.importorskip(SAMPLES[name].module)
    photo = load_photo(name)
    assert photo.name == name and photo.image.mode == "RGB" and photo.licence
    assert photo.pixels == photo.image.width * photo.image.height > 100_000


def test_a_photo_may_be_a_path(tmp_path):
    Image.new("RGB", (7, 5), "red").save(tmp_path / "my photo.png")
    photo = load_photo(tmp_path / "my photo.png")
    assert (photo.name, photo.image.size, photo.credit) == ("my photo", (7, 5), "")


@pytest.mark.parametrize("load", [sample_path, load_photo])
def test_unknown_photo_names_the_samples(load):
    with pytest.raises(ImageError, match="coffee, astronaut"):
        load("lena")
