"""Fixtures: tiny random models, so that tests of behaviour do not wait for the shipped weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sketchfusion_lite.codec import SketchFusionCodec, export_weights, load_codec
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.model import ModelConfig, SketchFusionModel
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import save_refiner

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

TINY = ModelConfig(
    structure_channels=4,
    tone_channels=4,
    hyper_channels=4,
    encoder_widths=(8, 8, 8),
    encoder_depths=(1, 1, 1),
    decoder_widths=(16, 16, 16),
    decoder_depths=(1, 1, 1),
)


def build_tiny_model(seed: int = 0) -> SketchFusionModel:
    """A small untrained model whose latent is wide enough to give symbols other than zero."""
    torch.manual_seed(seed)
    model = SketchFusionModel(TINY)
    with torch.no_grad():
        model.encoder.to_latent.weight.mul_(8.0)
    return model


def tiny_unet(codec_id: int = 0, seed: int = 0) -> RefinerUNet:
    """An untrained network whose two ends differ."""
    torch.manual_seed(seed)
    config = RefinerConfig(TINY.latent_channels, 6, (8, 8, 8), (1, 1, 1), (1, 1), codec_id=codec_id)
    unet = RefinerUNet(config).eval().requires_grad_(False)
    for end in (unet.faithful, unet.realistic):
        torch.nn.init.normal_(end.to_pixels.weight, std=0.1)
    return unet


@pytest.fixture(scope="module")  # its event loop would disturb other modules' tests
def browser():
    """A headless Chromium of this machine; the test is skipped, with the reason, where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make install"
    )
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.skip(
            f"no Chromium found (looked for {', '.join(CHROMIUMS)}): apt-get install chromium"
        )
    with playwright.sync_playwright() as driver:
        # Root has no sandbox in a container; the only pages opened are our own.
        chromium = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for what is fetched, and no mirror."""
    monkeypatch.setenv("SKETCHFUSION_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SKETCHFUSION_MIRROR", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny_model() -> SketchFusionModel:
    return build_tiny_model()


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    export_weights(build_tiny_model(), path, {"recipe": "none"})
    return path


@pytest.fixture(scope="session")
def tiny_codec(tiny_weights: Path) -> SketchFusionCodec:
    return load_codec(tiny_weights, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def tiny_refiner(tmp_path_factory: pytest.TempPathFactory, tiny_codec: SketchFusionCodec) -> Path:
    """Folder of an untrained refiner for the tiny codec."""
    folder = tmp_path_factory.mktemp("refiner")
    save_refiner(tiny_unet(tiny_codec.model_id), folder, {"steps": 0})
    return folder


@pytest.fixture(scope="session")
def shipped_codec() -> SketchFusionCodec:
    return load_codec(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """A smooth synthetic picture with edges, ``(1, 3, 96, 144)``."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 6, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(96, 144), mode="bicubic").clamp(0, 1)
    smooth[..., 30:60, 40:100] = 1 - smooth[..., 30:60, 40:100]
    return smooth


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A ramp of 90x60, for what only draws."""
    ramp = np.linspace(0, 255, 60 * 90 * 3).astype(np.uint8).reshape(60, 90, 3)
    return Image.fromarray(ramp)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """Six small pictures with boundary maps, made here."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for i in range(6):
        coarse = torch.rand(1, 3, 5, 7, generator=generator)
        picture = torch.nn.functional.interpolate(coarse, size=(80, 112), mode="bicubic")
        boundaries = torch.zeros(1, 1, 80, 112)
        picture[..., 20 + i : 60, 30:70] = 1 - picture[..., 20 + i : 60, 30:70]
        boundaries[..., 20 + i, 30:70] = 1
        boundaries[..., 20 + i : 60, 30] = 1
        to_pil(picture).save(folder / f"photo{i}.png")
        to_pil(boundaries).save(folder / f"photo{i}_boundary.png")
    return folder
