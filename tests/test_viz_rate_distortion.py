"""Charts of result tables: which means are drawn, what titles claim, what a reader who cannot see is told."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.adapters import Coded
from sketchfusion_lite.evaluation.curves import Curve
from sketchfusion_lite.evaluation.metrics import Metrics
from sketchfusion_lite.evaluation.summary import mean_points
from sketchfusion_workbook.lessons.published import load_published
from sketchfusion_workbook.lessons.side_by_side import Side, side_by_side

pytest.importorskip("matplotlib")
pytest.importorskip("seaborn")
pytest.importorskip("IPython")

from sketchfusion_workbook.viz import figures, naming, strips, wins
from sketchfusion_workbook.viz import rate_distortion as charts

RATES = (0.03, 0.045, 0.07)


def row(codec: str, image: str, rate: float, psnr: float, lpips: float) -> dict:
    """A row of a table, as far as it matters here."""
    values = {"bpp": 0.98 * rate, "psnr": psnr, "lpips_alex": lpips, "dists": lpips / 2}
    return {"codec": codec, "image": image, "rate": rate, "status": "ok", **values}


def table() -> list[dict]:
    """Two photos; ours has half of VVC's LPIPS, 2 dB less PSNR. AVIF does not fit "b.png" at the lowest rate."""
    rows = []
    for index, rate in enumerate(RATES):
        for image, more in (("a.png", 0.0), ("b.png", 1.0)):
            rows += [
                row("preview", image, rate, 22 + index + more, 0.3 - 0.05 * index),
                row("vvc/auto", image, rate, 24 + index + more, 0.6 - 0.1 * index),
                row("vvc", image, rate, 23 + index + more, 0.7 - 0.1 * index),
                row("avif", image, rate, 23 + index + more, 0.8 - 0.1 * index),
            ]
    bad = next(r for r in rows if (r["codec"], r["image"], r["rate"]) == ("avif", "b.png", 0.03))
    bad |= {"status": "does not fit", "bpp": None, "psnr": None, "lpips_alex": None, "dists": None}
    return rows


def drawn(figure, name: str, panel: int = 0):
    """The line of a codec."""
    (line,) = [li for li in figure.axes[panel].get_lines() if li.get_label() == name]
    return line


# --------------------------------------------------------------------------------------------------
# Names


NAMES = {
    "preview": "ours, preview",
    "refined:steps=2": "ours, refined, steps 2",
    "preview:effort=5": "ours, preview, effort 5",
    "vvc": "VVC",
    "jpeg2000/2": "JPEG 2000 at 1/2 size",
    "avif/auto": "AVIF, size chosen",
}


def test_codecs_have_names_and_styles_that_differ_without_colour():
    assert {codec: naming.label(codec) for codec in NAMES} == NAMES
    assert [c for c in NAMES if naming.is_ours(c)] == [c for c in NAMES if "ours" in NAMES[c]]
    codecs = [*NAMES, "jpeg", "webp", "heic", "jpegxl"]
    styles = naming.styles(codecs)
    assert len({(s["marker"], s["linewidth"]) for s in styles.values()}) == len(codecs)


def test_each_peer_is_shown_once_and_what_a_dial_does_only_when_asked():
    assert naming.shown_codecs(table()) == ["preview", "avif", "vvc/auto"]
    more = [*table(), row("lines", "a.png", 0.03, 1, 1), row("avif/2", "a.png", 0.03, 1, 1)]
    assert naming.shown_codecs(more) == ["preview", "avif", "vvc/auto"]
    ours = ["preview", "refined", "refined:effort=5"]
    others = ["refined:steps=2", "refined:realism=0.5", "refined:dtype=bfloat16", "sketch"]
    rows = [row(codec, "a.png", 0.03, 22, 0.3) for codec in others + ours]
    assert naming.shown_codecs(rows) == ours


# --------------------------------------------------------------------------------------------------
# Charts of a table


