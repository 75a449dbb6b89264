"""Kills at random moments, full disks, no network: a file is whole or absent, and the message says what to do.

A short, seeded part of ``python -m tools.faults``, which has the long one; what belongs to one module alone is tested
beside it (kill -9 of folders, evaluations, sweeps and trainings; atomic writes; refused downloads).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sketchfusion_lite import datasets, downloads, journal
from sketchfusion_lite.cli import app
from sketchfusion_lite.errors import DownloadError, OutputError, RecipeError
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import Recipe
from tools.faults.killing import Reference, Tally, measure, trial
from tools.faults.scenarios import Encode, Evaluate

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
@pytest.mark.parametrize("kind", [Encode, Evaluate])
def test_killed_at_random_moments(kind, tmp_path):
    scenario, tally = kind(tmp_path / "inputs"), Tally(kind.name)
    reference = measure(scenario, tmp_path / "reference")
    rng = random.Random(0)
    for number in range(2):
        trial(scenario, tmp_path / f"try{number}", reference, rng, tally)
    assert tally.faults == [] and tally.hits > 0


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
    recipe = Recipe(
        task="cues", photos=[str(photo_folder)], hold_out=2, steps=2, phases=[[0.0, 48, 2]]
    )
    TrainingRun(recipe, tmp_path).run()
    log, validation = tmp_path / "log.csv", tmp_path / "validation.csv"
    whole, lines = log.read_text(), len(validation.read_text().splitlines())
    for torn in ("1", "1,0.5", "1,0.5,7\n", "\n"):
        log.write_text(whole + torn)
        TrainingRun(recipe, tmp_path, resume=True)
        assert log.read_text() == whole
    log.write_text("")  # killed between making it and its first row
    TrainingRun(recipe, tmp_path, resume=True).run()
    assert len(validation.read_text().splitlines()) == lines == 2


def test_leftovers_of_killed_downloads_are_removed(tmp_path):
    (tmp_path / ".photo.png.0123.part").write_bytes(b"half")
    (tmp_path / ".fetch-abc").mkdir()
    (tmp_path / ".fetch-abc" / "weights.pth").write_bytes(b"half")
    (tmp_path / "photo.png").write_bytes(b"whole")
    with downloads.exclusive(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "photo.png"]


# full disk ----------------------------------------------------------------------------------------

# Writing past the limit fails as on a full disk: the first part is taken, then comes an error.
_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from sketchfusion_lite.cli import app
{prepare}
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.argv = ["sketchfusion", *sys.argv[1:]]
app()
"""
needs_limits = pytest.mark.skipif(
    not hasattr(signal, "SIGXFSZ"), reason="limits of file sizes are POSIX"
)


