"""Kills at random moments, full disks, no network: a file is whole or absent, and the message says what to do.

A short, seeded part of ``python -m tools.faults``, which has the long one; what belongs to one module alone is tested
beside it (kill -9 of folders, evaluations, sweeps and trainings; atomic writes; refused downloads).
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sketchfusion_lite import datasets, journal
from sketchfusion_lite.errors import DownloadError, OutputError, RecipeError
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import CodecRecipe, CuesRecipe
from tools.faults.killing import Reference, Tally, trial
from tools.faults.scenarios import Encode

from .shell import invoke

ROOT = Path(__file__).parents[1]

NO_NETWORK = {  # a proxy that refuses answers at once
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HF_HUB_OFFLINE": "1",
    "PIP_RETRIES": "0",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "SKETCHFUSION_MIRROR": "",
}


# kills --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
@pytest.mark.parametrize("name", ["encode", "evaluate"])
def test_killed_at_random_moments(name, tmp_path):
    results = tmp_path / "faults.csv"
    options = ("--tries", "10", "--hits", "2", "--seed", "0", "--results", str(results))
    done = subprocess.run(
        [sys.executable, "-m", "tools.faults", name, *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader(results.read_text().splitlines())
    assert row["command"] == name and int(row["hits"]) >= 2
    assert [row[fault] for fault in ("half_files", "not_resumable", "different")] == ["0"] * 3


class Sloppy(Encode):
    """A command that writes under the final name, and fails when started again."""

    def half_files(self, out: Path) -> list[str]:
        return ["x.skf"]

    def command(self, out: Path) -> list[str]:
        return ["info", str(out / "absent.skf")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_the_harness_notices_faults(tmp_path):
    tally = Tally("sloppy")
    reference = Reference({}, 0.1, 0.1)
    trial(Sloppy(tmp_path / "in"), tmp_path / "out", reference, random.Random(0), tally)
    assert tally.half_files and tally.not_resumable == 1
    assert any("absent.skf" in line for line in tally.faults)


def test_torn_logs_are_mended(photo_folder, tmp_path):
    """Of what a kill left of a row nothing stays, and a run that had ended repeats no row."""
    recipe = CuesRecipe(photos=[str(photo_folder)], hold_out=2, steps=2, phases=[[0.0, 48, 2]])
    TrainingRun(recipe, tmp_path).run()
    log, validation = tmp_path / "log.csv", tmp_path / "validation.csv"
    whole, lines = log.read_text(), len(validation.read_text().splitlines())
    for torn in ("1", "1,0.5", "1,0.5,7,8\n", "\n"):
        log.write_text(whole + torn)
        TrainingRun(recipe, tmp_path, resume=True)
        assert log.read_text() == whole
    log.write_text("")  # killed between making it and its first row
    TrainingRun(recipe, tmp_path, resume=True).run()
    assert len(validation.read_text().splitlines()) == lines == 2


def test_leftovers_of_killed_downloads_are_removed(tmp_path):
    (tmp_path / ".fetch-abc").mkdir()
    (tmp_path / ".fetch-abc" / "weights.pth").write_bytes(b"half")
    (tmp_path / "photo.png").write_bytes(b"whole")
    with datasets.exclusive(tmp_path) as scratch:
        found = sorted(p.name for p in tmp_path.iterdir())
        assert (
            found == sorted([scratch.name, ".lock", "photo.png"]) and scratch.name != ".fetch-abc"
        )


# full disk ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(limit: int):
    """Files cannot grow beyond ``limit`` bytes: as on a full disk, the first part is taken, then comes an error."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def assert_refused(result, file: str, folder: Path) -> None:
    """An error of ours, in one line that names the file and a remedy; no temporary file stays."""
    assert result.exit_code == OutputError.exit_code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert file in lines[0] and "cannot be written" in lines[0] and "space" in lines[0]
    assert not [p for p in folder.rglob(".*") if p.suffix in (".tmp", ".part")]


@pytest.fixture
def picture(tmp_path, photo) -> Path:
    path = tmp_path / "photo.png"
    to_pil(photo).save(path)
    return path


@pytest.mark.parametrize("command", ["encode", "decode", "export"])
def test_full_disk_leaves_the_old_file(
    command, picture, tmp_path, tiny_codec, tiny_model, tiny_weights
):
    stream = tiny_codec.encode(picture, bpp=1.0).save(tmp_path / "stream.skf")
    recipe = CodecRecipe(photos=["photos"], model=tiny_model.config.to_dict()).to_dict()
    state = {"recipe": recipe, "step": 1, "seconds": 1.0}
    torch.save({**state, "modules": {"model": tiny_model.state_dict()}}, tmp_path / "checkpoint.pt")
    weights = ("--weights", tiny_weights)
    source, name, *options = {
        "encode": (picture, "a.skf", "--bpp", 1, *weights),
        "decode": (stream, "a.png", *weights),
        "export": (tmp_path, "a.safetensors"),
    }[command]
    target = tmp_path / name
    target.write_bytes(b"old")
    with full_disk(100):
        result = invoke(command, source, target, "--force", *options)
    assert_refused(result, name, tmp_path)
    assert target.read_bytes() == b"old"