def test_means_only_where_all_photos_fit():
    points = mean_points(table(), "preview", "psnr")
    assert points == [(0.03, pytest.approx(0.0294), 22.5), (0.045, pytest.approx(0.0441), 23.5),
                      (0.07, pytest.approx(0.0686), 24.5)]  # fmt: skip
    assert [rate for rate, *_ in mean_points(table(), "avif", "psnr")] == [0.045, 0.07]
    without = [r for r in table() if (r["codec"], r["image"]) != ("vvc", "b.png")]
    assert mean_points(without, "vvc", "psnr") == [], "measured on other photos than the rest"


def test_curves_draw_the_means_and_compute_the_finding():
    figure = charts.curves(table())
    assert len(figure.axes) == 2
    assert drawn(figure, "ours, preview").get_ydata().tolist() == [22.5, 23.5, 24.5]
    assert len(drawn(figure, "AVIF").get_xdata()) == 2
    title = figure.get_suptitle()
    assert "2 photos" in title and "-2 dB PSNR against VVC" in title
    assert "0.50 x the LPIPS-Alex of VVC" in title
    assert "ours, preview 22.5 at 0.029 to 24.5 at 0.069" in figure.get_label()
    ours, peer = (drawn(figure, name) for name in ("ours, preview", "VVC"))
    assert ours.get_linewidth() > peer.get_linewidth()
    assert "not compared" in charts.curves(table(), "psnr", rate=0.5).get_suptitle()
    figure = charts.curves(table(), "dists", ["preview", "vvc"], title="mine")
    assert len(figure.axes) == 1 and figure.get_suptitle() == "mine"
    assert "DISTS" in figure.axes[0].get_ylabel()
    for arguments in ({"metric": "fid"}, {"codecs": ["webp"]}):
        with pytest.raises(ArgumentError, match=r"fid|webp"):
            charts.curves(table(), **arguments)


def test_titles_say_whom_they_speak_of():
    rows = table() + [
        row("preview:effort=5", image, 0.045, 25, 0.1) for image in ("a.png", "b.png")
    ]
    best, named = (
        charts.curves(rows).get_suptitle(),
        charts.curves(rows, ours="preview").get_suptitle(),
    )
    assert best.count("preview, effort 5") == 1 and "0.20 x the LPIPS-Alex" in best
    assert "effort" not in named and "preview -2 dB PSNR" in named and "0.50 x" in named
    mixed = charts.curves(rows + [row("refined", i, 0.045, 40, 0.4) for i in ("a.png", "b.png")])
    assert "refined +" in mixed.get_suptitle() and "effort 5 0.20 x" in mixed.get_suptitle()


def test_published_points_are_open_and_named_and_in_no_finding():
    points = [{"method": "Other (official)", "bpp": 0.05, "psnr": 26.0, "lpips_alex": 0.01}]
    points += [{"method": "Far", "bpp": 0.05, "psnr": 2.0, "lpips_alex": None}]
    figure = charts.curves(table(), published=points)
    assert figure.get_suptitle() == charts.curves(table()).get_suptitle()
    open_ones = [li for li in figure.axes[0].get_lines() if li.get_markerfacecolor() == "none"]
    assert [li.get_ydata().tolist() for li in open_ones] == [[26.0]], "one is too far off"
    assert "Other" in [text.get_text() for text in figure.axes[0].texts]
    assert "published" in figure.legends[0].get_title().get_text()
    assert "Other" in figure.get_label()
    assert set(charts.SHOWN_PUBLISHED) <= {point["method"] for point in load_published()}


