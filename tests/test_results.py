"""What the documents show of the result files: computed from rows, and drawn from the files that are there."""

from __future__ import annotations

import pytest

from benchmarks import figures, summaries
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.metrics import METRICS
from sketchfusion_lite.evaluation.operating import parse_codec
from sketchfusion_lite.evaluation.table import DOES_NOT_FIT, OK
from tests.test_evaluation_tables import row, too_large

OURS = "refined"


@pytest.fixture
def table(monkeypatch):
    """Put rows in the place of the result file."""

    def put(*rows):
        monkeypatch.setattr(summaries, "rows", lambda: tuple(rows))

    return put


def test_equal_bytes_says_ratio_difference_and_wins(table):
    measured = {(OURS, "a"): (23.0, 0.2), (OURS, "b"): (22.0, 0.3)}
    measured |= {("vvc/auto", "a"): (26.0, 0.4), ("vvc/auto", "b"): (24.0, 0.28)}
    others = [name for name in summaries.PEER_NAMES if name != "vvc"]
    table(
        *(row(*which, 0.045, *values) for which, values in measured.items()),
        *(too_large(f"{name}/auto", "a", 0.045, 80) for name in others),
    )

    def lines(*metric):
        return {next(iter(e.values())): e["0.045 bpp"] for e in summaries.equal(OURS, *metric)}

    assert lines()["VVC"] == "0.74 (-2.5 dB; 1/2)"  # 0.25 over 0.34
    assert lines()["JPEG"] == "does not fit; needs 0.064"  # 80 bytes for 100x100 pixels
    assert lines("dists")["VVC"] == "not measured"


def test_means_leave_out_what_does_not_fit(table):
    table(row("preview", "a", 0.03, 22.0, 0.3), too_large("preview", "b", 0.03, 500))
    (line,) = summaries.means(summaries.STAGES)
    assert (line["codec"], line["fits"], line["PSNR dB"]) == ("preview", "1/2", "22.00")
    assert line["DISTS"] == ""


def test_every_summary_is_made_of_the_committed_rows():
    for name, summary in summaries.SUMMARIES.items():
        lines = summary()
        assert lines and all(list(line) == list(lines[0]) for line in lines), name


def test_the_committed_rows_are_whole():
    """24 photos for every codec and rate, within the budget, of one model, with nothing left open."""
    rows = summaries.rows()
    assert {r["status"] for r in rows} <= {OK, DOES_NOT_FIT}
    points: dict[tuple, set[str]] = {}
    for r in rows:
        points.setdefault((r["codec"], r["rate"]), set()).add(r["image"])
        if r["status"] == OK:
            assert r["bytes"] * 8 <= r["rate"] * r["width"] * r["height"]
            assert all(r[name] is not None for name in METRICS[:3])
    assert all(len(images) == 24 for images in points.values())
    ours = {r["model"][:6] for r in rows if parse_codec(r["codec"]).name in ("preview", "refined")}
    assert len(ours) == 1


@pytest.mark.parametrize("name", figures.SOURCES)
def test_figures_are_of_what_is_there(name):
    """Run: python -m benchmarks.figures."""
    assert figures.source_of(figures.DOCS / name) == figures.SOURCES[name]()


def test_a_damaged_anchor_is_an_error(table):
    table(row("preview", "a", 0.03, 22.0, 0.3))
    with pytest.raises(ArgumentError, match="vvc/auto"):
        summaries.bd()
