"""Evaluation runs: what a table holds, going on after a kill, damaged files, workers, codecs that cannot run."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sketchfusion_lite
from sketchfusion_lite import datasets
from sketchfusion_lite.cli import app
from sketchfusion_lite.errors import (
    ArgumentError,
    DependencyMissing,
    ImageError,
    OutputError,
    ResultsError,
)
from sketchfusion_lite.evaluation import table
from sketchfusion_lite.evaluation.metrics import measure
from sketchfusion_lite.evaluation.operating import parse_codec, parse_rates
from sketchfusion_lite.evaluation.peers import PEERS
from sketchfusion_lite.evaluation.pictures import kept_sets
from sketchfusion_lite.evaluation.runner import evaluate
from sketchfusion_lite.evaluation.table import COLUMNS, read_table, write_table
from sketchfusion_lite.images import load_image, save_image, to_pil

TIMINGS = ("encode_s", "decode_s")
RATES = (0.9, 2.0)  # small pictures: headers weigh more


@pytest.fixture
def photos(tmp_path: Path, photo: torch.Tensor) -> Path:
    """Two pictures, one of odd size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    save_image(photo, folder / "a.png")
    save_image(photo[..., :65, :97], folder / "b.png")
    return folder


def quick(folder: Path, out: Path, codecs=("jpeg", "webp"), rates=RATES, **options) -> list[dict]:
    return evaluate(folder, codecs, rates, out, **{"metrics": ("psnr",), **options})


def untimed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def command(photos: Path, *options: object) -> object:
    arguments = ["evaluate", str(photos), *map(str, options)]
    return CliRunner().invoke(app, arguments)


# --------------------------------------------------------------------------------------------------
# Codecs and rates by name


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("preview", "preview"),
        (" refined:steps=4,realism=0.80 ", "refined:realism=0.8,steps=4"),
        ("AVIF/2", "avif/2"),
        ("vvc/1", "vvc"),
        ("heic/auto", "heic/auto"),
        ("zoo/2:model=mbt2018,metric=ms-ssim", "zoo/2:metric=ms-ssim,model=mbt2018"),
    ],
)
def test_specs_have_one_form(text, canonical):
    spec = parse_codec(text)
    assert spec.text == canonical and parse_codec(canonical) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jpg", r"no codec 'jpg'.*preview, refined, lines, jpeg, webp, avif.*vvc, pics, zoo"),
        ("avif/3", "/1, /2, /4, /8, /auto"),
        ("preview/2", "sizes are .* of: jpeg"),
        ("preview:steps=2", r"no option 'steps=2'. preview takes: effort \(int\)"),
        ("refined:steps=two", "steps=two is no int"),
        ("avif:speed", "avif takes: none"),
        ("zoo", "zoo:model="),
    ],
)
def test_wrong_specs_name_what_there_is(text, words):
    with pytest.raises(ArgumentError, match=words):
        parse_codec(text)


def test_rates():
    assert parse_rates("0.07, 0.03,0.07") == (0.03, 0.07)
    for wrong in ("", "a", "0", "-1", "inf", [None]):
        with pytest.raises(ArgumentError, match="rates"):
            parse_rates(wrong)


# --------------------------------------------------------------------------------------------------
# What a table holds


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_rows_are_what_was_measured(photos, tmp_path, name):
    out, seen = tmp_path / name, []
    rows = quick(photos, out, ["jpeg", "jpeg/2"], on_row=lambda *args: seen.append(args))
    assert read_table(out) == rows and [list(row) for row in rows] == [list(COLUMNS)] * 8
    assert [(done, total) for _, done, total in seen] == [(n, 8) for n in range(1, 9)]
    left = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")}
    assert left == {"photos", name}
    for row in rows:
        assert row["status"] == "ok" and row["message"] == ""
        assert row["bytes"] <= row["rate"] * row["width"] * row["height"] / 8
        assert row["bpp"] == row["bytes"] * 8 / (row["width"] * row["height"])
        assert row["scale"] == (0.5 if row["codec"] == "jpeg/2" else 1)
        assert row["encode_s"] > 0 and row["ms_ssim"] is None and row["metrics"] == "psnr"
        assert row["library"] == sketchfusion_lite.__version__ and "Pillow" in row["peer"]
    jpeg, row = PEERS["JPEG"], rows[0]
    data = jpeg.encode(to_pil(load_image(photos / "a.png")), int(row["quality"]))
    assert len(data) == row["bytes"]
    assert measure(photos / "a.png", jpeg.decode(data), ("psnr",)).psnr == row["psnr"]


