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
from sketchfusion_lite.evaluation.curves import (
    Curve,
    bd_metric,
    bd_rate,
    bd_table,
    measured_curve,
    overlap,
    published_curve,
)
from sketchfusion_lite.evaluation.summary import equal_bytes, kindest, mean_rows
from sketchfusion_workbook.lessons import published
from sketchfusion_workbook.lessons.published import PUBLISHED, load_published

BPP = (0.03, 0.05, 0.08, 0.12)
PSNR = (22.0, 23.5, 25.0, 26.0)


def row(codec: str, image: str, rate: float, psnr: float, lpips: float, **more) -> dict:
    """A row of a table, as far as it matters here; 100x100 pixels, the budget used up."""
    return {
        "codec": codec,
        "image": image,
        "rate": rate,
        "width": 100,
        "height": 100,
        "status": "ok",
        "bytes": round(rate * 1250),
        "bpp": rate,
        "needed_bytes": None,
        "psnr": psnr,
        "ms_ssim": None,
        "lpips_alex": lpips,
        "lpips_vgg": None,
        "dists": None,
        "encode_s": 0.5,
        "decode_s": 0.25,
        **more,
    }


def too_large(codec: str, image: str, rate: float, needed: int) -> dict:
    missing = dict.fromkeys(("bytes", "bpp", "psnr", "lpips_alex", "encode_s", "decode_s"))
    return (
        row(codec, image, rate, 0, 0)
        | missing
        | {
            "status": "does not fit",
            "needed_bytes": needed,
        }
    )


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
    assert table["refined"]["psnr"] == 25 and table["refined"]["lpips_alex"] == 0.25
    assert table["refined"]["bytes"] == 50 and table["refined"]["needed_bpp"] is None
    assert (table["avif"]["fits"], table["avif"]["photos"]) == (1, 2)
    assert table["avif"]["psnr"] == 23 and table["avif"]["needed_bpp"] == 125 * 8 / 1e4
    assert table["webp"]["status"] == "does not fit" and table["webp"]["psnr"] is None
    assert table["webp"]["needed_bpp"] == 0.16 and table["refined"]["ms_ssim"] is None


def test_equal_bytes():
    table = {line["codec"]: line for line in equal_bytes(ROWS, "refined", rates=(0.04, 0.07))}
    assert list(table) == ["avif", "avif/2", "webp"]
    half = table["avif/2"]
    assert half["ratio"] == pytest.approx(0.25 / 0.30) and half["d_psnr"] == pytest.approx(-0.25)
    assert (half["wins"], half["psnr_wins"], half["compared"], half["note"]) == (1, 1, 2, "")
    native = table["avif"]
    assert native["compared"] == native["fits"] == 1, "means over the photos that both fit"
    assert native["ratio"] == pytest.approx(0.2 / 0.6) and native["psnr_ours"] == 24
    assert native["note"] == "does not fit on 1 of 2 photos" and native["needed_bpp"] == 0.1
    assert table["webp"]["ratio"] is None and table["webp"]["fits"] == 0
    assert table["webp"]["note"] == "does not fit on 2 of 2 photos"
    with pytest.raises(ArgumentError, match=r"no rows of 'vvc'.*avif"):
        equal_bytes(ROWS, "refined", ["vvc"])
    with pytest.raises(ArgumentError, match="a distance"):
        equal_bytes(ROWS, "refined", metric="psnr")


def test_a_mean_is_over_all_its_photos_or_undefined():
    rows = [r | {"ms_ssim": 0.9} if r["image"] == "a" else r for r in ROWS]
    line = {line["codec"]: line for line in mean_rows(rows)}["refined"]
    assert line["ms_ssim"] is None and line["note"] == "ms_ssim of 1 of 2 pictures"
    assert line["psnr"] == 25 and mean_rows(ROWS)[-1]["note"] == ""
    rows = [
        r | {"lpips_alex": None} if r["codec"] == "avif/2" and r["image"] == "b" else r
        for r in ROWS
    ]
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
    more = [row("avif", "b", 0.04, 24.0, 0.10), row("jpegxl", "a", 0.04, 24.0, 0.9)]
    rows = [r for r in ROWS if (r["codec"], r["image"]) != ("avif", "b")] + more
    rows.append(row("jpegxl", "b", 0.04, 24.0, 0.9))
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


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_known_distances(method):
    base = Curve("base", "psnr", BPP, PSNR)
    assert bd_rate(base, base, method) == pytest.approx(0, abs=1e-9)
    assert bd_metric(base, base, method) == pytest.approx(0, abs=1e-9)
    half = Curve("half", "psnr", tuple(b / 2 for b in BPP), PSNR)
    assert bd_rate(base, half, method) == pytest.approx(-50)
    assert bd_rate(half, base, method) == pytest.approx(100)
    better = Curve("better", "psnr", BPP, tuple(p + 1.5 for p in PSNR))
    assert bd_metric(base, better, method) == pytest.approx(1.5)
    assert bd_rate(base, better, method) < 0


def test_distances_of_a_distance_keep_their_sign():
    base = Curve("base", "lpips_alex", BPP, (0.5, 0.4, 0.3, 0.2))
    better = Curve("better", "lpips_alex", BPP, (0.4, 0.3, 0.2, 0.1))
    assert bd_metric(base, better) == pytest.approx(-0.1)
    assert bd_rate(base, better) < 0
    half = Curve("half", "lpips_alex", tuple(b / 2 for b in BPP), base.values)
    assert bd_rate(base, half) == pytest.approx(-50)
    assert overlap(base.quality, better.quality) == pytest.approx(0.2 / 0.4)


