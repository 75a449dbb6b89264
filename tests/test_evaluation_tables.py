"""Tables made of rows: means, equal bytes, BD-rates against hand-computed cases; published points."""

from __future__ import annotations

import sys

import pytest

from sketchfusion_lite.errors import (
    ArgumentError,
    DependencyMissing,
    ResultsError,
    SketchFusionWarning,
)
from sketchfusion_lite.evaluation.curves import Curve, bd_rate, bd_table, measured_curve, overlap
from sketchfusion_lite.evaluation.summary import equal_bytes, mean_rows
from sketchfusion_workbook.lessons import published
from sketchfusion_workbook.lessons.published import PUBLISHED, load_published
from sketchfusion_workbook.lessons.side_by_side import kindest

BPP = (0.03, 0.05, 0.08, 0.12)
PSNR = (22.0, 23.5, 25.0, 26.0)
BASE = Curve("base", "psnr", BPP, PSNR)
MEASURED = ("bytes", "bpp", "psnr", "ms_ssim", "lpips_alex", "lpips_vgg", "dists")


def row(codec: str, image: str, rate: float, psnr: float, lpips: float, **more) -> dict:
    """A row of a table, as far as it matters here; 100x100 pixels, the budget used up."""
    row = {"codec": codec, "image": image, "rate": rate, "width": 100, "height": 100}
    row |= {"status": "ok", "needed_bytes": None, "encode_s": 0.5, "decode_s": 0.25}
    row |= dict.fromkeys(MEASURED) | {"bytes": round(rate * 1250), "bpp": rate}
    return row | {"psnr": psnr, "lpips_alex": lpips, **more}


def too_large(codec: str, image: str, rate: float, needed: int) -> dict:
    missing = dict.fromkeys((*MEASURED, "encode_s", "decode_s"))
    missing |= {"status": "does not fit", "needed_bytes": needed}
    return row(codec, image, rate, 0, 0) | missing


def moved(name: str, rate: float = 1.0, psnr: float = 0.0) -> Curve:
    """The base, at other rates or qualities."""
    return Curve(name, "psnr", tuple(b * rate for b in BPP), tuple(p + psnr for p in PSNR))


ROWS = [
    row("refined", "a", 0.04, 24.0, 0.20),
    row("refined", "b", 0.04, 26.0, 0.30),
    row("avif/2", "a", 0.04, 25.0, 0.40),
    row("avif/2", "b", 0.04, 25.5, 0.20),
    row("avif", "a", 0.04, 23.0, 0.60),
    too_large("avif", "b", 0.04, 125),
    too_large("webp", "a", 0.04, 150),
    too_large("webp", "b", 0.04, 200),
]


def test_means_and_what_does_not_fit():
    table = {line["codec"]: line for line in mean_rows(ROWS)}
    ours, avif, webp = (table[codec] for codec in ("refined", "avif", "webp"))
    assert ours["psnr"] == 25 and ours["lpips_alex"] == 0.25 and ours["bytes"] == 50
    assert ours["needed_bpp"] is ours["ms_ssim"] is None and ours["note"] == ""
    assert (avif["fits"], avif["photos"]) == (1, 2)
    assert avif["psnr"] == 23 and avif["needed_bpp"] == 125 * 8 / 1e4
    assert webp["status"] == "does not fit" and webp["psnr"] is None
    assert webp["needed_bpp"] == 0.16


def test_equal_bytes():
    table = {line["codec"]: line for line in equal_bytes(ROWS, "refined", rates=(0.04, 0.07))}
    assert list(table) == ["avif", "avif/2", "webp"]
    native, half, webp = table.values()
    assert half["ratio"] == pytest.approx(0.25 / 0.30) and half["d_psnr"] == pytest.approx(-0.25)
    assert (half["wins"], half["psnr_wins"], half["compared"], half["note"]) == (1, 1, 2, "")
    assert native["compared"] == native["fits"] == 1, "means over the photos that both fit"
    assert native["ratio"] == pytest.approx(0.2 / 0.6) and native["psnr_ours"] == 24
    assert native["note"] == "does not fit on 1 of 2 photos" and native["needed_bpp"] == 0.1
    assert webp["ratio"] is None and webp["fits"] == 0
    assert webp["note"] == "does not fit on 2 of 2 photos"
    with pytest.raises(ArgumentError, match=r"no rows of 'vvc'.*avif"):
        equal_bytes(ROWS, "refined", ["vvc"])
    with pytest.raises(ArgumentError, match="a distance"):
        equal_bytes(ROWS, "refined", metric="psnr")


