"""Charts about the refiner and the encoder: the numbers behind them, and what a reader who cannot see them is told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import charts, figures, latents  # noqa: E402


def altered(picture: Image.Image, box: tuple[int, int, int, int], by: int) -> Image.Image:
    array = np.array(picture).astype(int)
    left, top, right, bottom = box
    array[top:bottom, left:right] += by
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def test_local_error_is_the_windowed_mean_of_squares(picture):
    other = altered(picture, (40, 20, 60, 40), 20)
    found = charts.local_error(picture, other, reach=3)
    squared = np.square(np.asarray(picture, float) - np.asarray(other, float)).mean(axis=2)
    assert found.shape == (60, 90)
    assert found[30, 50] == pytest.approx(squared[27:34, 47:54].mean())
    assert found[5, 5] == pytest.approx(0, abs=1e-6)
    assert charts.local_error(picture, picture).max() == pytest.approx(0, abs=1e-6)


def test_power_spectrum_finds_the_frequency():
    x = np.arange(128)
    for period in (4, 8, 16):
        wave = 127 + 100 * np.sin(2 * np.pi * x / period)
        picture = Image.fromarray(np.tile(wave, (128, 1)).astype(np.uint8))
        frequencies, power = charts.power_spectrum(picture)
        assert len(frequencies) == len(power) == 40
        assert frequencies[int(np.argmax(power))] == pytest.approx(1 / period, abs=0.02)


def test_the_map_says_how_much_is_restored(picture):
    left, right = (5, 5, 40, 55), (50, 5, 85, 55)
    before = altered(altered(picture, left, 40), right, 10)
    after = altered(altered(picture, left, 10), right, 40)  # left better, right worse
    figure = charts.restored_or_invented(picture, before, after, "a finding", reach=1)
    gain = charts.local_error(picture, before, 1) - charts.local_error(picture, after, 1)
    assert gain[30, 20] > 0 > gain[30, 70]
    assert f"{(gain > 0).mean():.0%}" in figure.get_label()


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_lines_tell_their_ends(log: str):
    curves = {"first": ([1, 2, 4], [0.5, 0.25, 0.125]), "second": ([1, 2, 4], [3.0, 2.0, 1.0])}
    figure = charts.lines(curves, ("size (MP)", "seconds"), "a finding", log=log)
    alt = figure.get_label()
    assert "first from 0.5 to 0.125" in alt and "second from 3 to 1" in alt and "seconds" in alt
    axes = figure.axes[0]
    assert axes.get_xscale() == ("log" if "x" in log else "linear")
    assert axes.get_yscale() == ("log" if "y" in log else "linear")
    markers = {line.get_marker() for line in axes.get_lines()}
    assert len(markers) == 2, "curves must differ in more than colour"
    axes = charts.lines(curves, ("x", "y"), "a finding", marks={"target": 0.2}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["target"]
    assert list(axes.get_lines()[-1].get_ydata()) == [0.2, 0.2]


def test_the_plane_names_every_point():
    points = {"one": (20.0, 0.3), "two": (25.0, 0.2)}
    figure = charts.plane(points, ("PSNR (dB)", "LPIPS"), "a finding")
    assert [text.get_text() for text in figure.axes[0].texts] == ["one", "two"]
    assert "one at 20, 0.3; two at 25, 0.2" in figure.get_label()
    assert len({line.get_marker() for line in figure.axes[0].get_lines()}) == 2
    points = {f"a long name {i}": (20 + i / 1000, 0.3) for i in range(4)} | {"far": (25.0, 0.2)}
    figure = charts.plane(points, ("x", "y"), "a finding")
    figures.render(figure, "png")  # lays out
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_dial_labels_its_settings():
    points = [(r, {"psnr": 23 - r, "lpips_alex": 0.3 - 0.1 * r}) for r in (0.0, 0.5, 1.0)]
    figure = charts.dial(points, "a finding", "psnr", "lpips_alex")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "0.5", "1"]
    assert len(figure.get_label()) > 40 and "PSNR" in figure.get_label()
    assert figure._suptitle.get_text() == "a finding"
    next_to_nothing = [(r, {"psnr": 23 - r / 1000, "lpips_alex": 0.3}) for r in (0.0, 1.0)]
    axes = charts.dial(next_to_nothing, "a finding", "psnr", "lpips_alex", (0.1, 0.01)).axes[0]
    assert np.diff(axes.get_xlim()).item() == pytest.approx(0.1)
    assert np.diff(axes.get_ylim()).item() >= 0.01 - 1e-9


# The encoder's inside ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 12])
def test_planes_share_one_symmetric_scale(count: int):
    latent = np.random.default_rng(0).normal(size=(count, 6, 9))
    figure = latents.planes(latent, [f"c{i}" for i in range(count)], "a finding", columns=5)
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert len(limits) == 1 and sum(*limits) == pytest.approx(0)
    assert f"{count} planes of 9 x 6" in figure.get_label()
    assert figures.render(figure, "png").data
    assert latents.planes(np.zeros((3, 4, 4)), ["a", "b", "c"], "nothing").get_suptitle()


def test_maps_say_their_ranges():
    photo = Image.new("RGB", (90, 60))
    layers = {"gate": np.linspace(0.25, 0.75, 24).reshape(4, 6), "flat": np.ones((4, 6))}
    figure = latents.maps(photo, layers, "a finding")
    assert "gate, 0.25 to 0.75; flat, 1.00 to 1.00" in figure.get_label()
    assert figures.render(figure).data
    symbols = np.random.default_rng(0).integers(-1, 2, size=(2, 6, 9))
    bar = latents.planes(symbols, ["a", "b"], "a finding").axes[-1]
    assert set(bar.get_yticks()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}, "integers have integer ticks"