def test_wins_and_losses_are_sorted_and_counted():
    rows = table()
    (bad,) = (r for r in rows if (r["codec"], r["image"], r["rate"]) == ("preview", "b.png", 0.045))
    bad |= {"lpips_alex": 0.75, "dists": 0.2}
    figure = wins.wins_and_losses(rows, "preview", "vvc/auto", 0.045)
    title, axes = figure.get_suptitle(), figure.axes[0]
    assert "2 photos: ours, preview beats VVC on 1 (LPIPS-Alex), 2 (DISTS)" in title
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"], "the worst on top"
    assert drawn(figure, "LPIPS-Alex").get_xdata() == pytest.approx([0.5, 1.5])
    assert [text.get_text() for text in axes.texts] == ["our worst: 1.50"]
    few = wins.wins_and_losses(table(), "preview", "avif", 0.03)
    assert "1 photos left out" in few.get_label()
    for rate, metrics, said in ((0.5, ("dists",), "no photo"), (0.03, ("psnr",), "distances")):
        with pytest.raises(ArgumentError, match=said):
            wins.wins_and_losses(table(), "preview", "avif", rate, metrics)


def test_bd_area_is_over_the_common_qualities():
    anchor = Curve("vvc", "lpips_alex", (0.03, 0.06, 0.12), (0.6, 0.5, 0.4))
    test = Curve("preview", "lpips_alex", (0.02, 0.04, 0.08), (0.55, 0.42, 0.3))
    assert "from 0.55 to 0.4" in charts.bd_area(anchor, test, "a finding").get_label()
    with pytest.raises(ArgumentError, match="overlap"):
        charts.bd_area(anchor, Curve("preview", "lpips_alex", (0.02, 0.04), (0.2, 0.1)), "none")


# --------------------------------------------------------------------------------------------------
# Figures of files


def side(codec: str, picture: Image.Image, lpips: float) -> Side:
    return Side(
        codec, Coded(b"x" * 120, picture, 1.0, 1.0, 0.1, 0.1), Metrics(23.4, lpips_alex=lpips)
    )


def test_strip_says_bytes_and_quality(picture):
    sides = [side("preview", picture, 0.3), side("vvc", picture, 0.5)]
    sides.append(Side("jpeg", needed_bytes=5000))
    figure = strips.strip(picture, sides, {"a corner": (0, 0, 30, 20), "another": (30, 20, 60, 40)})
    assert len(figure.axes) == 12
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles[1] == "ours, preview\n120 B\n23.40 dB · LPIPS 0.300"
    assert titles[3] == "JPEG\ndoes not fit:\nneeds 5,000 B"
    assert "ours, preview has the lowest LPIPS-Alex, 0.300" in figure.get_suptitle()
    assert "a corner; another" in figure.get_label() and "needs 5,000 B" in figure.get_label()
    assert figures.render(figure).data


def test_section_shares_sum_to_the_files():
    files = {
        0.02: {"header": 14, "crc": 6, "hyper": 60, "structure": 400, "tone": 500},
        0.1: {"header": 14, "crc": 6, "hyper": 90, "structure": 1800, "tone": 3000},
    }
    figure = strips.section_shares(files)
    assert "Tone: 51% of the file at 0.02 bpp, 61% at 0.1" in figure.get_suptitle()
    assert "2.0% and 0.4%" in figure.get_suptitle()
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert sum(widths) == sum(sum(sections.values()) for sections in files.values())
    counts = (str(count) for sections in files.values() for count in sections.values())
    assert all(count in figure.get_label() for count in counts)


def test_side_by_side_stays_within_the_budget(tmp_path, picture):
    path = tmp_path / "photo.png"
    picture.save(path)
    fits, small = side_by_side(path, ["webp", "avif"], 0.45, metrics=("psnr",))
    assert fits.coded is not None and len(fits.coded.data) <= int(0.45 * 60 * 90 / 8)
    assert fits.metrics.psnr > 15 and math.isnan(fits.metrics.lpips_alex)
    assert fits.coded.image.size == picture.size
    (none,) = side_by_side(path, ["jpeg"], 0.05, metrics=("psnr",))
    assert none.coded is None and none.needed_bytes > 33 and math.isnan(none.metrics.psnr)
    assert small.codec == "avif"
    with pytest.raises(ArgumentError, match="no codec"):
        side_by_side(path, ["gif"], 0.1)