def test_a_mean_is_over_all_its_photos_or_undefined():
    rows = [r | {"ms_ssim": 0.9} if r["image"] == "a" else r for r in ROWS]
    line = {line["codec"]: line for line in mean_rows(rows)}["refined"]
    assert line["ms_ssim"] is None and line["note"] == "ms_ssim of 1 of 2 pictures"
    rows = [*ROWS[:3], ROWS[3] | {"lpips_alex": None}]
    (half,) = equal_bytes(rows, "refined", ["avif/2"], (0.04,))
    assert half["ratio"] is half["wins"] is half["lpips_alex_theirs"] is None
    assert "lpips_alex of 3 of 4" in half["note"] and half["d_psnr"] == pytest.approx(-0.25)
    assert kindest([half]) == []


def test_what_divides_by_zero_is_undefined_and_stays_in_the_table():
    rows = [r | {"lpips_alex": 0.0} if r["codec"] == "avif/2" else r for r in ROWS]
    (line,) = equal_bytes(rows, "refined", ["avif/2"], (0.04,))
    assert line["ratio"] is None and line["wins"] == 0
    assert kindest([line])[0]["codec"] == "avif/2", "a peer without any fault is no peer to hide"


@pytest.mark.parametrize("function", [mean_rows, lambda rows: equal_bytes(rows, "refined")])
def test_a_photo_counts_once(function):
    with pytest.raises(ArgumentError, match=r"two rows of a with avif at 0\.04 bpp"):
        function([*ROWS, ROWS[4]])


def test_the_size_that_suits_a_peer_best_counts():
    rows = [*ROWS[:5], row("avif", "b", 0.04, 24.0, 0.10)]
    rows += [row("jpegxl", image, 0.04, 24.0, 0.9) for image in "ab"]
    lines = equal_bytes(rows, "refined", rates=(0.04,))
    assert [(line["peer"], line["codec"]) for line in kindest(lines)] == [
        ("avif", "avif/2"),  # 0.30 on average, at full size 0.35
        ("jpegxl", "jpegxl"),
    ]
    without = [line for line in lines if line["codec"] != "avif/2"]
    assert kindest(without)[0]["codec"] == "avif"
    assert kindest(equal_bytes(ROWS, "refined", ["avif", "webp"])) == [], "photos were left out"


# --------------------------------------------------------------------------------------------------
# BD


def measured(codec: str, points, metric: str = "psnr") -> list[dict]:
    return [row(codec, "a", rate, 20, 0.1) | {metric: value} for rate, value in points]


def test_known_distances():
    assert bd_rate(BASE, BASE) == pytest.approx(0, abs=1e-9)
    half = moved("half", rate=0.5)
    assert bd_rate(BASE, half) == pytest.approx(-50)
    assert bd_rate(half, BASE) == pytest.approx(100)
    assert bd_rate(BASE, moved("better", psnr=1.5)) < 0


def test_distances_of_a_distance_keep_their_sign():
    base = Curve("base", "lpips_alex", BPP, (0.5, 0.4, 0.3, 0.2))
    better = Curve("better", "lpips_alex", BPP, (0.4, 0.3, 0.2, 0.1))
    assert bd_rate(base, better) < 0
    half = Curve("half", "lpips_alex", tuple(b / 2 for b in BPP), base.values)
    assert bd_rate(base, half) == pytest.approx(-50)
    assert overlap(base.quality, better.quality) == pytest.approx(0.2 / 0.4)
    rows = [
        *measured("base", zip(BPP, base.values, strict=True), "lpips_alex"),
        *measured("better", zip(BPP, better.values, strict=True), "lpips_alex"),
    ]
    (line,) = bd_table(rows, "base", metrics=("lpips_alex",))
    assert line["bd_metric"] == pytest.approx(-0.1) and line["bd_rate"] < 0


@pytest.mark.parametrize(("shift", "share"), [(3.99, "0.13%"), (3.0, "14.29%")])
def test_a_number_that_rests_on_little_says_so(shift, share):
    with pytest.warns(SketchFusionWarning, match=f"{share} of their quality") as caught:
        bd_rate(BASE, moved("far", 10.0, shift))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("shift", [1.0, 3.99, 4.5])
def test_a_table_has_no_number_for_a_sliver(shift):
    rows = [
        *measured("vvc", zip(BPP, PSNR, strict=True)),
        *measured("avif", zip(BPP, (psnr + shift for psnr in PSNR), strict=True)),
    ]
    (line,) = bd_table(rows, "vvc", metrics=("psnr",))
    assert (line["bd_rate"] is None) == (shift > 3) == ("overlap" in line["note"])
    assert line["bd_metric"] == pytest.approx(shift)


def test_curves_at_other_rates_have_a_bd_rate_alone():
    rows = measured("vvc", zip(BPP, PSNR, strict=True))
    rows += measured("avif", ((10 * b, psnr) for b, psnr in zip(BPP, PSNR, strict=True)))
    (line,) = bd_table(rows, "vvc", metrics=("psnr",))
    assert line["bd_rate"] == pytest.approx(900) and line["bd_metric"] is None


