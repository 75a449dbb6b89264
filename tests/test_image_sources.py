"""PIL images, arrays and tensors mean what their files would; what is not read is called by its name."""

from __future__ import annotations

import importlib.util
import io
import struct
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from typer.testing import CliRunner

from sketchfusion_lite.cli import app
from sketchfusion_lite.errors import ImageError, PictureWarning
from sketchfusion_lite.images import load_image

from .formats.by_hand import exif, png, ramp, scene, tags_of, tiff

SCENE, RAMP = scene(), ramp()
GREY = np.round(RAMP * 255).astype(np.uint8)


def loaded(source) -> np.ndarray:
    """``(H, W, 3)`` in 0..255."""
    return load_image(source)[0].permute(1, 2, 0).double().numpy() * 255


def as_file(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# --------------------------------------------------------------------------------------------------
# PIL images


@pytest.mark.parametrize(
    "mode", ["L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "LAB", "P", "PA"]
)
def test_modes_of_pil(mode):
    colour = (204, 102, 51)  # one of the web palette, which the palette modes use
    flat = Image.new("RGB", (4, 4), colour)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(
            flat, ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
        )
    else:
        picture = flat
        for step in {"La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"], "PA": ["P", "PA"]}.get(
            mode, [mode]
        ):
            picture = picture.convert(step)
    wanted = [127] * 3 if mode in ("L", "LA", "La") else colour
    assert np.abs(loaded(picture) - wanted).max() <= 3


def test_premultiplied_grey_of_pil():
    picture = Image.merge("LA", [Image.new("L", (4, 4), v) for v in (100, 128)]).convert("La")
    assert np.abs(loaded(picture) - (100 * 128 + 255 * 127) / 255).max() <= 1


def test_deep_modes_of_pil():
    deep = np.round(RAMP * 65535)
    for mode, kind in (("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")):
        picture = Image.frombytes(mode, (12, 9), deep.astype(kind).tobytes())
        assert np.abs(loaded(picture)[..., 0] - RAMP * 255).max() < 0.01
    assert (
        np.abs(loaded(Image.fromarray(RAMP.astype(np.float32)))[..., 0] - RAMP * 255).max() < 0.01
    )


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(GREY).convert("I"), "white may be 255 or 65535.*L or I;16"),
        (Image.fromarray(GREY.astype(np.int32) - 100), "no defined white"),
        (Image.fromarray(GREY.astype(np.int32) * 1000), "no defined white"),
        (Image.fromarray(GREY.astype(np.float32)), "run from 0 to 255"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan"),
    ],
)
def test_pil_images_without_a_defined_white(picture, words):
    with pytest.raises(ImageError, match=f"^image: PIL image of mode .*{words}"):
        load_image(picture)


def white_is_zero() -> bytes:
    stored = np.round(65535 - RAMP * 65535).astype("<u2")
    return tiff(tags_of(RAMP.shape, 16, 0), stored.tobytes())


def test_an_image_still_in_its_file_is_read_from_there(tmp_path):
    path = tmp_path / "white.tif"
    path.write_bytes(white_is_zero())
    for source in (path, io.BytesIO(white_is_zero())):
        with Image.open(source) as picture:
            assert np.abs(loaded(picture)[..., 0] - RAMP * 255).max() < 0.01
            assert picture.load() is not None  # and may go on
    deep = png(SCENE.astype(int) * 256 + 100, 16, 2)
    assert (
        np.abs(loaded(Image.open(io.BytesIO(deep))) - (SCENE.astype(int) * 256 + 100) / 257).max()
        < 0.01
    )


def test_an_image_that_pillow_decoded_without_its_meaning_is_refused():
    signed = tiff(tags_of(GREY.shape, 8, 1, t339=("H", 2)), GREY.tobytes())
    preview = tiff(tags_of(SCENE.shape, 8, 2, t254=("I", 1)), SCENE.tobytes())
    for data in (white_is_zero(), signed, preview):
        picture = Image.open(io.BytesIO(data))
        picture.load()
        with pytest.raises(ImageError, match="Pass the path"):
            load_image(picture)


def test_what_was_asked_of_an_image_in_its_file_counts():
    data = as_file(Image.fromarray(SCENE).resize((96, 72)), "JPEG")
    picture = Image.open(io.BytesIO(data))
    picture.draft("RGB", (24, 18))
    assert load_image(picture).shape[-2:] == (18, 24)
    frames = as_file(
        Image.fromarray(SCENE), "PNG", save_all=True, append_images=[Image.fromarray(255 - SCENE)]
    )
    second = Image.open(io.BytesIO(frames))
    second.seek(1)
    assert np.array_equal(loaded(second).round(), 255 - SCENE)


def test_edits_of_a_decoded_image_count():
    picture = Image.open(io.BytesIO(as_file(Image.fromarray(SCENE), "PNG")))
    picture.paste((1, 2, 3), (0, 0, 12, 9))
    assert (loaded(picture).round() == [1, 2, 3]).all()


