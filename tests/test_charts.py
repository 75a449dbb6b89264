"""Charts about the refiner: the numbers behind them, and what a reader who cannot see them is told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import charts, figures  # noqa: E402


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    ramp = np.linspace(0, 255, 60 * 90 * 3).astype(np.uint8).reshape(60, 90, 3)
    return Image.fromarray(ramp)


def altered(photo: Image.Image, box: tuple[int, int, int, int], by: int) -> Image.Image:
    array = np.array(photo).astype(int)
    left, top, right, bottom = box
    array[top:bottom, left:right] += by
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def test_local_error_is_the_windowed_mean_of_squares(photo):
    other = altered(photo, (40, 20, 60, 40), 20)
    found = charts.local_error(photo, other, reach=3)
    squared = np.square(np.asarray(photo, float) - np.asarray(other, float)).mean(axis=2)
    assert found.shape == (60, 90)
    assert found[30, 50] == pytest.approx(squared[27:34, 47:54].mean())
    assert found[5, 5] == pytest.approx(0, abs=1e-6)
    assert charts.local_error(photo, photo).max() == pytest.approx(0, abs=1e-6)


def test_power_spectrum_finds_the_frequency():
    x = np.arange(128)
    for period in (4, 8, 16):
        wave = 127 + 100 * np.sin(2 * np.pi * x / period)
        picture = Image.fromarray(np.tile(wave, (128, 1)).astype(np.uint8))
        frequencies, power = charts.power_spectrum(picture)
        assert len(frequencies) == len(power) == 40
        assert frequencies[int(np.argmax(power))] == pytest.approx(1 / period, abs=0.02)


def test_blur_takes_the_fine_half_of_the_spectrum():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (96, 96), dtype=np.uint8))
    soft = noise.resize((24, 24), Image.Resampling.BOX).resize((96, 96), Image.Resampling.BICUBIC)
    sharp_power, soft_power = (np.array(charts.power_spectrum(i)[1]) for i in (noise, soft))
    assert soft_power[20:].sum() < 0.1 * sharp_power[20:].sum()


def test_the_map_says_how_much_is_restored(photo):
    left, right = (5, 5, 40, 55), (50, 5, 85, 55)
    before = altered(altered(photo, left, 40), right, 10)
    after = altered(altered(photo, left, 10), right, 40)  # left better, right worse
    figure = charts.restored_or_invented(photo, before, after, "a finding", reach=1)
    gain = charts.local_error(photo, before, 1) - charts.local_error(photo, after, 1)
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


def test_lines_can_be_compared_with_marks():
    curves = {"first": ([1, 2, 4], [0.5, 0.25, 0.125])}
    axes = charts.lines(curves, ("x", "y"), "a finding", marks={"target": 0.2}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["target"]
    assert list(axes.get_lines()[-1].get_ydata()) == [0.2, 0.2]


def test_the_plane_names_every_point():
    points = {"one": (20.0, 0.3), "two": (25.0, 0.2)}
    figure = charts.plane(points, ("PSNR (dB)", "LPIPS"), "a finding")
    assert [text.get_text() for text in figure.axes[0].texts] == ["one", "two"]
    assert "one at 20, 0.3; two at 25, 0.2" in figure.get_label()
    assert len({line.get_marker() for line in figure.axes[0].get_lines()}) == 2


def test_the_names_in_a_plane_do_not_cover_each_other():
    points = {f"a long name {i}": (20 + i / 1000, 0.3) for i in range(4)}
    figure = charts.plane(points | {"far": (25.0, 0.2)}, ("x", "y"), "a finding")
    figures.render(figure, "png")  # lays out
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_dial_labels_its_settings():
    points = [(r, {"psnr": 23 - r, "lpips_alex": 0.3 - 0.1 * r}) for r in (0.0, 0.5, 1.0)]
    figure = charts.dial(points, "a finding", "psnr", "lpips_alex")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "0.5", "1"]
    assert len(figure.get_label()) > 40 and "PSNR" in figure.get_label()
    assert figure._suptitle.get_text() == "a finding"


def test_the_dial_does_not_blow_up_next_to_nothing():
    points = [(r, {"psnr": 23 - r / 1000, "lpips_alex": 0.3}) for r in (0.0, 1.0)]
    axes = charts.dial(points, "a finding", "psnr", "lpips_alex", (0.1, 0.01)).axes[0]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert high - low >= 0.01 - 1e-9
    assert np.diff(axes.get_xlim()).item() == pytest.approx(0.1)