def test_full_disk_while_fetching(tmp_path, monkeypatch):
    content, home = bytes(range(256)) * 64, tmp_path / "home"
    entry = {"name": "a.png", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    one = dataclasses.replace(datasets.manifest("kodak"), files=({**entry, "urls": []},))
    monkeypatch.setattr(datasets, "manifest", lambda name: one)
    monkeypatch.setenv("SKETCHFUSION_HOME", str(home))
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path))
    (tmp_path / "a.png").write_bytes(content)
    with full_disk(5000):
        result = invoke("fetch", "kodak")
    assert_refused(result, str(home / "kodak"), home)
    assert "SKETCHFUSION_HOME" in result.stderr and visible(home) == []
    assert invoke("fetch", "kodak").exit_code == 0
    assert (home / "kodak" / "a.png").read_bytes() == content


def test_full_disk_tears_no_row_of_a_journal(tmp_path):
    """The system takes the part of a row that fits and reports no error."""
    path, written = tmp_path / "t.journal", 0
    with full_disk(1000), pytest.raises(OutputError, match=r"t\.journal: cannot be written.*space"):
        while True:
            journal.append(path, {"number": written, "text": "x" * 90})
            written += 1
    rows, torn = journal.read(path)
    assert len(rows) == written > 0 and not torn
    journal.append(path, {"number": -1})
    assert journal.read(path)[0][-1] == {"number": -1}


def test_full_disk_while_evaluating(picture, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "t.csv"
    photos.mkdir()
    picture.rename(photos / "photo.png")
    asked = ("evaluate", photos, "--codec", "jpeg", "--rates", "1.5,2,3", "--metrics", "psnr")
    with full_disk(900):
        result = invoke(*asked, "--out", out)
    assert_refused(result, "t.csv", tmp_path)
    assert not out.exists()
    assert len(journal.read(tmp_path / "t.csv.journal")[0]) in (1, 2), "kept for the next start"
    assert invoke(*asked, "--out", out).exit_code == 0
    assert len(out.read_text().splitlines()) == 1 + 3


def test_full_disk_while_training(photo_folder, tmp_path):
    recipe, folder = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(
        f'task = "cues"\nphotos = [{str(photo_folder)!r}]\nhold_out = 2\nsteps = 2\n'
        "phases = [[0.0, 48, 2]]\n"
    )
    with full_disk(4000):
        result = invoke("train", recipe, "--out", folder)
    assert_refused(result, "checkpoint.pt", folder)
    assert not (folder / "checkpoint.pt").exists()
    assert invoke("train", recipe, "--out", folder, "--resume").exit_code == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_full_disk_while_a_sweep_writes_its_table(tmp_path, kind):
    table = pytest.importorskip("sketchfusion_lite.sweeps.table")
    row = {name: "" if of is str else None for name, of in table.COLUMNS.items()}
    row |= {"run_id": "0" * 12, "variant": "a", "status": "ok", "schema": table.SCHEMA}
    path = tmp_path / f"results.{kind}"
    table.write_results(path, [row])
    old = path.read_bytes()
    with full_disk(100), pytest.raises(OutputError, match=rf"results\.{kind}: cannot be written"):
        table.write_results(path, [row, row | {"run_id": "1" * 12, "error": "x" * 200}])
    assert path.read_bytes() == old and visible(tmp_path) == [path.name]


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path, photo_folder):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file.run.*cannot be made.*another run folder"):
        TrainingRun(CuesRecipe(photos=[str(photo_folder)]), tmp_path / "file" / "run")


@pytest.fixture
def read_only(tmp_path):
    """A folder that not even a superuser can write to; skipped where it cannot be made."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a superuser needs the right to mount a read-only file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_read_only_folders_are_named(read_only, picture, tiny_weights, photo_folder, monkeypatch):
    monkeypatch.setenv("SKETCHFUSION_HOME", str(read_only / "cache"))
    tasks = {
        "a.skf": ("encode", picture, read_only / "a.skf", "--bpp", 1, "--weights", tiny_weights),
        "t.csv": (
            *("evaluate", photo_folder, "--codec", "jpeg", "--metrics", "psnr"),
            *("--out", read_only / "t.csv"),
        ),
        "run": ("train", "cues", "--photos", photo_folder, "--out", read_only / "run"),
        "cache": ("fetch", "kodak"),
    }
    for name, arguments in tasks.items():
        result = invoke(*arguments)
        assert result.exit_code == OutputError.exit_code, (name, result.output)
        assert f"read_only/{name}" in result.stderr and "Read-only" in result.stderr


# no network, wrong content ------------------------------------------------------------------------


@pytest.mark.parametrize("name", datasets.names())
def test_every_set_says_what_to_do_without_a_network(name, tmp_path, monkeypatch):
    for variable, value in NO_NETWORK.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path))
    result = invoke("fetch", name)
    assert result.exit_code == DownloadError.exit_code
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for part in (name, "Check the network", str(tmp_path / name), "SKETCHFUSION_MIRROR"):
        assert part in error
    assert visible(tmp_path) == []


def test_a_wrong_file_in_the_mirror_never_gets_its_name(tmp_path, monkeypatch):
    for variable, value in NO_NETWORK.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path))
    entry = datasets.manifest("kodak").files[0]
    (tmp_path / entry["name"]).write_bytes(bytes(entry["bytes"]))
    with pytest.raises(DownloadError, match="wrong checksum, refused"):
        datasets.fetch("kodak")
    assert visible(tmp_path / "home") == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half of a checkpoint", b"no checkpoint"])
def test_a_damaged_checkpoint_is_refused_by_name(photo_folder, tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    recipe = CuesRecipe(photos=[str(photo_folder)], hold_out=2, steps=2, phases=[[0.0, 48, 2]])
    with pytest.raises(RecipeError, match=r"checkpoint\.pt: damaged.*Move it away"):
        TrainingRun(recipe, tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == content