def test_colours_and_orientation_stay_with_a_decoded_image():
    one = b"gAMA", struct.pack(">I", 100_000)
    data = png(SCENE, 8, 2, one, (b"eXIf", exif({274: ("H", 6)})))
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert np.array_equal(loaded(picture), loaded(data))
    assert np.abs(loaded(data) - np.rot90(SCENE, -1)).max() > 20


# --------------------------------------------------------------------------------------------------
# Arrays and tensors


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.ma.masked_less(SCENE, 9), "values are masked.*filled"),
        (SCENE.astype(object), "pass uint8"),
        (SCENE.astype("m8[s]"), "pass uint8"),
        (np.zeros((4, 4), [("r", "u1")]), "pass uint8"),
        (SCENE.astype(np.int8), "pass uint8"),
        (SCENE.astype(np.uint32), "pass uint8"),
        (np.array([["a"]]), "pass uint8"),
        (torch.zeros(3, 4, 4).to_sparse(), "sparse or without data"),
        (torch.zeros(3, 4, 4, device="meta"), "sparse or without data"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "pass uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.uint16), "pass uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "pass uint8"),
        (torch.quantize_per_tensor(torch.zeros(3, 4, 4), 0.1, 0, torch.quint8), "pass uint8"),
    ],
)
def test_arrays_and_tensors_without_a_meaning(source, words):
    with pytest.raises(ImageError, match=f"(?s)^image: (array|tensor) of shape .*{words}"):
        load_image(source)


@pytest.mark.parametrize(
    "source",
    [
        (SCENE / 255).astype(np.float16),
        (SCENE / 255).astype(np.longdouble),
        (SCENE / 255).astype(">f8"),
        np.ma.array(SCENE),
        np.broadcast_to(SCENE, (1, *SCENE.shape))[0],
        SCENE[::-1, ::-1].copy()[::-1, ::-1],
        torch.from_numpy(SCENE / 255).permute(2, 0, 1).half(),
        torch.from_numpy(SCENE / 255).permute(2, 0, 1).requires_grad_(),
    ],
)
def test_arrays_and_tensors_of_other_kinds(source):
    assert np.abs(loaded(source) - SCENE).max() < 0.1


# --------------------------------------------------------------------------------------------------
# Names


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon.*raw converter"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon.*raw converter"),
        (b"FUJIFILMCCD-RAW ", "Fujifilm"),
        (b"IIRO\x08\0\0\0", "Olympus"),
        (b"IIU\0\x18\0\0\0", "Panasonic"),
        (b"\xff\x0a\0\0", "JPEG XL.*Convert"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns=''/>", "SVG"),
        (b"v/1\x01\2\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance"),
        (b"P7\nWIDTH 1\n", "PAM"),
        (b"\0\0\1\0\1\0\x10\x10", "icon"),
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
        with pytest.raises(ImageError, match=f"(?s)^{name}: .*not a picture.*"):
            load_image(source, name="named so")
        with pytest.raises(ImageError, match=f"(?s){words}"):
            load_image(source)


def test_heic_without_its_package(tmp_path, monkeypatch):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(300))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "pillow_heif" else found(name, *a),
    )
    with pytest.raises(ImageError, match=f"^{path}: a HEIC picture.*pip install pillow-heif"):
        load_image(path)


def test_a_heic_of_nothing_is_named(tmp_path):
    pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(300))
    with pytest.raises(ImageError, match=f"^{path}: "):
        load_image(path)


def test_damaged_lzw_of_a_tiff_is_an_error_not_a_crash():
    buffer = io.BytesIO()
    deep = np.random.default_rng(0).integers(0, 9, (64, 64, 3)).astype(np.uint16)
    tifffile.imwrite(buffer, deep, photometric="rgb", compression="lzw", rowsperstrip=16)
    rng, seen = np.random.default_rng(1), set()
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        for at in rng.integers(300, len(data), 5):
            data[at] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(bytes(data))
                seen.add("read")
            except ImageError as error:
                assert str(error).startswith("picture of ")
                seen.add("refused")
    assert "refused" in seen


def test_the_command_line_says_what_could_not_be_honoured(tmp_path):
    path = tmp_path / "odd.png"
    path.write_bytes(png(SCENE, 8, 2, (b"cICP", bytes([77, 13, 0, 1]))))
    done = CliRunner().invoke(app, ["encode", str(path), str(tmp_path / "a.skf"), "--quality", "1"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1 and "odd.png" in lines[0] and "77/13" in lines[0]


def test_warnings_name_the_file(tmp_path):
    path = tmp_path / "inks.tif"
    path.write_bytes(as_file(Image.new("CMYK", (4, 4)), "TIFF"))
    with pytest.warns(PictureWarning, match=f"^{path}: CMYK without"):
        load_image(path)
