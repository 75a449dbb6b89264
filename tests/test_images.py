"""Every kind of picture comes in right side up, in the right colours, or with a clear error."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from sketchfusion_lite.errors import ArgumentError, ImageError, OutputError
from sketchfusion_lite.images import (
    crop,
    load_image,
    pad_to_multiple,
    save_image,
    to_pil,
    to_uint8,
)


def photo(height: int = 24, width: int = 33) -> np.ndarray:
    """A smooth picture without any symmetry, ``(H, W, 3)`` uint8."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 3 + y * 5) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    """The bytes of a picture file."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bytes_of(image: torch.Tensor) -> np.ndarray:
    """``(1, 3, H, W)`` in [0, 1] -> ``(H, W, 3)`` uint8; checks what every result must be."""
    assert image.dtype == torch.float32
    assert image.shape[:2] == (1, 3)
    assert image.is_contiguous()
    assert image.min() >= 0 and image.max() <= 1
    return to_uint8(image)[0].permute(1, 2, 0).numpy()


# --------------------------------------------------------------------------------------------------
# Sources


def test_all_sources_agree(tmp_path):
    pixels = photo()
    data = encoded(pixels, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    sources = [path, str(path), data, bytearray(data), memoryview(data), Image.fromarray(pixels)]
    sources += [pixels, pixels / 255, (pixels / 255).astype(np.float32), pixels.astype(">u2") * 257]
    sources += [tensor, tensor[None], tensor / 255, (tensor / 255)[None].double()]
    for source in sources:
        assert np.array_equal(bytes_of(load_image(source)), pixels)
    assert torch.equal(load_image(pixels), torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: np.asfortranarray(a),
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: np.asfortranarray(a / 255),
    ],
)
def test_memory_layout_does_not_matter(make):
    assert np.array_equal(bytes_of(load_image(make(photo()))), photo())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_result_shares_no_memory(dtype):
    array = np.zeros((4, 5, 3), dtype)
    tensor = torch.zeros(1, 3, 4, 5, dtype=torch.from_numpy(array).dtype)
    results = load_image(array), load_image(tensor)
    array[:] = 1
    tensor[:] = 1
    assert all(not result.any() for result in results)


def test_half_precision_tensor():
    tensor = torch.rand(3, 4, 5).bfloat16()
    assert torch.equal(load_image(tensor)[0], tensor.float())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000", "GIF"])
def test_formats(kind):
    pixels = np.full((40, 56, 3), 80, np.uint8)
    pixels[:, 28:] = (200, 120, 40)
    result = bytes_of(load_image(encoded(pixels, kind)))
    assert result.shape == pixels.shape
    assert np.abs(result.astype(int) - pixels)[:, [4, 50]].max() < 12


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 1000), (1000, 7), (2, 1)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "JPEG"])
def test_any_size(height, width, kind):
    assert load_image(encoded(photo(height, width), kind)).shape == (1, 3, height, width)


# --------------------------------------------------------------------------------------------------
# Modes


def test_grey_and_one_bit():
    grey = photo()[..., 2]
    expected = np.repeat(grey[..., None], 3, axis=2)
    for source in (grey, grey[..., None], Image.fromarray(grey), encoded(grey, "PNG")):
        assert np.array_equal(bytes_of(load_image(source)), expected)
    bits = Image.fromarray(grey).convert("1")
    loaded = bytes_of(load_image(encoded(bits, "PNG")))
    assert np.array_equal(loaded, np.asarray(bits.convert("RGB")))
    assert set(np.unique(loaded)) == {0, 255}


def test_alpha_is_composited_over_white():
    alpha = np.linspace(0, 255, 24 * 33).astype(np.uint8).reshape(24, 33, 1)
    rgba = np.concatenate([photo(), alpha], axis=2)
    weight = alpha / 255
    expected = torch.from_numpy(photo() / 255 * weight + 1 - weight).permute(2, 0, 1).float()[None]
    for source in (rgba, rgba / 255, Image.fromarray(rgba), encoded(rgba, "PNG")):
        torch.testing.assert_close(load_image(source), expected, atol=1e-6, rtol=0)
    lossless = encoded(rgba, "WEBP", lossless=True, exact=True)
    torch.testing.assert_close(load_image(lossless), expected, atol=1e-6, rtol=0)