@pytest.mark.parametrize(
    ("shift", "rate", "words"),
    [
        (3.99, 10.0, "0.13% of their quality"),
        (3.0, 10.0, "14.29% of"),
        (0.1, 3.9, "0.92% of their log-rate"),
    ],
)
def test_a_number_that_rests_on_little_says_so(shift, rate, words):
    base = Curve("base", "psnr", BPP, PSNR)
    far = Curve("far", "psnr", tuple(b * rate for b in BPP), tuple(p + shift for p in PSNR))
    function = bd_metric if "rate" in words else bd_rate
    with pytest.warns(SketchFusionWarning, match=words):
        function(base, far)


@pytest.mark.parametrize("shift", [1.0, 3.99, 4.5])
def test_a_table_has_no_number_for_a_sliver(shift):
    rows = [
        row(codec, "a", bpp, psnr + more, 0.1, bpp=bpp)
        for codec, more in (("vvc", 0.0), ("avif", shift))
        for bpp, psnr in zip(BPP, PSNR, strict=True)
    ]
    (line,) = bd_table(rows, "vvc", metrics=("psnr",))
    assert (line["bd_rate"] is None) == (shift > 3) == ("overlap" in line["note"])
    assert line["bd_metric"] == pytest.approx(shift)


def test_an_infinite_value_is_named_and_never_in_a_curve():
    rows = [row("vvc", image, bpp, 20 + 100 * bpp, 0.1) for image in "ab" for bpp in BPP]
    rows[-1] |= {"psnr": float("inf")}
    with pytest.raises(ArgumentError, match=r"psnr of vvc at 0\.12 bpp is inf for b"):
        measured_curve(rows, "vvc", "psnr")
    assert mean_rows(rows)[-1]["psnr"] == float("inf")
    (line,) = equal_bytes(
        [*rows, *(r | {"codec": "refined"} for r in rows)], "refined", rates=(0.12,)
    )
    assert line["d_psnr"] is None and line["psnr_wins"] == 0


def test_what_is_no_curve():
    for values, words in (
        ((22.0, 21.0, 23.0, 24.0), "not better with every bit"),
        ((22.0, 23.0, 24.0, float("inf")), "not finite"),
        ((22.0,), "4 points, a curve needs two"),
    ):
        with pytest.raises(ArgumentError, match=words):
            Curve("x", "psnr", BPP, values)
    base = Curve("base", "psnr", BPP, PSNR)
    with pytest.raises(ArgumentError, match="do not overlap"):
        bd_rate(base, Curve("far", "psnr", BPP, (30.0, 31.0, 32.0, 33.0)))
    with pytest.raises(ArgumentError, match="choose one of pchip, akima"):
        bd_rate(base, base, "cubic")
    with pytest.raises(ArgumentError, match="other metrics"):
        bd_rate(base, Curve("x", "ms_ssim", BPP, (0.6, 0.7, 0.8, 0.9)))


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
        ("refined", "psnr"),
        ("webp", "psnr"),
        ("refined", "lpips_alex"),
        ("webp", "lpips_alex"),
    ]
    for line in table[::2]:
        assert line["bd_rate"] == pytest.approx(-50) and line["overlap"] == 1
        assert line["points"] == 4 and line["note"] == ""
    assert table[1]["bd_rate"] is None and "not every photo fits" in table[1]["note"]
    assert measured_curve(rows, "vvc", "psnr").photos == {"a", "b"}


def test_bjontegaard_is_named_when_absent(monkeypatch):
    base = Curve("base", "psnr", BPP, PSNR)
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(DependencyMissing, match=r"bjontegaard.*\[peers\]"):
        bd_rate(base, base)


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
    assert sorted((round(p["bpp"], 4), p["psnr"]) for p in pics) == [
        (0.0163, 11.66),
        (0.0281, 11.4),
    ]
    curve = published_curve(load_published("kodak_curves"), "VTM", "psnr")
    assert curve.source == "CompressAI: vtm.json" and curve.values[0] == pytest.approx(
        26.145, abs=1e-3
    )
    bpg = published_curve(load_published("kodak_curves"), "BPG", "psnr")
    assert -40 < bd_rate(bpg, curve) < -10, "VTM needs less than BPG"


def test_published_is_not_mixed_with_measured():
    points = load_published("kodak_curves")
    vtm = published_curve(points, "VTM", "psnr")
    ours = Curve("refined", "psnr", (0.1, 0.2, 0.4), (28.0, 30.0, 32.0))
    for pair in ((vtm, ours), (ours, vtm)):
        with pytest.raises(ArgumentError, match="one is published"):
            bd_rate(*pair)
        with pytest.raises(ArgumentError, match="one is published"):
            bd_metric(*pair)
    mixed = [row("vvc", "a", 0.1, 25, 0.1), row("vvc", "a", 0.2, 26, 0.1, source="CompressAI")]
    with pytest.raises(ArgumentError, match="published points among measured"):
        measured_curve(mixed, "vvc", "psnr")
    several = [{"method": "VTM", "bpp": b, "psnr": 20 + b, "source": str(b)} for b in (0.1, 0.2)]
    with pytest.raises(ArgumentError, match="several sources"):
        published_curve(several, "VTM", "psnr")


def test_missing_or_unsourced_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match="there are: kodak_perceptual"):
        load_published("clic")
    monkeypatch.setattr(published, "_folder", lambda: tmp_path)
    with pytest.raises(ResultsError, match=r"kodak_perceptual\.csv: missing"):
        load_published()
    (tmp_path / "kodak_perceptual.csv").write_text("method,bpp,psnr,source\nX,0.1,25,\n")
    with pytest.raises(ResultsError, match="names no source"):
        load_published()
