"""Atomic writes: all or nothing, and errors that say what to do."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sketchfusion_lite.errors import ImageError, OutputError, SketchFusionWarning
from sketchfusion_lite.files import IMAGE_SUFFIXES, atomic_write_bytes, list_images, text_of


def test_writes_and_replaces(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    assert atomic_write_bytes(path, b"one") == path
    assert atomic_write_bytes(str(path), bytearray(b"second")) == path
    assert path.read_bytes() == b"second"
    assert atomic_write_bytes(path, memoryview(b"")).read_bytes() == b""
    monkeypatch.chdir(tmp_path)
    assert atomic_write_bytes("a.bin", b"x") == Path("a.bin")
    assert os.listdir(tmp_path) == ["a.bin"] and path.read_bytes() == b"x"
    long = tmp_path / ("n" * 251 + ".bin")
    assert atomic_write_bytes(long, b"x").read_bytes() == b"x", "as the file system allows"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = atomic_write_bytes(tmp_path / "a.bin", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("failing", ["replace", "fsync", "open"])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), (OutputError, r"a\.bin.*No space left")),
        (PermissionError(errno.EACCES, "Permission denied"), (OutputError, "Permission.*folder")),
        (KeyboardInterrupt(), (KeyboardInterrupt, "")),
    ],
)
def test_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path, monkeypatch, failing, raised, expected
):
    def fail(*_):
        raise raised

    path = atomic_write_bytes(tmp_path / "a.bin", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(expected[0], match=expected[1]):
            atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]


def test_folders_that_will_not_do(tmp_path):
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a.bin", "no does not exist"),
    ):
        with pytest.raises(OutputError, match=words):
            atomic_write_bytes(path, b"x")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_not_replaced(tmp_path):
    real = atomic_write_bytes(tmp_path / "real.bin", b"old")
    link = tmp_path / "link.bin"
    link.symlink_to(real)
    atomic_write_bytes(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX pipes")
def test_pipes_and_devices_are_written_to_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write_bytes(pipe, b"hello")
        assert os.read(reader, 99) == b"hello"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_list_images(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder.png").mkdir()
    for name in ("b.JPG", "a.png", "c.txt", ".hidden.png", "sub/d.webp", "e.avif"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_images(tmp_path)] == ["a.png", "b.JPG", "e.avif"]
    everywhere = [p.name for p in list_images(str(tmp_path), recursive=True)]
    assert everywhere == ["a.png", "b.JPG", "e.avif", "d.webp"]
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("e.dng", "file", "of no picture format that is read here"),
        ("notes.txt", "file", "of no picture format that is read here"),
        ("day2", "folder", "folders inside"),
        ("looks like.jpg", "folder", "folders inside"),
        (".hidden.jpg", "file", "hidden"),
        ("pipe.jpg", "pipe", "no plain file"),
        ("b\udce4r.raw", "file", "of no picture format that is read here"),
    ],
)
def test_what_a_listing_leaves_out_is_said(tmp_path, name, make, reason):
    (tmp_path / "a.jpg").write_bytes(b"")
    {"file": Path.touch, "folder": Path.mkdir, "pipe": os.mkfifo}[make](tmp_path / name)
    with pytest.warns(SketchFusionWarning) as said:
        assert [path.name for path in list_images(tmp_path)] == ["a.jpg"]
    (line,) = (str(each.message) for each in said)
    assert f"{text_of(name)} ({reason}" in line and line.encode() and "\n" not in line


@pytest.mark.parametrize("name", ["a.jfif", "b.jpe", "c.HEIC", "d.JPG", "gone.png"])
def test_photos_by_their_names(tmp_path, name, recwarn):
    """A link to nothing is listed, so that reading it fails by name."""
    (tmp_path / name).symlink_to("nowhere") if name == "gone.png" else (tmp_path / name).touch()
    (tmp_path / ".DS_Store").touch()
    assert [path.name for path in list_images(tmp_path)] == [name]
    assert not recwarn.list


def test_the_document_lists_all_suffixes():
    text = Path(__file__).parents[1].joinpath("docs", "folders.md").read_text("utf-8")
    (listed,) = re.findall(r"suffix: `([^`]+)`", text)
    assert frozenset(listed.split()) == IMAGE_SUFFIXES


def test_a_long_list_of_what_is_left_out_is_counted(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.mov").touch()
    with pytest.warns(SketchFusionWarning, match=r"0\.mov, 1\.mov, 2\.mov and 6 more \(of no"):
        list_images(tmp_path)


def test_a_pipe_behind_dev_stdout_receives_the_bytes():
    code = "from sketchfusion_lite.files import atomic_write_bytes as w; w('/dev/stdout', b'abc')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"abc"
