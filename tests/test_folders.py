"""Whole folders on workers: the same bytes, nothing written twice, settings never mixed, kills survived."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from sketchfusion_lite.cli import app
from sketchfusion_lite.codec import SketchFusionCodec, export_weights
from sketchfusion_lite.errors import WeightsError
from sketchfusion_lite.evaluation.runner import evaluate
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.folders import Manifest, Networks
from sketchfusion_lite.images import save_image

from .clusters import ROOT, Cluster, started_cluster, wait_for
from .conftest import build_tiny_model

ON_CPU = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A scheduler with two workers."""
    with started_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(2):
            cluster.add_worker()
        yield cluster


@pytest.fixture
def scheduler(cluster: Cluster) -> str:
    return cluster.address


@pytest.fixture
def photos(tmp_path: Path, photo: torch.Tensor) -> Path:
    """Five small pictures of several kinds and sizes."""
    pictures = {"a.png": photo, "b.jpg": photo.flip(-1), "c.webp": 1 - photo}
    pictures |= {"d.png": photo[..., :65, :97], "f.jpg": photo.mT}
    (tmp_path / "photos").mkdir()
    for name, picture in pictures.items():
        save_image(picture, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def encode(photos: Path, tiny_weights: Path):
    """``encode(OUT, options)`` of that folder at quality 2."""

    def run(out: Path, *options: object, quality: float = 2, weights: Path = tiny_weights):
        common = ("--quality", quality, "--weights", weights, *ON_CPU)
        return invoke("encode", photos, out, *common, *options)

    return run


@pytest.fixture(autouse=True)
def one_thread():
    """As on a worker: the plain codec that results are compared with."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def streams(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.skf"))}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What would change if a file was written again."""
    status = {path.name: path.stat() for path in folder.glob("*.skf")}
    return {name: (each.st_ino, each.st_mtime_ns) for name, each in status.items()}


def manifest(folder: Path) -> dict[str, dict]:
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    rows = {row["source"]: row for row in map(json.loads, lines)}
    assert len(rows) == len(lines), "one row a photo"
    return rows


# What is made


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_the_same_bytes_and_a_manifest_of_them(
    encode, photos, tmp_path, tiny_codec, where, scheduler
):
    out = tmp_path / "out"
    result = encode(out, *(("--scheduler", scheduler) if where == "cluster" else ()))
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    lines = sorted(result.stdout.splitlines()[:5])
    assert lines[0].startswith("a.png  144x96  ") and lines[4].startswith("f.jpg  96x144  ")
    rows = manifest(out)
    assert sorted(rows) == sorted(path.name for path in photos.iterdir())
    for name, row in rows.items():
        data = (out / row["output"]).read_bytes()
        assert data == tiny_codec.encode(photos / name, quality=2.0).data
        assert row["output"] == f"{Path(name).stem}.skf" and row["status"] == "ok"
        assert row["source_sha256"] == hashlib.sha256((photos / name).read_bytes()).hexdigest()
        assert row["output_sha256"] == hashlib.sha256(data).hexdigest()
        assert row["bytes"] == len(data)
        assert row["bpp"] == len(data) * 8 / (row["width"] * row["height"])
        assert row["settings"] == "quality=2 effort=0" and row["device"] == "cpu, float32"
        assert row["model"].startswith(f"{tiny_codec.model_id:#06x}-") and row["seconds"] > 0


def test_decoding_is_spread_too(encode, tmp_path, tiny_weights, scheduler):
    encode(small := tmp_path / "small")
    cut = small / "a.skf"
    cut.write_bytes(cut.read_bytes()[:-3])
    (small / "b.skf").write_bytes(b"GIF89a")
    common = ("--weights", tiny_weights, *ON_CPU)
    here = invoke("decode", small, tmp_path / "here", *common)
    there = invoke("decode", small, tmp_path / "there", *common, "--scheduler", scheduler)
    assert here.exit_code == there.exit_code == 11
    assert sorted(here.stderr.splitlines()) == sorted(there.stderr.splitlines())
    assert "a.skf: truncated" in there.stderr and "b.skf" in there.stderr
    pictures = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir()}
    assert sorted(pictures) == ["a.png", "c.png", "d.png", "f.png"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "there").iterdir()} == pictures


# Going on