def test_our_stages_share_a_stream(photos, tmp_path, shipped_codec):
    codecs = ["sketch", "preview", "refined:steps=1", "refined:steps=1,realism=0.0", "lines"]
    rows = quick(photos, tmp_path / "t.csv", codecs, [0.5])
    by_codec = {row["codec"]: row for row in rows if row["image"] == "a.png"}
    assert [row["status"] for row in by_codec.values()] == ["ok"] * 5
    stages = [by_codec[codec] for codec in ("sketch", "preview", "refined:steps=1")]
    assert len({(row["bytes"], row["encode_s"]) for row in stages}) == 1
    preview, faithful = by_codec["preview"], by_codec["refined:realism=0.0,steps=1"]
    assert preview["psnr"] > by_codec["sketch"]["psnr"] < faithful["psnr"]
    expected = shipped_codec.encode(photos / "a.png", bpp=0.5)
    assert preview["bytes"] == len(expected.data) and preview["quality"] == expected.quality
    assert preview["model"].startswith(f"{shipped_codec.model_id:#06x}-")
    assert by_codec["refined:steps=1"]["model"].startswith(preview["model"] + "-")
    assert by_codec["lines"]["model"] not in (preview["model"], "")


def test_what_does_not_fit_says_what_it_needs(photos, tmp_path, tiny_weights):
    rows = quick(photos, tmp_path / "t.csv", ["preview", "jpeg"], [0.003], weights=tiny_weights)
    for row in rows:
        assert row["status"] == "does not fit" and row["bytes"] is row["psnr"] is None
        assert row["needed_bytes"] > 1 and f"at least {row['needed_bytes']} bytes" in row["message"]


def test_codecs_that_cannot_run_are_rows(photos, tmp_path, monkeypatch, tiny_weights):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    out = tmp_path / "t.csv"
    codecs = ["jpegxl", "pics", "refined", "jpeg"]  # the shipped refiner is of another codec
    rows = quick(photos, out, codecs, [2.0], weights=tiny_weights)
    found = {row["codec"]: (row["status"], row["message"]) for row in rows}
    assert [status for status, _ in found.values()] == ["ok", *["not installed"] * 2, "failed"]
    assert "pip install 'sketchfusion-lite[peers]'" in found["jpegxl"][1]
    assert "pics:pipeline=FOLDER" in found["pics"][1]
    assert "trained for codec" in found["refined"][1]
    monkeypatch.undo()  # now it is installed
    if PEERS["JPEG XL"].available():
        again = quick(photos, out, ["jpegxl", "jpeg"], [2.0], weights=tiny_weights)
        assert {row["status"] for row in again if row["codec"] == "jpegxl"} == {"ok"}
        kept = [[row for row in table if row["codec"] == "jpeg"] for table in (rows, again)]
        assert kept[0] == kept[1], "finished: not measured again"


def test_wrong_arguments(photos, tmp_path, monkeypatch):
    out = tmp_path / "t.csv"
    for error, words, given in (
        (ArgumentError, r"unknown metrics \['fid'\]", {"metrics": ("fid",)}),
        (ArgumentError, "codecs: none", {"codecs": []}),
        (ArgumentError, "steps are from 1 to", {"codecs": ["refined:steps=99"]}),
        (ArgumentError, "effort", {"codecs": ["preview:effort=11"]}),
        (ArgumentError, "workers=0", {"workers": 0}),
        (ImageError, "no such folder", {"folder": tmp_path / "nowhere"}),
        (OutputError, "folder that exists", {"out": tmp_path / "no" / "t.csv"}),
    ):
        with pytest.raises(error, match=words):
            quick(**{"folder": photos, "out": out} | given)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyMissing, match=r"\.csv needs nothing.*\[peers\]"):
        quick(photos, tmp_path / "t.parquet")
    assert not out.exists()


# --------------------------------------------------------------------------------------------------
# Going on


def never(*row) -> None:
    pytest.fail("measured again")


def test_a_finished_table_grows_by_codecs_rates_and_metrics(photos, tmp_path):
    out, seen = tmp_path / "t.parquet", []
    first = quick(photos, out, ["jpeg"])
    rows = quick(photos, out, ["jpeg", "webp"], [*RATES, 3.0], on_row=lambda *a: seen.append(a))
    assert len(rows) == 2 * 2 * 3 and len(seen) == 12 - 4
    assert [row for row in rows if row["codec"] == "jpeg" and row["rate"] in RATES] == first
    assert quick(photos, out, ["webp"], [0.9], on_row=never) == rows
    both = ("psnr", "lpips_alex")
    again = quick(photos, out, ["jpeg"], RATES[1:], metrics=both)
    for old, new in zip(rows, again, strict=True):
        added = (new["codec"], new["rate"]) == ("jpeg", RATES[1])
        assert new["psnr"] == old["psnr"] and (new == old) == (not added)
        if added:
            assert new["lpips_alex"] is not None and new["metrics"] == "+".join(both)
    quick(photos, out, ["jpeg"], RATES, on_row=never)  # fewer metrics