def test_grey_with_alpha():
    picture = Image.new("LA", (2, 1))
    picture.putdata([(100, 255), (100, 0)])
    for source in (picture, encoded(picture, "PNG")):
        assert bytes_of(load_image(source))[0].tolist() == [[100] * 3, [255] * 3]


def palette_picture() -> Image.Image:
    picture = Image.new("P", (3, 1))
    picture.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    picture.putdata([0, 1, 2])
    return picture


@pytest.mark.parametrize(
    ("transparency", "second"),
    [(None, [0, 250, 0]), (1, [255, 255, 255]), (bytes([255, 51, 255]), [204, 254, 204])],
)
def test_palette(transparency, second):
    options = {} if transparency is None else {"transparency": transparency}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = bytes_of(load_image(encoded(palette_picture(), "PNG", **options)))
    assert loaded[0].tolist() == [[250, 0, 0], second, [0, 0, 250]]


def test_transparent_colour_of_rgb_and_grey():
    rgb = np.array([[[10, 20, 30], [10, 20, 31]]], np.uint8)
    loaded = bytes_of(load_image(encoded(rgb, "PNG", transparency=(10, 20, 30))))
    assert loaded[0].tolist() == [[255] * 3, [10, 20, 31]]
    grey = np.array([[7, 8]], np.uint8)
    loaded = bytes_of(load_image(encoded(grey, "PNG", transparency=8)))
    assert loaded[0].tolist() == [[7] * 3, [255] * 3]


def test_cmyk():
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta + yellow = red
    for source in (picture, encoded(picture, "TIFF"), encoded(picture, "JPEG", quality=95)):
        red, green, blue = bytes_of(load_image(source))[8, 8]
        assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "PA", "RGBa", "RGBX"])
def test_rarer_modes(mode):
    colour = (204, 102, 51)  # one of the web palette, which the palette modes use
    steps = {"PA": ["P", "PA"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode])
    picture = Image.new("RGB", (4, 4), colour)
    for step in steps:
        picture = picture.convert(step)
    error = bytes_of(load_image(picture)).astype(int) - np.array(colour)
    assert np.abs(error).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    values = np.array([[0, 1, 255, 256, 32768, 65535]], np.uint16)
    image = load_image(encoded(values, kind))
    expected = torch.from_numpy(values / 65535).float().expand(1, 3, 1, 6)
    torch.testing.assert_close(image, expected, atol=1e-7, rtol=0)


def test_sixteen_bit_array_and_pil_modes():
    values = (photo().astype(np.uint16) << 8) + 37
    expected = torch.from_numpy(values / 65535).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(load_image(values), expected, atol=1e-7, rtol=0)
    grey = values[..., 0]
    for mode, dtype in (("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4"), ("F", "<f4")):
        scaled = grey / 65535 if mode == "F" else grey
        raw = scaled.astype(dtype).tobytes()
        picture = Image.frombytes(mode, grey.shape[::-1], raw)
        torch.testing.assert_close(load_image(picture)[:, :1], expected[:, :1], atol=1e-6, rtol=0)