def test_killed_and_resumed(photos, tmp_path, tiny_weights, tiny_codec):
    for i in range(35):
        shutil.copy(photos / "a.png", photos / f"g{i}.png")
    out = tmp_path / "out"
    common = ("encode", photos, out, "--bpp", "0.5", "--weights", tiny_weights, *ON_CPU)
    command = [sys.executable, "-m", "sketchfusion_lite.cli", *map(str, common), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(stamps(out)) >= 3 or process.poll() is not None)
    finally:
        process.kill()
        process.wait()
    kept = stamps(out)
    assert 3 <= len(kept) < 40
    result = invoke(*common, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"{len(kept)} of 40 are done" in result.stderr
    assert result.stdout.count("  quality ") == 40 - len(kept)
    assert kept.items() <= stamps(out).items(), "not written again"
    rows, found = manifest(out), streams(out)
    assert len(rows) == len(found) == 40 and {row["status"] for row in rows.values()} == {"ok"}
    assert not list(out.glob("*.tmp"))
    for path in photos.glob("[a-f].*"):
        assert found[path.stem] == tiny_codec.encode(path, bpp=0.5).data


def test_stopped_between_row_and_file(encode, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("sketchfusion_lite.cli.batch.atomic_write_bytes", interrupt)
        assert encode(out).exit_code == 130
    assert len(manifest(out)) == 1 and streams(out) == {}
    assert encode(out).exit_code == 0
    assert len(streams(out)) == len(manifest(out)) == 5


def test_what_is_done_is_left_alone_even_by_force(encode, photos, tmp_path, photo, scheduler):
    encode(out := tmp_path / "out")
    before = stamps(out)
    save_image(photo, photos / "new.png")
    for options in ((), ("--scheduler", scheduler), ("--force",)):
        result = encode(out, *options)
        assert result.exit_code == 0 and "are done, as" in result.stderr
        assert before.items() <= stamps(out).items()
    assert len(manifest(out)) == 6


def test_a_torn_last_row_is_encoded_again(encode, tmp_path):
    encode(out := tmp_path / "out")
    file = out / "manifest.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-40])
    (out / "f.skf").unlink()
    result = encode(out)
    assert result.exit_code == 0 and "its last row was cut off" in result.stderr
    assert "4 of 5 are done" in result.stderr and len(manifest(out)) == 5

    for damaged, words in (
        (whole.replace("{", "", 1), "line 1 is unreadable"),
        (whole.replace('"schema": 1', '"schema": 2'), "no manifest that this release reads"),
        (whole.replace('"quality"', '"qualities"'), "damaged (columns"),
        ("[]\n", "no manifest"),
    ):
        file.write_text(damaged)
        before = stamps(out)
        result = encode(out, "--force")
        assert result.exit_code == 41 and words in result.stderr
        assert stamps(out) == before and file.read_text() == damaged, "left as it was"


# Errors, and what is refused


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_a_bad_photo_costs_itself_alone(encode, photos, tmp_path, photo, where, scheduler):
    options = ("--scheduler", scheduler) if where == "cluster" else ()
    (photos / "c.webp").write_bytes(b"RIFF this is no picture")
    result = encode(out := tmp_path / "out", *options)
    assert result.exit_code == 3
    assert sorted(streams(out)) == ["a", "b", "d", "f"]
    assert result.stderr.count("\n") == 1 and f"error: {photos / 'c.webp'}: " in result.stderr
    row = manifest(out)["c.webp"]
    assert row["status"] == "failed" and "not a picture" in row["error"] and row["bytes"] is None
    before = stamps(out)
    save_image(photo, photos / "c.webp")
    result = encode(out, *options)
    assert result.exit_code == 0 and "4 of 5 are done" in result.stderr
    assert manifest(out)["c.webp"]["status"] == "ok" and before.items() <= stamps(out).items()


def test_other_settings_and_weights_are_refused_by_name(encode, tmp_path):
    encode(out := tmp_path / "out")
    other = tmp_path / "other.safetensors"
    export_weights(build_tiny_model(seed=1), other, {"recipe": "none"})
    before, first = stamps(out), streams(out)
    (out / "f.skf").unlink()
    for changed in ({"quality": 1}, {"weights": other}):
        result = encode(out, **changed)
        assert result.exit_code == 4 and "a.skf and 3 more: made with" in result.stderr
        assert "--force" in result.stderr and "--quality 2 --effort 0, model 0x" in result.stderr
        assert before.items() > stamps(out).items(), "not even what was missing: nothing is mixed"
    result = encode(out, "--force", quality=1)
    assert result.exit_code == 0
    assert len(streams(out)) == 5 and not set(streams(out).values()) & set(first.values())
    assert {row["settings"] for row in manifest(out).values()} == {"quality=1 effort=0"}


def test_what_has_changed_is_refused_by_name_and_the_others_go_on(encode, photos, tmp_path, photo):
    encode(out := tmp_path / "out")
    (out / "a.skf").write_bytes(b"mine")
    save_image(photo.flip(-1), photos / "d.png")
    (out / "f.skf").unlink()
    before = stamps(out)
    result = encode(out)
    assert result.exit_code == 4 and result.stderr.count("--force replaces") == 2
    assert "error: a.png: it or" in result.stderr and "error: d.png: it or" in result.stderr
    assert before.items() < stamps(out).items() and "f" in streams(out)
    assert encode(out, "--force").exit_code == 0
    changed = {name for name, stamp in stamps(out).items() if before.get(name) != stamp}
    assert changed == {"a.skf", "d.skf", "f.skf"}


def test_two_runs_do_not_share_a_folder(encode, tmp_path):
    (out := tmp_path / "out").mkdir()
    with Manifest.opened(out, "quality=2 effort=0", "0x0000", pytest.fail):
        result = encode(out)
    assert result.exit_code == 4 and "another run is writing it" in result.stderr


def test_hopeless_errors_stop_at_once(encode, photos, tmp_path, tiny_weights, scheduler):
    common = ("encode", photos, tmp_path / "out")
    absent = tmp_path / "absent.safetensors"
    for options, status, words in (
        (("--device", "abacus", "--scheduler", scheduler), 2, "--device abacus: cannot be used"),
        (("--weights", absent, "--workers", 2), 30, "absent.safetensors"),
        (("--workers", 2, "--scheduler", scheduler), 2, "exclude each other"),
        (("--scheduler", "nowhere"), 2, "neither an address"),
        (("--bpp", 0, "--scheduler", scheduler), 2, "--bpp 0"),
    ):
        result = invoke(*common, *options)
        assert result.exit_code == status, result.output
        assert words in result.stderr and result.stderr.count("error: ") == 1
        assert streams(tmp_path / "out") == {}
    result = invoke("encode", photos / "a.png", tmp_path / "a.skf", "--workers", 2)
    assert result.exit_code == 2 and "are for folders" in result.stderr


def test_other_or_new_weights_under_a_name_are_noticed(tmp_path, tiny_weights):
    """Workers outlive a run, and a refiner may be trained again meanwhile."""
    with pytest.raises(WeightsError, match=r"other weights under this name.*Copy them"):
        Networks(str(tiny_weights), "0" * 64, "cpu").codec()
    with pytest.raises(WeightsError, match=r"no such weights file\. Copy it"):
        Networks("/nowhere.safetensors", "0" * 64, "cpu").codec()
    weights, refiner = tmp_path / "w.safetensors", tmp_path / "refiner"
    refiner.mkdir()

    def codec() -> SketchFusionCodec:
        return Networks(str(weights), sha256_of(weights), "cpu", refiner=str(refiner)).codec()

    shutil.copy(tiny_weights, weights)
    first = codec()
    assert codec() is first
    export_weights(build_tiny_model(seed=1), weights, {"recipe": "none"})
    second = codec()
    assert second.model_id != first.model_id
    (refiner / "unet.safetensors").write_bytes(b"trained again")
    assert codec() is not second


# Evaluation on the workers of a scheduler


def untimed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("encode_s", "decode_s")} for row in rows]