def test_neither_workers_nor_their_deaths_matter(photos, tmp_path, tiny_weights):
    datasets.fetch("lpips")
    options = {"metrics": ("psnr", "lpips_alex"), "weights": tiny_weights}
    codecs, rates = ["preview", "jpeg2000", "webp/2"], (0.9, 1.2, 1.6, 2.0)
    killed = []

    def kill_a_worker(row, done, total):
        if not killed:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    more = {"pictures": tmp_path / "p", "workers": 2, "on_row": kill_a_worker}
    two = quick(photos, tmp_path / "two.csv", codecs, rates, **options, **more)
    one = quick(photos, tmp_path / "one.csv", codecs, rates, **options)
    assert killed and untimed(two) == untimed(one)
    assert {row["status"] for row in one} == {"ok"}
    assert len(list((tmp_path / "p").rglob("*.png"))) == len(one)


# --------------------------------------------------------------------------------------------------
# Damaged, foreign, or measured otherwise


def test_an_interrupt_keeps_what_is_finished_and_a_torn_row_is_dropped(photos, tmp_path):
    out, notes, seen = tmp_path / "t.csv", [], []
    journal = table.journal_path(out)

    def interrupt(row, done, total):
        if done == 4:
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        quick(photos, out, on_row=interrupt)
    assert torch.get_num_threads() == threads and not out.exists()
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:50])
    rows = quick(photos, out, report=notes.append, on_row=lambda *args: seen.append(args))
    assert len(rows) == 8 and len(seen) == 5
    assert all(json.loads(line) in rows for line in lines[:3]), "with its timings: kept"
    assert "cut off; it is measured again" in notes[0] and "going on, 3 rows" in notes[1]
    assert rows == read_table(out) and not journal.exists()
    journal.write_text(lines[0][:50] + "\n" + lines[1])
    with pytest.raises(ResultsError, match=r"t.csv.journal: damaged \(line 1 is unreadable\)"):
        quick(photos, out)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_damaged_and_foreign_tables_are_refused_and_kept(photos, tmp_path, name):
    out = tmp_path / name
    rows = quick(photos, out, ["jpeg"], [2.0])
    whole = out.read_bytes()
    write_table(out, [row | {"schema": 2} for row in rows])
    cases = [
        (whole[: len(whole) * 2 // 3], "damaged .*Restore it"),
        (b"\xffnonsense", "damaged|no table"),
        (out.read_bytes(), "schema 2, this release reads 1"),
    ]
    if name == "t.csv":
        cases += [
            (b"a,b\n1,2\n", "no results of this kind"),
            (whole.replace(b"ok", b"ok,"), "damaged .*Restore it"),
            (whole[:-1] + b",9\n", "too few or too many"),
        ]
    for data, words in cases:
        out.write_bytes(data)
        with pytest.raises(ResultsError, match=words):
            quick(photos, out, ["jpeg"], [2.0])
        assert out.read_bytes() == data
    with pytest.raises(ResultsError, match="cannot be read"):
        read_table(tmp_path / f"absent-{name}")


def test_other_settings_photos_or_weights_are_refused(photos, tmp_path, tiny_weights, photo):
    out = tmp_path / "t.csv"
    quick(photos, out, ["jpeg", "preview"], [2.0], weights=tiny_weights)
    with pytest.raises(ResultsError, match="have seed 0, this run 1"):
        quick(photos, out, ["jpeg"], [2.0], seed=1)
    with pytest.raises(ResultsError, match=r"a.png with preview have model"):
        quick(photos, out, ["preview"], [2.0])  # the shipped weights
    assert len(quick(photos, out, ["jpeg"], [2.0])) == 4, "of no concern to jpeg"
    save_image(1 - photo, photos / "a.png")
    with pytest.raises(ResultsError, match="have image_sha256"):
        quick(photos, out, ["jpeg"], [2.0])


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_photo_that_cannot_be_read_is_a_row(photos, tmp_path, photo, name):
    """Gone, damaged, or named in Latin-1: the others go on, and what was mended is measured."""
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / "damaged.png").write_bytes(b"no picture")
    latin = photos / os.fsdecode(b"b\xe4r.png")
    (photos / "b.png").rename(latin)
    out, options = tmp_path / name, {"pictures": tmp_path / "p"}
    rows = {row["image"]: row for row in quick(photos, out, ["jpeg"], [2.0], **options)}
    states = {name: row["status"] for name, row in rows.items()}
    failed = dict.fromkeys(("damaged.png", "gone.png"), "failed")
    assert states == {"a.png": "ok", "b\\udce4r.png": "ok"} | failed
    assert rows["gone.png"]["image_sha256"] == "" != rows["damaged.png"]["image_sha256"]
    assert all(f"{name}: " in rows[name]["message"] for name in failed)
    assert read_table(out) == list(rows.values())
    (photos / "gone.png").unlink()
    for mended in failed:
        save_image(photo, photos / mended)
    done: list = []
    options["on_row"] = lambda row, *_: done.append(row["image"])
    rows = quick(photos, out, ["jpeg"], [2.0], **options)
    assert {row["status"] for row in rows} == {"ok"}
    assert done == ["damaged.png", "gone.png"], "what was measured is not measured again"
    (found,) = kept_sets(photos, rows, tmp_path / "p")
    assert latin in [original for original, _ in found.pairs]


def test_a_photo_that_vanishes_meanwhile_is_a_row(photos, tmp_path):
    def vanish(row, done, total):
        (photos / "b.png").unlink(missing_ok=True)

    out = tmp_path / "t.csv"
    first, second = quick(photos, out, ["jpeg"], [2.0], on_row=vanish)
    assert first["status"] == "ok" and second["status"] == "failed"
    assert "b.png: cannot be read" in second["message"]
    result = command(photos, "--codec", "jpeg", "--rates", 2, "--metrics", "psnr", "--out", out)
    assert "has rows of photos that are not in the folder (b.png)" in result.stderr


def test_two_runs_do_not_share_a_table(photos, tmp_path):
    out = tmp_path / "t.csv"

    def second(*args):
        with pytest.raises(OutputError, match="another evaluation"):
            quick(photos, out)

    quick(photos, out, ["jpeg"], [2.0], on_row=second)


def test_infinite_and_missing_values_survive(tmp_path, photos):
    (row, *_) = quick(photos, tmp_path / "t.csv", ["jpeg"], [2.0])
    row = row | {"psnr": math.inf, "message": 'comma, "quote"\nline', "bytes": None}
    for name in ("x.csv", "x.parquet"):
        write_table(tmp_path / name, [row])
        assert read_table(tmp_path / name) == [row]


# --------------------------------------------------------------------------------------------------
# PICS, command line


def test_pics_with_a_pipeline_is_a_codec(photos, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from .test_priors import build_components

    parts = build_components(tmp_path / "parts", controlnet=True)
    kind = diffusers.StableDiffusionControlNetPipeline
    pipeline = kind(**parts, requires_safety_checker=False)
    pipeline.save_pretrained(tmp_path / "painter", safe_serialization=True)
    (photos / "a.txt").write_text("a square, and many words about it", encoding="utf-8")
    (photos / "b.txt").write_bytes(b"\xff")
    codec = f"pics:pipeline={tmp_path / 'painter'},steps=1"
    said, damaged = quick(photos, tmp_path / "t.csv", [codec], [2.0])
    assert said["status"] == "ok", said["message"]
    assert said["model"] == "painter" and "diffusers" in said["peer"]
    assert damaged["status"] == "failed" and "b.txt: no caption in UTF-8" in damaged["message"]


def test_command_line(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    out = tmp_path / "t.parquet"
    options = ["--codec", "jpeg/2", "--codec", "heic", "--rates", "0.1,2", "--metrics", "psnr"]
    result = command(photos, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "2/2" in result.stdout and "does not fit" in result.stdout
    assert result.stdout.endswith(f"{out}  8 rows\n")
    assert "skipped: heic: the codec HEIC needs" in result.stderr
    assert len(read_table(out)) == 8
    (photos / "c.png").write_bytes(b"no picture")
    result = command(photos, "--out", out, *options)
    assert result.exit_code == 40 and "error: c.png: jpeg/2 at 2 bpp" in result.stderr
    for wrong, status in (
        (["--codec", "jpg", "--out", out], 2),
        (["--codec", "jpeg", "--out", out, "--metrics", "fid"], 2),
        (["--codec", "jpeg", "--out", out, "--seed", "5", "--metrics", "psnr"], 41),
        (["--codec", "jpeg"], 2),
    ):
        result = command(photos, *wrong)
        assert result.exit_code == status and "rror" in result.stderr
