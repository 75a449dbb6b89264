"""FID and KID: patches counted by hand, distances against other formulas, what is said when package or weights lack."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sketchfusion_lite import datasets
from sketchfusion_lite.cli import app
from sketchfusion_lite.datasets import Manifest
from sketchfusion_lite.errors import (
    ArgumentError,
    DependencyMissing,
    DownloadError,
    ImageError,
    OutputError,
)
from sketchfusion_lite.evaluation import pictures, realism
from sketchfusion_lite.evaluation.adapters import Picture, Workbench
from sketchfusion_lite.evaluation.metrics import psnr
from sketchfusion_lite.evaluation.operating import parse_codec
from sketchfusion_lite.evaluation.pictures import PictureSet, kept_sets, sets_of_folder
from sketchfusion_lite.evaluation.realism import cut_patches, patch_fid
from sketchfusion_lite.evaluation.runner import evaluate
from sketchfusion_lite.images import load_image, save_image, to_pil

torch_fidelity = pytest.importorskip("torch_fidelity", reason="install the extra 'fid'")


@pytest.fixture
def home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network either."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return home


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two coloured pictures that give 8 and 2 patches."""
    (tmp_path / "photos").mkdir()
    for number, (name, size) in enumerate({"a": (512, 768), "b": (390, 400)}.items()):
        coarse = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(number))
        picture = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
        save_image(picture, tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


@pytest.fixture
def small(tmp_path: Path, photo: torch.Tensor) -> Path:
    """Two pictures smaller than a patch, quick to code."""
    (tmp_path / "photos").mkdir()
    save_image(photo, tmp_path / "photos" / "a.png")
    save_image(photo[..., :65, :97], tmp_path / "photos" / "b.png")
    return tmp_path / "photos"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def tiny_network(dimensions: int = 6):
    """A random stand-in for Inception-v3: mean colours of 4x4 areas, mixed and bent."""
    weight = torch.randn(48, dimensions, generator=torch.Generator().manual_seed(5))

    def features(patches: torch.Tensor) -> torch.Tensor:
        assert patches.dtype == torch.uint8 and patches.shape[1:] == (3, 256, 256)
        areas = torch.nn.functional.avg_pool2d(patches.float() / 255, 64).flatten(1)
        return (areas @ weight).tanh()

    return features


def blurred(folder: Path) -> list[Image.Image]:
    return [
        Image.open(path).resize((20, 12)).resize(Image.open(path).size)
        for path in sorted(folder.glob("*.png"))
    ]


# patches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [
        (768, 512, 6 + 2),  # Kodak: 192 patches of 24 photos
        (383, 383, 1),  # the shifted grid has 255 pixels left
        (2040, 1356, 7 * 5 + 7 * 4),
        (255, 3000, 0),
    ],
)
def test_number_of_patches(width: int, height: int, count: int) -> None:
    patches = cut_patches(np.zeros((height, width, 3), np.uint8))
    assert patches.shape == (count, 3, 256, 256) and patches.dtype == torch.uint8


def test_patches_lie_where_hific_cuts_them() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (17, 25, 3), dtype=np.uint8)
    corners = [(y, x) for y in (0, 8) for x in (0, 8, 16)] + [(4, 4), (4, 12)]
    expected = [pixels[y : y + 8, x : x + 8].transpose(2, 0, 1) for y, x in corners]
    assert np.array_equal(cut_patches(pixels, 8).numpy(), np.stack(expected))