def test_a_scheduler_measures_the_same(photos, tmp_path, tiny_weights, scheduler):
    (photos / "b.jpg").write_bytes(b"no picture")
    (photos / "f.jpg").unlink()
    seen = []

    def measured(name: str, **options) -> list[dict]:
        out, kept = tmp_path / f"{name}.csv", tmp_path / name
        options |= {"metrics": ("psnr",), "weights": tiny_weights, "pictures": kept}
        return evaluate(photos, ["preview", "sketch", "jpeg/2", "webp"], "0.2,2", out, **options)

    def kept(name: str) -> dict[Path, bytes]:
        folder = tmp_path / name
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}

    here = measured("h")
    there = measured("t", scheduler=scheduler, on_row=lambda *args: seen.append(args[1:]))
    assert untimed(there) == untimed(here)
    assert {row["status"] for row in there} == {"ok", "failed", "does not fit"}
    assert seen == [(n, len(there)) for n in range(1, len(there) + 1)]
    assert kept("t") == kept("h") and kept("t")


def test_an_evaluation_goes_on_on_a_scheduler(photos, tmp_path, scheduler):
    kept, out = [], tmp_path / "t.csv"
    common = ("--rates", "0.9,2", "--metrics", "psnr", "--out", out, "--scheduler", scheduler)
    command = ("evaluate", photos, "--codec", "jpeg", "--codec", "webp", *common)

    def interrupt(row, done, total):
        kept.append(row)
        if done == 3:
            raise KeyboardInterrupt

    what = (photos, ["jpeg", "webp"], "0.9,2", out)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*what, metrics=["psnr"], scheduler=scheduler, on_row=interrupt)
    assert invoke(*command, "--workers", 2).exit_code == 2
    result = invoke(*command)
    assert result.exit_code == 0 and result.stdout.endswith(f"{5 * 2 * 2} rows\n")
    rows = evaluate(*what, metrics=["psnr"])
    assert all(row in rows for row in kept), "kept with their timings: not measured again"


def test_a_killed_worker_costs_no_row(photos, tmp_path, cluster):
    arguments = (photos, ["webp", "jpeg2000"], "1,2,3")
    victim = cluster.add_worker()
    options = {"metrics": ["psnr"], "scheduler": cluster.address}
    rows = evaluate(*arguments, tmp_path / "t.csv", **options, on_row=lambda *_: victim.kill())
    assert victim.wait() == -signal.SIGKILL
    assert untimed(rows) == untimed(evaluate(*arguments, tmp_path / "h.csv", metrics=["psnr"]))
    assert len(rows) == 5 * 2 * 3