def test_an_infinite_value_is_named_and_never_in_a_curve():
    rows = [row("vvc", image, bpp, 20 + 100 * bpp, 0.1) for image in "ab" for bpp in BPP]
    rows[-1] |= {"psnr": float("inf")}
    with pytest.raises(ArgumentError, match=r"psnr of vvc at 0\.12 bpp is inf for b"):
        measured_curve(rows, "vvc", "psnr")
    assert mean_rows(rows)[-1]["psnr"] == float("inf")
    both = [*rows, *(r | {"codec": "refined"} for r in rows)]
    (line,) = equal_bytes(both, "refined", rates=(0.12,))
    assert line["d_psnr"] is None and line["psnr_wins"] == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((22.0, 21.0, 23.0, 24.0), "not better with every bit"),
        ((22.0, 23.0, 24.0, float("inf")), "not finite"),
        ((22.0,), "4 points, a curve needs two"),
    ],
)
def test_what_is_no_curve(values, words):
    with pytest.raises(ArgumentError, match=words):
        Curve("x", "psnr", BPP, values)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (moved("far", psnr=8), "do not overlap"),
        (Curve("x", "ms_ssim", BPP, (0.6, 0.7, 0.8, 0.9)), "other metrics"),
        (Curve("x", "psnr", BPP, PSNR, frozenset("a")), "other photos"),
    ],
)
def test_what_cannot_be_compared(other, words):
    for pair in ((BASE, other), (other, BASE)):
        with pytest.raises(ArgumentError, match=words):
            bd_rate(*pair)


def test_published_points_make_no_curve():
    mixed = [row("vvc", "a", 0.1, 25, 0.1), row("vvc", "a", 0.2, 26, 0.1, source="CompressAI")]
    with pytest.raises(ArgumentError, match="published points among measured"):
        measured_curve(mixed, "vvc", "psnr")


def test_tables_of_distances():
    rows = [
        row(codec, image, bpp, psnr, 1 - psnr / 100, bpp=bpp * share)
        for codec, share in (("vvc", 1.0), ("refined", 0.5), ("webp", 1.0))
        for image in "ab"
        for bpp, psnr in zip(BPP, PSNR, strict=True)
    ]
    unfit = [("webp", "b", rate) for rate in BPP[:3]]
    rows = [
        too_large(*key, 999) if (key := (r["codec"], r["image"], r["rate"])) in unfit else r
        for r in rows
    ]
    table = bd_table(rows, "vvc")
    assert [(line["codec"], line["metric"]) for line in table] == [
        (codec, metric) for metric in ("psnr", "lpips_alex") for codec in ("refined", "webp")
    ]
    for line in table[::2]:
        assert line["bd_rate"] == pytest.approx(-50) and line["overlap"] == 1
        assert line["points"] == 4 and line["note"] == ""
    assert table[1]["bd_rate"] is None and "not every photo fits" in table[1]["note"]
    assert measured_curve(rows, "vvc", "psnr").photos == {"a", "b"}


def test_bjontegaard_is_named_when_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(DependencyMissing, match=r"bjontegaard.*\[peers\]"):
        bd_rate(BASE, BASE)


# --------------------------------------------------------------------------------------------------
# Published


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_row_has_a_source(name):
    rows = load_published(name)
    assert len(rows) > 100
    for point in rows:
        assert point["source"] and point["method"]
        assert 0 < point["bpp"] < 12 and 10 < point["psnr"] < 60
        assert point["ms_ssim"] is None or 0 < point["ms_ssim"] <= 1


def test_known_published_points():
    points = load_published("kodak_perceptual")
    pics = [p for p in points if p["method"] == "Text-Sketch"]
    known = [(0.0163, 11.66), (0.0281, 11.4)]
    assert sorted((round(p["bpp"], 4), p["psnr"]) for p in pics) == known
    curves = {}
    for method in ("BPG", "VTM"):
        found = [p for p in load_published("kodak_curves") if p["method"] == method]
        bpp, psnr = zip(*sorted((p["bpp"], p["psnr"]) for p in found), strict=True)
        curves[method] = Curve(method, "psnr", bpp, psnr)
    assert found[0]["source"] == "CompressAI: vtm.json"
    assert curves["VTM"].values[0] == pytest.approx(26.145, abs=1e-3)
    assert -40 < bd_rate(curves["BPG"], curves["VTM"]) < -10, "VTM needs less than BPG"


def test_missing_or_unsourced_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match="there are: kodak_perceptual"):
        load_published("clic")
    monkeypatch.setattr(published, "_folder", lambda: tmp_path)
    with pytest.raises(ResultsError, match=r"kodak_perceptual\.csv: missing"):
        load_published()
    (tmp_path / "kodak_perceptual.csv").write_text("method,bpp,psnr,source\nX,0.1,25,\n")
    with pytest.raises(ResultsError, match="names no source"):
        load_published()