# distances --------------------------------------------------------------------------------------


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """By the definition; the trace of a matrix root is the sum of the eigenvalues' roots."""
    difference = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(one @ two).real.clip(0))
    return float(difference @ difference + np.trace(one + two) - 2 * roots.sum())


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared maximum mean discrepancy, kernel (x.y / D + 1)^3, by loops; no patch meets itself or its fellow."""

    def mean(one: np.ndarray, two: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(one)) for j in range(len(two)) if i != j]
        return float(np.mean([(one[i] @ two[j] / one.shape[1] + 1) ** 3 for i, j in pairs]))

    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


def seen(pictures: list, network) -> np.ndarray:
    return np.concatenate([network(cut_patches(each)).double().numpy() for each in pictures])


@pytest.mark.parametrize("dimensions", [6, 100], ids=["plain", "fewer patches than features"])
def test_fid_is_the_frechet_distance(photos: Path, dimensions: int) -> None:
    originals, decoded = sorted(photos.glob("*.png")), blurred(photos)
    network = tiny_network(dimensions)
    found = patch_fid(originals, decoded, network=network)
    expected = frechet(seen(originals, network), seen(decoded, network))
    assert found.fid == pytest.approx(expected, rel=1e-4) and expected > 1e-3
    assert (found.pictures, found.patches) == (2, 10)
    same = patch_fid(originals, originals, network=network)
    assert same.fid == pytest.approx(0, abs=1e-4)
    assert same.kid == pytest.approx(0, abs=1e-12) and found.kid > 0


def test_kid_is_the_mean_over_subsets_and_has_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(400, 8, 6, generator=generator, dtype=torch.float64)
    second = 0.8 * first + 0.6 * torch.randn(400, 8, 6, generator=generator, dtype=torch.float64)
    monkeypatch.setattr(realism, "KID_SUBSETS", 4)
    few = np.array([realism._between([a], [b]).kid for a, b in zip(first, second, strict=True)])
    # Pairs of one distribution that resemble each other: the mean over many small sets is 0, not below.
    assert abs(few.mean()) < 4 * few.std() / np.sqrt(len(few))
    monkeypatch.setattr(realism, "KID_SUBSETS", 2000)
    one, two = first[:3].reshape(24, 6), second[:3].reshape(24, 6) + 0.5
    found = realism._between([one], [two])
    # The mean over many halves comes close to that of the whole, whose estimate has no bias either.
    whole = kernel_distance(one.numpy(), two.numpy())
    assert found.kid == pytest.approx(whole, abs=5 * found.kid_std / np.sqrt(2000))


@pytest.mark.parametrize(
    ("originals", "decoded", "words"),
    [
        ("ab", "a", "2 originals, 1 decoded"),
        ("ab", "aa", "picture 2: 8 patches, its original has 2"),
        ("b", "b", r"1 pictures give 2 patches.*need 4"),
        ("", "", "0 pictures"),
    ],
)
def test_what_cannot_be_compared(photos: Path, originals: str, decoded: str, words: str) -> None:
    sets = [[photos / f"{name}.png" for name in each] for each in (originals, decoded)]
    with pytest.raises(ArgumentError, match=words):
        patch_fid(*sets, network=tiny_network())


# package and weights ----------------------------------------------------------------------------


def test_absent_package_is_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    for call in (realism.inception, lambda: patch_fid([], [], network=tiny_network())):
        with pytest.raises(DependencyMissing, match=r"torch-fidelity.*\[fid\]"):
            call()
    result = invoke("fid", photos, photos)
    assert result.exit_code == DependencyMissing.exit_code and "[fid]" in result.stderr


@pytest.fixture
def pinned(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes an object the pinned weights, as torch saves it in the old format, which the original ones have."""

    def pin(weights: object) -> None:
        buffer = io.BytesIO()
        torch.save(weights, buffer, _use_new_zipfile_serialization=False)
        data = buffer.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        entry = {"name": "inception.pth", "bytes": len(data), "sha256": sha256, "urls": []}
        chosen = Manifest("inception", "a test", "CC0", "here", (entry,))
        monkeypatch.setattr(datasets, "manifest", lambda name: chosen)
        (tmp_path / "inception.pth").write_bytes(data)
        monkeypatch.setenv("SKETCHFUSION_MIRROR", str(tmp_path))

    return pin


class Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("exit 1",)


def test_no_foreign_pickle_is_run(pinned) -> None:
    pinned({"weight": Harmful()})
    with pytest.raises(Exception, match="Weights only load failed"):
        realism.inception()


