"""A small file never takes memory or time that its bytes, or the caller's limits, do not justify.

Each file is opened in a process of its own, whose peak memory and processor time are bounded. ``BOMBS`` says for each
what must happen and how much memory, in MB above that of the loaded library, it may take.
"""

from __future__ import annotations

import random
import sys
import zlib

import pytest
from PIL import Image

from sketchfusion_lite.bitstream import parse
from sketchfusion_lite.cli.streams import entropy_model_id
from sketchfusion_lite.errors import ImageError, UnsupportedStream
from sketchfusion_lite.images import load_image
from sketchfusion_lite.weights_io import shipped_weights
from sketchfusion_workbook.explorer import photos
from sketchfusion_workbook.explorer.state import Upload

from . import bombs
from .formats.by_hand import png_of
from .formats.cells import saved
from .shell import invoke

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peak memory is read as Linux tells it"
)

ID = entropy_model_id(shipped_weights())
PIXELS = (b"IDAT", zlib.compress(bytes(48)))


def _flat(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel, its compressed pixels all there."""
    return png_of((width, height), 1, 0, (b"IDAT", bombs.zeros((width // 8 + 2) * height)))


def _gif_screen() -> bytes:
    """A GIF of one pixel on a screen of 65535x65535."""
    data = saved(Image.new("P", (1, 1)), "GIF")
    return data[:6] + b"\xff\xff\xff\xff" + data[10:]


def _exif(size: int) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * size
    return saved(Image.new("RGB", (16, 16)), "PNG", exif=exif)


def _skf(*fields: int, fill: bytes = b"\xff"):
    return lambda: bombs.stream(ID, *fields, fill=fill)


def _png(chunk: bytes, start: bytes):
    """A PNG with 200 MB of zeros in a chunk."""
    return lambda: png_of((16, 16), 1, 0, (chunk, start + bombs.zeros(200_000_000)), PIXELS)


FULL = (512, 512, 64 * 512, 64 * 512, 64 * 512)
STREAM, IMAGE = "CorruptStream", "ImageError"
# name -> (makes the file, error or "" for a picture, MB)
BOMBS = {
    "decode/65535x65535": (_skf(65535, 65535, 2, 2, 2), "UnsupportedStream", 16),
    "decode/67 megapixels in 22 bytes": (_skf(8192, 8192, 2, 0, 0), STREAM, 16),
    "decode/67 megapixels, the rest cut off": (
        lambda: bombs.stream(ID, 8192, 8192, 64, 90_000, 90_000)[:300],
        STREAM,
        16,
    ),
    "decode/one row of a million pixels": (_skf(1 << 20, 1, 2, 2, 2), STREAM, 16),
    "decode/every symbol escapes, 1x1": (_skf(1, 1, 512, 512, 512), STREAM, 32),
    "decode/every symbol escapes, 512x512": (_skf(*FULL), STREAM, 64),
    "decode/sections of zeros": (_skf(*FULL, fill=b"\0"), STREAM, 64),
    "image/png 20000x20000": (lambda: _flat(20_000, 20_000), IMAGE, 16),
    "image/png 2147483647x1": (lambda: png_of((2**31 - 1, 1), 1, 0, PIXELS), IMAGE, 16),
    "image/png of 16x16 with 200 MB of pixels": (
        lambda: png_of((16, 16), 8, 0, (b"IDAT", bombs.zeros(200_000_000))),
        "",
        32,
    ),
    "image/png with a text of 200 MB": (_png(b"zTXt", b"Comment\0\0"), IMAGE, 32),
    # Pillow may leave the profile out, or refuse the file
    "image/png with a profile of 200 MB": (_png(b"iCCP", b"p\0\0"), None, 16),
    "image/png with an EXIF of 5 MB": (lambda: _exif(5_000_000), "", 64),
    "image/gif screen": (_gif_screen, IMAGE, 16),
    "image/gif of 300 frames": (lambda: bombs.animation("GIF", 400, 300), "", 32),
    "image/apng of 300 frames": (lambda: bombs.animation("PNG", 400, 300), "", 32),
    "image/webp of 100 frames": (lambda: bombs.animation("WEBP", 400, 100), "", 32),
    "image/tiff of 16x16 in a tile of 400 MB": (
        lambda: bombs.tiled_tiff(16, 16384, 8192),
        IMAGE,
        32,
    ),
    "image/jpeg of 20000 scans": (lambda: bombs.jpeg_of_scans(2048, 20_000), IMAGE, 32),
    "upload/png 20000x20000": (lambda: _flat(20_000, 20_000), IMAGE, 16),
    "upload/9 MB": (lambda: bytes(9_000_000), IMAGE, 16),
    "upload/25 megapixels": (lambda: _flat(5000, 5000), IMAGE, 16),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, bombs.Outcome]:
    folder = tmp_path_factory.mktemp("bombs")
    # one file that must take memory, so that a measurement which always says 0 is noticed
    honest = saved(Image.new("RGB", (3000, 2000)), "PNG")
    files = {name: make() for name, (make, _, _) in BOMBS.items()}
    assert max(map(len, files.values())) < 10_000_000
    return bombs.measure({**files, "image/honest": honest}, folder)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(outcomes, name):
    _, error, megabytes = BOMBS[name]
    outcome = outcomes[name]
    if error is None:
        assert outcome.error in ("", "ImageError")
    else:
        assert outcome.error == error
    assert outcome.megabytes < megabytes


def test_memory_is_really_measured(outcomes):
    """Six megapixels take 18 MB as bytes and 72 MB as floats."""
    assert outcomes["image/honest"].error == ""
    assert 72 < outcomes["image/honest"].megabytes < 400


# --------------------------------------------------------------------------------------------------
# What is refused for its cost must not refuse what honest encoders write


def test_ordinary_progressive_jpegs_and_tiled_tiffs_load():
    noise = Image.effect_noise((300, 200), 60).convert("RGB")
    assert load_image(saved(noise, "JPEG", progressive=True)).shape == (1, 3, 200, 300)
    assert load_image(bombs.jpeg_of_scans(64, 50)).shape == (1, 3, 64, 64)
    assert load_image(bombs.tiled_tiff(16, 512, 512)).shape == (1, 3, 16, 16)


def test_what_follows_a_jpeg_is_not_counted():
    """Phones append films to their photos; start-of-scan markers in those mean nothing."""
    data = saved(Image.effect_noise((64, 48), 60), "JPEG")
    assert load_image(data + b"\xff\xda\0\x02" * 5000).shape == (1, 3, 48, 64)


def test_a_plain_large_picture_still_decodes(shipped_codec):
    """The bound on the bytes of a large picture must stay below what an encoder writes."""
    for quality in (0.0, 5.0):
        data = shipped_codec.encode(Image.new("RGB", (1024, 640), "navy"), quality=quality).data
        assert shipped_codec.decode(data, "sketch").image.size == (1024, 640)
        hyper = parse(data).section_bytes
        start = data[: hyper["header"] + 2 + hyper["hyper"]]
        assert shipped_codec.decode(start, "sketch").info.missing == ("structure", "tone")


# --------------------------------------------------------------------------------------------------
# Limits are the caller's, at every way in


def test_every_entry_honours_its_pixel_limit(shipped_codec, tmp_path):
    picture, stream = tmp_path / "photo.png", tmp_path / "photo.skf"
    Image.new("RGB", (40, 30), "teal").save(picture)
    shipped_codec.encode(picture, quality=1.0).save(stream)

    entries = {
        "load_image": lambda limit: load_image(picture, max_pixels=limit),
        "encode": lambda limit: shipped_codec.encode(picture, quality=1.0, max_pixels=limit),
        "trial": lambda limit: shipped_codec.trial(picture, max_pixels=limit),
        "decode": lambda limit: shipped_codec.decode(
            stream.read_bytes(), "preview", max_pixels=limit
        ),
        "parse": lambda limit: parse(stream.read_bytes(), max_pixels=limit),
    }
    for name, entry in entries.items():
        entry(1200)
        with pytest.raises((ImageError, UnsupportedStream), match="limit of 1199"):
            entry(1199)
            pytest.fail(f"{name} does not honour its limit")
    commands = {
        ("encode", picture, tmp_path / "again.skf", "--quality", 1): ImageError,
        ("decode", stream, tmp_path / "again.png"): UnsupportedStream,
        ("info", stream): UnsupportedStream,
    }
    for words, error in commands.items():
        assert invoke(*words, "--max-pixels", 1199).exit_code == error.exit_code
        assert invoke(*words, "--max-pixels", 1200).exit_code == 0


def test_uploads_are_bounded_in_pixels(monkeypatch):
    data = png_of((40, 30), 1, 0, (b"IDAT", zlib.compress(bytes(6 * 30))))
    monkeypatch.setattr(photos, "MAX_UPLOAD_PIXELS", 1200)
    assert photos.open_photo(Upload("photo.png", data))[0].pixels == 1200
    monkeypatch.setattr(photos, "MAX_UPLOAD_PIXELS", 1199)
    with pytest.raises(ImageError, match="limit of 1199"):
        photos.open_photo(Upload("photo.png", data))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "JPEG2000", "BMP"])
def test_pictures_truncated_anywhere_are_errors_or_pictures(kind):
    data = saved(Image.effect_noise((24, 20), 60).convert("RGB"), kind)
    lengths = random.Random(1).sample(range(len(data)), min(len(data), 200))
    refused = 0
    for length in lengths:
        try:
            assert load_image(data[:length]).shape == (1, 3, 20, 24)
        except ImageError as error:
            assert "not a picture" in str(error) or "damaged" in str(error)
            refused += 1
    assert refused > 0.6 * len(lengths)