def sixteen_bit_png(values: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    """A 16-bit PNG written by hand, since Pillow cannot write colour ones."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return len(body).to_bytes(4, "big") + name + body + crc.to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header = chunk(b"IHDR", size + bytes([16, colour_type, 0, 0, 0]))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"tRNS", extra) if extra else b"") + end


def test_sixteen_bit_colour_png():
    values = photo().astype(np.uint16) * 257
    assert np.array_equal(bytes_of(load_image(sixteen_bit_png(values, 2))), photo())
    rgba = np.concatenate([values, np.full((24, 33, 1), 65535 // 2, np.uint16)], axis=2)
    expected = photo().astype(int) // 2 + 128
    assert np.abs(bytes_of(load_image(sixteen_bit_png(rgba, 6))) - expected).max() <= 1


def test_sixteen_bit_grey_with_transparent_value():
    data = sixteen_bit_png(np.array([[300, 301]], np.uint16), 0, extra=(301).to_bytes(2, "big"))
    image = load_image(data)[0, 0, 0]
    assert image.tolist() == [pytest.approx(300 / 65535), 1.0]


def test_thirty_two_bit_integers_have_no_white():
    picture = Image.frombytes("I", (1, 1), np.array([70000], "<i4").tobytes())
    with pytest.raises(ImageError, match="16 bit"):
        load_image(picture)
    with pytest.raises(ImageError, match=r"floating point.*run from 3 to 3"):
        load_image(Image.frombytes("F", (1, 1), np.array([3], "<f4").tobytes()))


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        assert Image.open(io.BytesIO(data)).n_frames == 2
        red, _, blue = bytes_of(load_image(data))[4, 4]
        assert red > 240 and blue < 15


# --------------------------------------------------------------------------------------------------
# Orientation and colour profiles


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert expected.shape[:2] == ((24, 33) if orientation < 5 else (33, 24))
    assert np.array_equal(bytes_of(load_image(data)), expected)
    assert np.array_equal(bytes_of(load_image(Image.open(io.BytesIO(data)))), expected)


def test_the_eight_orientations_differ():
    """Else the test above could not fail."""
    results = set()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        results.add(bytes_of(load_image(encoded(photo(), "PNG", exif=exif))).tobytes())
    assert len(results) == 8


def test_orientation_of_deep_grey():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo()[..., 2].astype(np.uint16) * 257, "PNG", exif=exif)
    assert np.array_equal(bytes_of(load_image(data))[..., 0], np.rot90(photo()[..., 2], -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("directory", [b"II*\0garbage that is no directory", b"no TIFF header"])
def test_unreadable_exif_is_ignored(directory):
    data = encoded(photo(), "PNG", exif=b"Exif\0\0" + directory)
    assert np.array_equal(bytes_of(load_image(data)), photo())


def test_colour_profiles():
    flat = Image.new("RGB", (4, 4), (200, 90, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, lab, b"garbage"):
        loaded = bytes_of(load_image(encoded(flat, "PNG", icc_profile=profile)))
        assert loaded[0, 0].tolist() == [200, 90, 40]

    # sRGB with red and green primaries exchanged: a profile that visibly does something.
    swapped = bytearray(srgb)
    tags = {bytes(swapped[i : i + 4]): i for i in range(132, 132 + 12 * swapped[131], 12)}
    red, green = tags[b"rXYZ"] + 4, tags[b"gXYZ"] + 4
    swapped[red : red + 8], swapped[green : green + 8] = (
        swapped[green : green + 8],
        swapped[red : red + 8],
    )
    swapped = bytes(swapped)  # and it calls itself sRGB
    loaded = bytes_of(load_image(encoded(flat, "PNG", icc_profile=swapped)))
    assert np.abs(loaded[0, 0].astype(int) - [90, 200, 40]).max() <= 3
    half = flat.copy()
    half.putalpha(0)
    assert (bytes_of(load_image(encoded(half, "PNG", icc_profile=swapped))) == 255).all()


# --------------------------------------------------------------------------------------------------
# Refusals


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP"])
def test_truncated_files(kind, tmp_path):
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(noise, kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for share in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ImageError, match=r"cut\.\w+: (not a picture|damaged)"):
            load_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"])
)
@settings(max_examples=60, deadline=None)
def test_no_picture_at_all(data, start):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            load_image(start + data)


def test_damaged_png_body():
    data = bytearray(encoded(photo(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="damaged"):
        load_image(bytes(data))


def test_postscript_is_not_opened():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    Image.open(io.BytesIO(eps))  # Pillow alone would, and start Ghostscript on load
    with pytest.raises(ImageError, match="not a picture"):
        load_image(eps)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(str(tmp_path))
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png: not a picture"):
        load_image(tmp_path / "empty.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="superuser")
def test_unreadable_file(tmp_path):
    path = save_image(torch.zeros(3, 2, 2), tmp_path / "a.png")
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


def test_pixel_limit_is_inclusive_for_every_source():
    pixels = photo(10, 10)
    for source in (pixels, Image.fromarray(pixels), encoded(pixels, "PNG"), torch.zeros(3, 10, 10)):
        assert load_image(source, max_pixels=100).shape == (1, 3, 10, 10)
        with pytest.raises(ImageError, match=r"10x10 = 100 pixels.*raise max_pixels"):
            load_image(source, max_pixels=99)


def test_pixel_limit_comes_before_decoding():
    """A header that declares a huge picture without a body: the limit speaks, not the decoder."""
    data = bytearray(encoded(photo(), "PNG"))
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="200000x200000"):
            load_image(bytes(data))
        with pytest.raises(ImageError, match="a side is at most"):
            load_image(np.broadcast_to(np.uint8(0), (1, 1 << 21)))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_our_limit_replaces_the_one_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(photo(), "PNG")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert np.array_equal(bytes_of(load_image(data)), photo())
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\).*pass \(H, W\)"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"pass \(H, W\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (np.zeros((8, 8), np.int32), "int32.*pass uint8"),
        (np.zeros((8, 8), bool), "bool"),
        (np.zeros((8, 8), complex), "complex"),
        (np.full((8, 8), np.nan), "from nan"),
        (np.full((8, 8), np.inf), "to inf"),
        (np.full((8, 8), 128.0), "Divide by 255"),
        (np.full((8, 8), -0.5), "from -0.5"),
        (torch.zeros(2, 3, 8, 8), "one RGB image"),
        (torch.zeros(8, 8, 3), "one RGB image"),
        (torch.zeros(1, 8, 8), "one RGB image"),
        (torch.zeros(3, 0, 8), "no pixels"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.full((3, 8, 8), float("nan")), "from nan"),
        (torch.full((3, 8, 8), 255.0), "Divide by 255"),
        (None, "NoneType is no picture"),
        ([[0]], "list is no picture"),
    ],
)
def test_wrong_arrays(source, message):
    with pytest.raises(ImageError, match=message):
        load_image(source)


def test_slight_overshoot_is_clamped():
    for dtype in (np.float32, np.float64):
        source = np.array([[-0.0005, 1.0005]], dtype)
        assert load_image(source)[0, 0].tolist() == [[0.0, 1.0]]
        assert source.min() < 0 and source.max() > 1, "the caller's array was changed"


# --------------------------------------------------------------------------------------------------
# Out, padding


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]
    steps = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(steps / 255), steps)
    assert torch.equal(to_uint8((steps / 255).requires_grad_()), steps)


def test_to_pil():
    pixels = photo()
    image = load_image(pixels)
    for tensor in (image, image[0], to_uint8(image)):
        assert np.array_equal(np.asarray(to_pil(tensor)), pixels)
    grey = to_pil(image[:, 2:])
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), pixels[..., 2])
    for shape in [(2, 3, 4, 4), (4, 4, 3), (3, 0, 4), (4, 4)]:
        with pytest.raises(ImageError, match="one image"):
            to_pil(torch.zeros(shape))


def test_save_image(tmp_path):
    image = load_image(photo())
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
    padded, _ = pad_to_multiple(torch.ones(1, 3, 1, 1), 4, mode="constant")
    assert padded.sum() == 3
    for arguments in ({"multiple": 0}, {"multiple": 4, "mode": "reflect"}):
        with pytest.raises(ArgumentError, match=r"multiple|mode"):
            pad_to_multiple(torch.ones(1, 3, 1, 1), **arguments)