@pytest.mark.slow
def test_inception_is_the_network_of_the_package(pinned, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights."""
    kind = torch_fidelity.FeatureExtractorInceptionV3
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with monkeypatch.context() as patched:
        patched.setattr(kind, "load_state_dict", lambda self, state: None)
        plain = kind("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    pinned(plain.state_dict())
    patches = torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    found = realism.inception()(patches)
    assert found.shape == (1, 2048)
    assert torch.allclose(found, plain(patches)[0], atol=1e-5)


# kept pictures ----------------------------------------------------------------------------------

RATE = 2.0


def run(
    photos: Path, out: Path, pictures: Path | None, codecs=("jpeg", "webp/2"), **options
) -> list[dict]:
    settings = {"metrics": ("psnr",), "pictures": pictures, **options}
    return evaluate(photos, codecs, [RATE], out, **settings)


def test_kept_pictures_are_what_was_measured(small: Path, tmp_path: Path) -> None:
    rows = run(small, tmp_path / "t.csv", tmp_path / "kept")
    found = {p.relative_to(tmp_path / "kept").as_posix() for p in tmp_path.rglob("kept/*/*/*")}
    assert found == {f"{codec}/2/{name}.png" for codec in ("jpeg", "webp_2") for name in "ab"}
    bench = Workbench()
    for row in rows:
        photo = Picture(small / row["image"])
        coded = bench.open(parse_codec(row["codec"])).at_most(photo, int(RATE * photo.pixels / 8))
        path = pictures.picture_path(tmp_path / "kept", row)
        with Image.open(path) as kept:
            assert kept.format == "PNG" and np.array_equal(kept, coded.image)
        assert psnr(path, photo.path) == row["psnr"]
        assert pictures.holds(tmp_path / "kept", row)
        assert not pictures.holds(tmp_path / "kept", row | {"model": "another"})


def test_pictures_can_be_had_later_and_lose_no_metric(small: Path, tmp_path: Path) -> None:
    out, kept, measured = tmp_path / "t.csv", tmp_path / "kept", []
    first = run(small, out, None, metrics=("psnr", "ms_ssim"))
    rows = run(small, out, kept, on_row=lambda *each: measured.append(each))
    assert len(measured) == 4 and {row["metrics"] for row in rows} == {"psnr+ms_ssim"}
    assert [row["ms_ssim"] for row in rows] == [row["ms_ssim"] for row in first]
    run(small, out, kept, on_row=lambda *each: pytest.fail("all pictures are there"))
    save_image(load_image(small / "a.png"), pictures.picture_path(kept, rows[0]))  # of no row
    run(small, out, kept, on_row=lambda *each: measured.append(each))
    assert len(measured) == 5 and pictures.holds(kept, rows[0])

    old = pictures.picture_path(kept, rows[0] | {"rate": 0.001})
    old.parent.mkdir()
    old.write_bytes(b"of an earlier run")
    (row, _) = evaluate(
        small, ["jpeg"], [0.001], tmp_path / "u.csv", metrics=["psnr"], pictures=kept
    )
    assert row["status"] == "does not fit" and not old.exists()
    assert kept_sets(small, [row], kept) == []


def test_names_of_kept_pictures(small: Path, tmp_path: Path) -> None:
    def path(codec: str, rate: float = 0.045, image: str = "x.jpg") -> str:
        return pictures.picture_path("", {"codec": codec, "rate": rate, "image": image}).as_posix()

    assert path("avif/2") == "avif_2/0.045/x.png"
    assert path("refined:realism=0.8,steps=2", 1.0) == "refined_realism=0.8,steps=2/1/x.png"
    one, two = (path(f"pics:pipeline=/models/{name}") for name in ("a/b", "a_b"))
    assert one != two and one.count("/") == two.count("/") == 2
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(OutputError, match="kept"):
        run(small, tmp_path / "t.csv", tmp_path / "kept")
    to_pil(torch.zeros(3, 9, 9)).save(small / "a.jpg")
    with pytest.raises(ArgumentError, match=r"a\.jpg and a\.png: .*a\.png\. Rename"):
        run(small, tmp_path / "t.csv", tmp_path / "kept")


# sets -------------------------------------------------------------------------------------------


def test_sets_of_folders(small: Path, tmp_path: Path) -> None:
    kept, notes = tmp_path / "kept", []
    rows = run(small, tmp_path / "t.csv", kept)
    by_rows = kept_sets(small, rows, kept)
    found = [(each.codec, each.rate, len(each.pairs)) for each in by_rows]
    assert found == [("jpeg", RATE, 2), ("webp/2", RATE, 2)]
    assert sets_of_folder(small, kept) == by_rows

    other = tmp_path / "mine"
    other.mkdir()
    save_image(load_image(small / "a.png"), other / "a.webp")
    save_image(load_image(small / "a.png"), other / "z.png")
    (found,) = sets_of_folder(small, other, notes.append)
    assert found == PictureSet("mine", None, ((small / "a.png", other / "a.webp"),))
    assert len(notes) == 1 and "z.png: no original" in notes[0]
    (other / "a.webp").unlink()
    with pytest.raises(ImageError, match="no picture named as one of"):
        sets_of_folder(small, other)


def test_command_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    network = tiny_network()

    def counted(patches: torch.Tensor) -> torch.Tensor:
        looks.append(len(patches))
        return network(patches)

    monkeypatch.setattr(realism, "inception", lambda device: counted)
    kept, table, out = tmp_path / "kept", tmp_path / "t.csv", tmp_path / "own.csv"
    options = ["--codec", "jpeg", "--codec", "webp/2", "--rates", str(RATE), "--metrics", "psnr"]
    command = ["evaluate", photos, "--out", table, *options, "--pictures", kept, "--fid"]
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "KID" in result.stdout and f"{tmp_path / 't.fid.csv'}  2 sets" in result.stdout
    assert sum(looks) == 3 * 10, "originals are seen once"
    with (tmp_path / "t.fid.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    originals = sorted(photos.glob("*.png"))
    decoded = sorted(kept.glob("webp_2/2/*.png"))
    expected = patch_fid(originals, decoded, network=network)
    assert (first["codec"], second["codec"], second["rate"]) == ("jpeg", "webp/2", "2.0")
    assert float(second["fid"]) == expected.fid and float(second["kid"]) == expected.kid
    assert (second["pictures"], second["patches"], second["patch"]) == ("2", "10", "256")
    assert second["torch_fidelity"] == torch_fidelity.__version__

    result = invoke("fid", photos, kept, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_text() == (tmp_path / "t.fid.csv").read_text()
    assert invoke("fid", photos, kept, "--out", out).exit_code == 4

    (kept / "jpeg" / "2" / "a.png").unlink()  # 2 patches are left
    result = invoke("fid", photos, kept)
    assert result.exit_code == 40
    assert "FID, KID: absent: jpeg 2: 1 pictures give 2 patches" in result.stderr
    assert "webp/2" in result.stdout


def test_evaluate_says_that_they_are_absent(
    home: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", small, "--out", tmp_path / "t.csv", "--codec", "jpeg"]
    command += ["--rates", RATE, "--metrics", "psnr", "--fid"]
    result = invoke(*command)
    assert result.exit_code == 2 and "add --pictures FOLDER" in result.stderr
    command += ["--pictures", tmp_path / "kept"]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch_fidelity", None)
        result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "FID, KID: absent: " in result.stdout and "[fid]" in result.stdout
    assert len(list(tmp_path.rglob("kept/jpeg/2/*.png"))) == 2, "kept for later"

    def refuse(*args: object) -> None:
        raise DownloadError("inception: down")

    monkeypatch.setattr(datasets, "_obtain", refuse)
    result = invoke(*command)
    assert result.exit_code == 0 and "FID, KID: absent: inception: down" in result.stdout
    assert invoke("fid", small, tmp_path / "kept").exit_code == DownloadError.exit_code