def on_a_full_disk(*arguments: object, limit: int, prepare: str = "", **environment: str):
    return subprocess.run(
        [sys.executable, "-c", _LIMITED.format(limit=limit, prepare=prepare), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def refused(done: subprocess.CompletedProcess, file: str) -> None:
    """An error of ours, in one line that names the file and a remedy."""
    assert done.returncode == OutputError.exit_code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    assert file in lines[0] and "cannot be written" in lines[0] and "space" in lines[0]


@pytest.fixture
def picture(tmp_path, photo) -> Path:
    path = tmp_path / "photo.png"
    to_pil(photo).save(path)
    return path


@needs_limits
def test_full_disk_while_encoding(picture, tmp_path, tiny_weights):
    target = tmp_path / "photo.skf"
    target.write_bytes(b"old")
    done = on_a_full_disk(
        *("encode", picture, target, "--force", "--bpp", 1, "--weights", tiny_weights), limit=100
    )
    refused(done, "photo.skf")
    assert target.read_bytes() == b"old" and visible(tmp_path) == ["photo.png", "photo.skf"]
    assert not list(tmp_path.glob(".*.tmp"))


@needs_limits
def test_full_disk_while_decoding_and_exporting(tmp_path, tiny_codec, tiny_weights, photo):
    """One process for both, since its start is what takes time."""
    stream, target = tmp_path / "a.skf", tmp_path / "a.png"
    stream.write_bytes(tiny_codec.encode(photo, bpp=1.0).data)
    target.write_bytes(b"old")
    done = on_a_full_disk(
        *("decode", stream, target, "--force", "--weights", tiny_weights), limit=200
    )
    refused(done, "a.png")
    assert target.read_bytes() == b"old" and not list(tmp_path.glob(".*.tmp"))


@needs_limits
def test_full_disk_while_fetching(tmp_path, monkeypatch):
    source, home = tmp_path / "mirror" / "kodak", tmp_path / "home"
    source.mkdir(parents=True)
    content = bytes(range(256)) * 64
    entry = datasets.manifest("kodak").files[0]
    (source / entry["name"]).write_bytes(content)
    prepare = (
        "import hashlib, sketchfusion_lite.datasets as d; m = d.manifest('kodak'); f = m.files[0]; "
        f"f.update(bytes={len(content)}, sha256=hashlib.sha256(bytes(range(256)) * 64).hexdigest()); "
        "object.__setattr__(m, 'files', (f,))"
    )
    there = {"SKETCHFUSION_HOME": str(home), "SKETCHFUSION_MIRROR": str(tmp_path / "mirror")}
    done = on_a_full_disk("fetch", "kodak", limit=5000, prepare=prepare, **there)
    refused(done, str(home / "kodak"))
    assert "SKETCHFUSION_HOME" in done.stderr
    assert [p.name for p in (home / "kodak").iterdir()] == [".lock"]
    done = on_a_full_disk("fetch", "kodak", limit=50_000, prepare=prepare, **there)
    assert done.returncode == 0, done.stderr
    assert (home / "kodak" / entry["name"]).read_bytes() == content


_ROWS = """
import resource, signal, sys
from pathlib import Path
from sketchfusion_lite import errors, journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path, written = Path(sys.argv[1]), 0
try:
    while True:
        journal.append(path, {"number": written, "text": "x" * 90})
        written += 1
except errors.OutputError as error:
    print(written, error)
"""


@needs_limits
def test_full_disk_tears_no_row_of_a_journal(tmp_path):
    """The system takes the part of a row that fits and reports no error."""
    path = tmp_path / "t.journal"
    done = subprocess.run(
        [sys.executable, "-c", _ROWS, path], capture_output=True, text=True, cwd=ROOT, check=True
    )
    written, _, message = done.stdout.partition(" ")
    assert "t.journal: cannot be written" in message and "space" in message
    rows, torn = journal.read(path)
    assert len(rows) == int(written) > 0 and not torn
    journal.append(path, {"number": -1})
    assert journal.read(path)[0][-1] == {"number": -1}


@needs_limits
def test_full_disk_while_evaluating(picture, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "t.csv"
    photos.mkdir()
    picture.rename(photos / "photo.png")
    asked = ("evaluate", photos, "--codec", "jpeg", "--rates", "1.5,2,3", "--metrics", "psnr")
    done = on_a_full_disk(*asked, "--out", out, limit=900)
    refused(done, "t.")
    assert not out.exists()
    kept = [json.loads(line) for line in (tmp_path / "t.csv.journal").read_bytes().splitlines()]
    result = CliRunner().invoke(app, [*map(str, asked), "--out", str(out)])
    assert result.exit_code == 0 and len(out.read_text().splitlines()) == 1 + 3
    assert len(kept) < 3, "the limit was reached before the end"


@needs_limits
def test_full_disk_while_training(photo_folder, tmp_path):
    recipe, run = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(
        f'task = "cues"\nphotos = [{str(photo_folder)!r}]\nhold_out = 2\nsteps = 2\n'
        "phases = [[0.0, 48, 2]]\n"
    )
    done = on_a_full_disk("train", recipe, "--out", run, limit=4000)
    refused(done, "checkpoint.pt")
    assert not (run / "checkpoint.pt").exists() and not list(run.glob(".*.tmp"))


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path, photo_folder):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file.run.*cannot be made.*--out"):
        TrainingRun(Recipe(task="cues", photos=[str(photo_folder)]), tmp_path / "file" / "run")


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
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == OutputError.exit_code, (name, result.output)
        assert f"read_only/{name}" in result.stderr and "Read-only" in result.stderr


# no network, wrong content ------------------------------------------------------------------------


@pytest.mark.parametrize("name", datasets.names())
def test_every_set_says_what_to_do_without_a_network(name, tmp_path, monkeypatch):
    for variable, value in NO_NETWORK.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["fetch", name])
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
    recipe = Recipe(
        task="cues", photos=[str(photo_folder)], hold_out=2, steps=2, phases=[[0.0, 48, 2]]
    )
    with pytest.raises(RecipeError, match=r"checkpoint\.pt: damaged.*Move it away"):
        TrainingRun(recipe, tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == content
