"""Whatever comes in, file, bytes, PIL image, array or tensor, is one picture or an error that says why not.

What each file format can hold is tested in ``test_image_formats.py``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from typer.testing import CliRunner

from sketchfusion_lite.cli import app
from sketchfusion_lite.errors import ArgumentError, ImageError, OutputError, PictureWarning
from sketchfusion_lite.images import (
    crop,
    load_image,
    pad_to_multiple,
    save_image,
    to_pil,
    to_uint8,
)

from .formats.by_hand import exif, png, stored_tiff
from .formats.cells import GREY, RAMP, SCENE, animation, levels, over_white, saved

WHITE_IS_0 = stored_tiff(65535 - levels(16), 16, 0)


def loaded(source) -> np.ndarray:
    """``(H, W, 3)`` in 0..255; checks what every result must be."""
    image = load_image(source)
    assert image.dtype == torch.float32 and image.is_contiguous()
    assert image.shape[:2] == (1, 3) and image.min() >= 0 and image.max() <= 1
    return image[0].permute(1, 2, 0).double().numpy() * 255


def near(source, pixels, tolerance: float = 0.01) -> bool:
    found = loaded(source)
    wanted = np.asarray(pixels, float)
    return np.abs(found - (wanted[..., None] if wanted.ndim == 2 else wanted)).max() <= tolerance


# --------------------------------------------------------------------------------------------------
# Sources


def test_all_sources_agree(tmp_path):
    data = saved(SCENE, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    tensor = torch.from_numpy(SCENE).permute(2, 0, 1)
    sources = [path, str(path), data, bytearray(data), memoryview(data), Image.fromarray(SCENE)]
    sources += [SCENE, SCENE / 255, (SCENE / 255).astype(np.float32), SCENE.astype(">u2") * 257]
    sources += [tensor, tensor[None], tensor / 255, (tensor / 255)[None].double()]
    for source in sources:
        assert near(source, SCENE, 1e-4)
    assert torch.equal(load_image(SCENE), tensor[None] / 255)


@pytest.mark.parametrize(
    "source",
    [
        np.asfortranarray(SCENE),
        np.asfortranarray(SCENE / 255),
        SCENE[::-1, ::-1].copy()[::-1, ::-1],
        np.repeat(SCENE, 2, axis=0)[::2],
        np.broadcast_to(SCENE, (1, *SCENE.shape))[0],
        np.ma.array(SCENE),
        *((SCENE / 255).astype(kind) for kind in (np.float16, np.longdouble, ">f8")),
        torch.from_numpy(SCENE / 255).permute(2, 0, 1).half(),
        torch.from_numpy(SCENE / 255).permute(2, 0, 1).requires_grad_(),
    ],
)
def test_arrays_and_tensors_of_any_layout_and_precision(source):
    assert near(source, SCENE, 0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_result_shares_no_memory(dtype):
    array = np.zeros((4, 5, 3), dtype)
    tensor = torch.zeros(1, 3, 4, 5, dtype=torch.from_numpy(array).dtype)
    results = load_image(array), load_image(tensor)
    array[:] = 1
    tensor[:] = 1
    assert all(not result.any() for result in results)


def test_grey_and_transparent_arrays():
    alpha = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
    rgba = np.dstack([SCENE, alpha])
    for source in (GREY, GREY[..., None], Image.fromarray(GREY)):
        assert near(source, GREY)
    for source in (rgba, rgba / 255, Image.fromarray(rgba)):
        assert near(source, over_white(SCENE, alpha))
    assert near(levels(16).astype(np.uint16), RAMP * 255)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 1000), (1000, 7), (2, 1)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "JPEG"])
def test_any_size(height, width, kind):
    data = saved(Image.new("RGB", (width, height)), kind)
    assert load_image(data).shape == (1, 3, height, width)


def test_slight_overshoot_is_clamped():
    for dtype in (np.float32, np.float64):
        source = np.array([[-0.0005, 1.0005]], dtype)
        assert load_image(source)[0, 0].tolist() == [[0.0, 1.0]]
        assert source.min() < 0 and source.max() > 1, "the caller's array was changed"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\).*pass \(H, W\)"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"pass \(H, W\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4), [("r", "u1")]), "pass uint8"),
        *((SCENE.astype(kind), "pass uint8") for kind in (bool, object, "m8[s]", "i1", "u4", "i4")),
        (np.zeros((8, 8), complex), "complex"),
        (np.array([["a"]]), "pass uint8"),
        (np.ma.masked_less(SCENE, 9), "values are masked.*filled"),
        (np.full((8, 8), np.nan), "from nan"),
        (np.full((8, 8), np.inf), "to inf"),
        (np.full((8, 8), 128.0), "Divide by 255"),
        (np.full((8, 8), -0.5), "from -0.5"),
        (torch.zeros(2, 3, 8, 8), "one RGB image"),
        (torch.zeros(8, 8, 3), "one RGB image"),
        (torch.zeros(1, 8, 8), "one RGB image"),
        (torch.zeros(3, 0, 8), "no pixels"),
        (torch.zeros(3, 4, 4).to_sparse(), "sparse or without data"),
        (torch.zeros(3, 4, 4, device="meta"), "sparse or without data"),
        *(
            (torch.zeros(3, 4, 4, dtype=kind), "pass uint8")
            for kind in (torch.bool, torch.uint16, torch.int64, torch.complex64)
        ),
        (torch.full((3, 8, 8), float("nan")), "from nan"),
        (torch.full((3, 8, 8), 255.0), "Divide by 255"),
        (None, "NoneType is no picture"),
        ([[0]], "list is no picture"),
    ],
)
def test_arrays_and_tensors_without_a_meaning(source, message):
    with pytest.raises(ImageError, match=f"(?s)^image: .*{message}"):
        load_image(source)


# --------------------------------------------------------------------------------------------------
# PIL images mean what their files would


@pytest.mark.parametrize(
    "mode", ["L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "LAB", "P", "PA"]
)
def test_modes_of_pil(mode):
    colour = (204, 102, 51)  # one of the web palette, which the palette modes use
    picture = Image.new("RGB", (4, 4), colour)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    else:
        for step in {"La": ("LA",), "RGBa": ("RGBA",), "PA": ("P",)}.get(mode, ()):
            picture = picture.convert(step)
        picture = picture.convert(mode)
    assert near(picture, np.full((4, 4, 3), 127 if mode in ("L", "LA", "La") else colour), 3)


def test_premultiplied_grey_of_pil():
    picture = Image.merge("LA", [Image.new("L", (4, 4), v) for v in (100, 128)]).convert("La")
    assert near(picture, np.full((4, 4), (100 * 128 + 255 * 127) / 255), 1)


def test_deep_modes_of_pil():
    for mode, kind in (("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")):
        picture = Image.frombytes(mode, (12, 9), levels(16).astype(kind).tobytes())
        assert near(picture, RAMP * 255)
    assert near(Image.fromarray(RAMP.astype(np.float32)), RAMP * 255)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(GREY).convert("I"), "white may be 255 or 65535.*L or I;16"),
        (Image.fromarray(GREY.astype(np.int32) - 100), "no defined white"),
        (Image.fromarray(GREY.astype(np.int32) * 1000), "no defined white.*16 bit"),
        (Image.fromarray(GREY.astype(np.float32)), "run from 0 to 255"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan"),
    ],
)
def test_pil_images_without_a_defined_white(picture, words):
    with pytest.raises(ImageError, match=f"^image: PIL image of mode .*{words}"):
        load_image(picture)


def test_an_image_still_in_its_file_is_read_from_there(tmp_path):
    path = tmp_path / "white.tif"
    path.write_bytes(WHITE_IS_0)
    for source in (path, io.BytesIO(WHITE_IS_0)):
        with Image.open(source) as picture:
            assert near(picture, RAMP * 255)
            assert picture.load() is not None  # and may go on
    stored = SCENE.astype(int) * 256 + 100
    assert near(Image.open(io.BytesIO(png(stored, 16, 2))), stored / 257)


def test_an_image_that_pillow_decoded_without_its_meaning_is_refused():
    signed = stored_tiff(GREY, 8, 1, t339=("H", 2))
    preview = stored_tiff(SCENE, 8, 2, t254=("I", 1))
    for data in (WHITE_IS_0, signed, preview):
        picture = Image.open(io.BytesIO(data))
        picture.load()
        with pytest.raises(ImageError, match="Pass the path"):
            load_image(picture)


def test_what_was_done_to_an_image_counts():
    """A smaller size that was asked for, another frame, paint; colours and orientation stay with it."""
    picture = Image.open(io.BytesIO(saved(Image.fromarray(SCENE).resize((96, 72)), "JPEG")))
    picture.draft("RGB", (24, 18))
    assert load_image(picture).shape[-2:] == (18, 24)
    second = Image.open(io.BytesIO(animation("PNG")))
    second.seek(1)
    assert near(second, 255 - SCENE)
    painted = Image.open(io.BytesIO(saved(SCENE, "PNG")))
    painted.paste((1, 2, 3), (0, 0, 12, 9))
    assert near(painted, np.broadcast_to([1, 2, 3], SCENE.shape))
    linear = b"gAMA", struct.pack(">I", 100_000)
    data = png(SCENE, 8, 2, linear, (b"eXIf", exif({274: ("H", 6)})))
    decoded = Image.open(io.BytesIO(data))
    decoded.load()
    assert np.array_equal(loaded(decoded), loaded(data))
    assert not near(data, np.rot90(SCENE, -1), 20)


# --------------------------------------------------------------------------------------------------
# Files


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("directory", [b"II*\0garbage that is no directory", b"no TIFF header"])
def test_unreadable_exif_is_ignored(directory):
    assert near(saved(SCENE, "PNG", exif=b"Exif\0\0" + directory), SCENE)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"])
)
@settings(max_examples=60, deadline=None)
def test_no_picture_at_all(data, start):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            load_image(start + data)


def test_damaged_lzw_of_a_tiff_is_an_error_not_a_crash():
    buffer = io.BytesIO()
    samples = np.random.default_rng(0).integers(0, 9, (64, 64, 3)).astype(np.uint16)
    tifffile.imwrite(buffer, samples, photometric="rgb", compression="lzw", rowsperstrip=16)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for at in rng.integers(300, len(data), 5):
            data[at] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(bytes(data))
            except ImageError as error:
                refused += str(error).startswith("picture of ")
    assert refused


def test_missing_file_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    for name, words in (
        ("gone.png", "no such file"),
        ("", "is a folder"),
        ("empty.png", "not a p"),
    ):
        with pytest.raises(ImageError, match=f"{tmp_path / name}: {words}"):
            load_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="superuser")
def test_unreadable_file(tmp_path):
    path = save_image(torch.zeros(3, 2, 2), tmp_path / "a.png")
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon.*raw converter"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon.*raw converter"),
        (b"IIRO\x08\0\0\0", "Olympus"),
        (b"\xff\x0a\0\0", "JPEG XL.*Convert"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),  # Pillow alone would start Ghostscript
        (b"#?RADIANCE\n", "Radiance.*tones"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "film"),
        (b"II\0*\x08\0\0\0", "not a picture"),
        (b"P0CMYK\n1 1\n255\n\1\2\3\4", "not a picture"),
        (b"PyRGBA\n1 1\n255\n\1\2\3\4", "not a picture"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(head, words, tmp_path):
    path = tmp_path / "IMG 1.jpg"
    path.write_bytes(head + bytes(300))
    for source, name in ((path, str(path)), (path.read_bytes(), "named so")):
        with pytest.raises(ImageError, match=f"(?s)^{name}: .*not a picture.*") as raised:
            load_image(source, name="named so")
        assert re.search(words, str(raised.value))


def test_heic_of_nothing_and_without_its_package(tmp_path, monkeypatch):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(300))
    with pytest.raises(ImageError, match=f"^{path}: "):
        load_image(path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ImageError, match=f"^{path}: a HEIC picture.*pip install pillow-heif"):
        load_image(path)


def test_what_could_not_be_honoured_is_said_with_the_name(tmp_path):
    path = tmp_path / "odd.png"
    path.write_bytes(png(SCENE, 8, 2, (b"cICP", bytes([77, 13, 0, 1]))))
    with pytest.warns(PictureWarning, match=f"^{path}: .*77/13"):
        load_image(path)
    done = CliRunner().invoke(app, ["encode", str(path), str(tmp_path / "a.skf"), "--quality", "1"])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert "odd.png" in line and "77/13" in line


# --------------------------------------------------------------------------------------------------
# Limits


def test_pixel_limit_is_inclusive_for_every_source():
    sources = SCENE, Image.fromarray(SCENE), saved(SCENE, "PNG"), torch.zeros(3, 9, 12)
    for source in (*sources, WHITE_IS_0):
        assert load_image(source, max_pixels=108).shape == (1, 3, 9, 12)
        with pytest.raises(ImageError, match=r"12x9 = 108 pixels.*raise max_pixels"):
            load_image(source, max_pixels=107)


def test_pixel_limit_comes_before_decoding():
    """A header that declares a huge picture without a body: the limit speaks, not the decoder."""
    data = bytearray(saved(SCENE, "PNG"))
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="200000x200000"):
            load_image(bytes(data))
        with pytest.raises(ImageError, match="a side is at most"):
            load_image(np.broadcast_to(np.uint8(0), (1, 1 << 21)))


def test_our_limit_replaces_the_one_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = saved(SCENE, "PNG")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert near(data, SCENE)
    assert Image.MAX_IMAGE_PIXELS == 10


# --------------------------------------------------------------------------------------------------
# Out, padding


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]
    steps = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8((steps / 255).requires_grad_()), steps)


def test_to_pil():
    image = load_image(SCENE)
    for tensor in (image, image[0], to_uint8(image)):
        assert np.array_equal(np.asarray(to_pil(tensor)), SCENE)
    grey = to_pil(image[:, 2:])
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), SCENE[..., 2])
    for shape in [(2, 3, 4, 4), (4, 4, 3), (3, 0, 4), (4, 4)]:
        with pytest.raises(ImageError, match="one image"):
            to_pil(torch.zeros(shape))


def test_save_image(tmp_path):
    image = load_image(SCENE)
    for name in ("a.png", "a.webp", "A.PNG"):
        path = save_image(image, tmp_path / name)
        assert path == tmp_path / name
        assert torch.equal(load_image(path), image)
    save_image(to_pil(image), tmp_path / "b.png")
    assert torch.equal(load_image(tmp_path / "b.png"), image)
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert (load_image(save_image(flat, tmp_path / "a.jpg")) - flat).abs().max() < 0.02
    with pytest.raises(OutputError, match=r"'\.xyz'.*\.png"):
        save_image(image, tmp_path / "a.xyz")
    with pytest.raises(OutputError, match=r"WEBP.*Use \.png"):
        save_image(torch.zeros(3, 1, 20_000), tmp_path / "long.webp")
    assert not list(tmp_path.glob("*long*"))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 16, 64]))
@settings(max_examples=30, deadline=None)
def test_pad_and_crop_are_inverse(height, width, multiple):
    image = torch.rand(1, 3, height, width)
    padded, size = pad_to_multiple(image, multiple)
    assert size == (height, width)
    assert all(side % multiple == 0 for side in padded.shape[2:])
    assert all(side < full + multiple for side, full in zip(padded.shape[2:], size, strict=True))
    assert torch.equal(crop(padded, size), image)
    assert torch.equal(padded[0, :, -1, -1], image[0, :, -1, -1])  # the border is repeated


def test_padding_arguments():
    with pytest.raises(ArgumentError, match="multiple"):
        pad_to_multiple(torch.ones(1, 3, 1, 1), 0)
