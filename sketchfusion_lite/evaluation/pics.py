"""PICS, a text-and-sketch codec to compare with: a caption and an edge map, painted anew by a diffusion model.

    image --> boundaries --> max-pooled --> thinned --> threshold --> 1-bit map --> smallest of two ---+--> bytes
    caption --> UTF-8 --> deflate ---------------------------------------------------------------------+
    bytes --> edge map, caption --> ControlNet + Stable Diffusion, from pure noise --> picture

This follows [1] with two differences: the edge map is coded without loss by an off-the-shelf codec instead of a
learned one, and the caption is an argument instead of being found by prompt inversion. Every byte is counted: what
:func:`decode_pics` gets is the stream and the pretrained networks, nothing else.

    ┌──────┬─────────┬───────┬─────────┬───────┬────────┬─────────────────┬─────────┬───────┬────────┐
    │ "PX" │ version │ codec │ divisor │ width │ height │ lengths         │ caption │ edges │ CRC-32 │
    │      │ uint8   │ uint8 │ uint8   │ u16   │ u16    │ u16, u16, u32   │         │       │ u32    │
    └──────┴─────────┴───────┴─────────┴───────┴────────┴─────────────────┴─────────┴───────┴────────┘

Numbers are little endian; the lengths are those of the caption, of the caption deflated, and of the edges.

References
    [1] Lei et al., "Text + Sketch: Image Compression at Ultra Low Rates", ICML 2023 Neural Compression Workshop.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks
from ..conditioning import one_at_a_time
from ..errors import (
    ArgumentError,
    BudgetTooSmall,
    CorruptStream,
    NotAStream,
    TruncatedStream,
    UnsupportedStream,
)
from ..images import DEFAULT_MAX_PIXELS, ImageSource, crop, load_image, pad_to_multiple
from ..priors import import_diffusers, require_finite, require_pipeline
from .edges import CODECS, candidates, thin

__all__ = ["PicsContent", "PicsStream", "decode_pics", "encode_pics", "parse_pics"]

Detector = Callable[[Tensor], Tensor]  # (1, 3, H, W) in [0, 1] -> boundaries (1, 1, H, W) in [0, 1]

MAX_CAPTION_BYTES = 1000  # CLIP reads 77 tokens, far less
MAX_DIVISOR = 64
_MAX_PICTURE_SIDE = 0xFFFF
_MAGIC, _VERSION = b"PX", 1
_HEADER = struct.Struct("<2sBBBHHHHI")
_CRC = struct.Struct("<I")
_KEPT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # shares of the edge pixels, before resolution is given up


@dataclass(frozen=True)
class PicsStream:
    """A picture as PICS sends it.

    Attributes:
        data: the whole stream.
        width, height: of the original, pixels.
        edge_map: ``(1, 1, h, w)`` bool; sides are the picture's, divided by ``divisor`` and rounded up.
        threshold: boundary probability from which a ridge was drawn.
        caption_bytes, edge_bytes: share of the two payloads; the rest is header and checksum.
    """

    data: bytes
    width: int
    height: int
    edge_map: Tensor
    divisor: int
    threshold: float
    caption_bytes: int
    edge_bytes: int

    @property
    def bpp(self) -> float:
        """Bits of the whole stream per pixel of the original."""
        return 8 * len(self.data) / (self.width * self.height)


class PicsContent(NamedTuple):
    """What a stream says: size of the original, ``edge_map`` ``(1, 1, h, w)`` bool, and the caption."""

    width: int
    height: int
    edge_map: Tensor
    caption: str


@torch.inference_mode()
def encode_pics(
    image: ImageSource,
    caption: str,
    detector: Detector | None = None,
    threshold: float = 0.5,
    max_side: int = 160,
    max_bytes: int | None = None,
) -> PicsStream:
    """Code a picture as caption and edge map.

    Args:
        image: any picture; see :func:`.load_image`.
        caption: at most ``MAX_CAPTION_BYTES`` bytes of UTF-8; may be empty.
        detector: boundary detector; None for that of the shipped codec.
        threshold: boundary probability in (0, 1) from which a ridge is drawn.
        max_side: longer side of the edge map at most, pixels.
        max_bytes: budget for the whole stream. While it is exceeded, the weakest lines go, up to half of the edge
            pixels; then the map's resolution halves, with all lines back.

    Raises:
        ArgumentError: an argument out of range, or a detector that returns another shape.
        ImageError: no usable picture.
        BudgetTooSmall: not even the smallest map fits.
    """
    text = checks.text("caption", caption).encode("utf-8", "replace")
    if len(text) > MAX_CAPTION_BYTES:
        raise ArgumentError(f"caption of {len(text)} bytes: at most {MAX_CAPTION_BYTES}.")
    threshold = checks.number("threshold", threshold, 0, 1, above=True)
    if threshold == 1:
        raise ArgumentError("threshold=1: give a number between 0 and 1.")
    max_side = checks.whole("max_side", max_side, 1)
    if max_bytes is not None:
        checks.number("max_bytes", max_bytes, 0, above=True)
    checks.function("detector", detector)
    pixels = load_image(image)
    height, width = pixels.shape[-2:]
    divisor = -(-max(height, width) // max_side)
    if max(height, width) > _MAX_PICTURE_SIDE or divisor > MAX_DIVISOR:
        raise ArgumentError(
            f"{width}x{height} at max_side={max_side}: sides are at most {_MAX_PICTURE_SIDE}, and at most "
            f"{MAX_DIVISOR} times those of the map. Raise max_side, or downscale the image."
        )
    boundaries = (detector or _shipped_detector())(pixels)
    if boundaries.shape != (1, 1, height, width):
        raise ArgumentError(
            f"detector returned shape {tuple(boundaries.shape)}: (1, 1, {height}, {width}) is needed."
        )
    boundaries = boundaries.detach().float().cpu()
    sizes = []
    while divisor <= MAX_DIVISOR:
        for edges, used in _drawings(boundaries, divisor, threshold, max_bytes is not None):
            stream = _pack(edges, width, height, divisor, used, text)
            if max_bytes is None or len(stream.data) <= max_bytes:
                return stream
            sizes.append(len(stream.data))
        divisor *= 2
    assert max_bytes is not None  # or the first drawing was returned
    raise BudgetTooSmall.for_image(width, height, min(sizes), max_bytes)


def parse_pics(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> PicsContent:
    """Read a whole stream back, exactly: the inverse of :func:`encode_pics`, without any network.

    Nothing is believed before it is checked, and nothing larger than the header's checked sizes is allocated.

    Raises:
        StreamError: NotAStream, UnsupportedStream, TruncatedStream or CorruptStream.
    """
    data = bytes(data)
    if not data.startswith(_MAGIC[: len(data)]) or not data:
        raise NotAStream("stream: does not start as a PICS stream does.")
    least = _HEADER.size + _CRC.size
    if len(data) < least:
        raise TruncatedStream.at(len(data), least, "header", "stream")
    _, version, codec, divisor, width, height, text_size, caption_size, edge_size = (
        _HEADER.unpack_from(data)
    )
    if version != _VERSION:
        raise UnsupportedStream(f"stream: version {version}; this reader knows {_VERSION}.")
    if not (width and height and 1 <= divisor <= MAX_DIVISOR and codec in CODECS):
        raise CorruptStream(f"stream: {width}x{height}, divisor {divisor}, codec {codec}.")
    if text_size > MAX_CAPTION_BYTES or caption_size > 2 * MAX_CAPTION_BYTES:
        raise CorruptStream(f"stream: caption of {text_size} bytes, over {MAX_CAPTION_BYTES}.")
    if width * height > max_pixels:
        raise UnsupportedStream(f"stream: {width}x{height} is over {max_pixels} pixels.")
    whole = least + caption_size + edge_size
    if len(data) < whole:
        raise TruncatedStream.at(len(data), whole, "caption or edge map", "stream")
    body, checksum = data[: whole - _CRC.size], data[whole - _CRC.size :]
    if len(data) > whole or _CRC.unpack(checksum)[0] != zlib.crc32(body):
        raise CorruptStream("stream: the checksum does not match. Fetch the file again.")
    split = _HEADER.size + caption_size
    try:
        text = _inflate(body[_HEADER.size : split], text_size).decode()
        mask = CODECS[codec][1](body[split:], -(-height // divisor), -(-width // divisor))
    except Exception as error:  # a forged checksum: decoders of foreign bytes raise nearly anything
        raise CorruptStream(f"stream: caption or edge map is damaged ({error}).") from error
    return PicsContent(width, height, torch.from_numpy(mask)[None, None], text)


def decode_pics(
    data: bytes,
    pipeline: Any,
    steps: int = 20,
    guidance_scale: float = 7.5,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Tensor:
    """Paint the picture from pure noise; the noise is seeded by the stream's checksum.

    Args:
        data: the stream.
        pipeline: a diffusers ``StableDiffusionControlNetPipeline`` with one ControlNet for white lines on black.
        steps: denoising steps, 1 to 1000.
        guidance_scale: how strictly the caption is followed; 1 or less switches guidance off.
        max_pixels: refuse larger pictures.

    Returns:
        Float32 ``(1, 3, H, W)`` in [0, 1] of the original's size, on the CPU.

    Raises:
        ArgumentError: another pipeline, or ``steps`` out of range.
        StreamError: see :func:`parse_pics`.
        WeightsError: the networks returned values that are not finite.
        DependencyMissing: diffusers or transformers is not installed.
    """
    diffusers = import_diffusers("decoding PICS")
    require_pipeline(pipeline, diffusers.StableDiffusionControlNetPipeline)
    steps = checks.whole("steps", steps, 1, 1000)
    guidance_scale = checks.number("guidance_scale", guidance_scale, -math.inf)
    width, height, edge_map, caption = parse_pics(data, max_pixels)
    lines = F.interpolate(edge_map.float(), size=(height, width), mode="bilinear")
    control, size = pad_to_multiple(lines.expand(-1, 3, -1, -1), pipeline.vae_scale_factor)
    with one_at_a_time(pipeline.scheduler):
        output = pipeline(
            prompt=caption,
            image=control,
            height=control.shape[-2],
            width=control.shape[-1],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=torch.Generator("cpu").manual_seed(_CRC.unpack(data[-_CRC.size :])[0]),
            output_type="pt",
        )
    return crop(require_finite(output.images), size).float().cpu().clamp(0, 1).contiguous()


@cache
def _shipped_detector() -> Detector:
    from ..codec import load_codec

    return load_codec(device="cpu", dtype="float32").boundaries


def _drawings(boundaries: Tensor, divisor: int, threshold: float, thinner: bool) -> Iterator:
    """Edge maps ``(h, w)`` of uint8 at one resolution with their thresholds, from all lines to half of them."""
    pooled = F.max_pool2d(boundaries, divisor, ceil_mode=True)  # a mean would fade thin lines
    ridges = thin(pooled)[0, 0].numpy()
    drawn = np.sort(ridges[ridges >= threshold])[::-1]
    for share in _KEPT if thinner and drawn.size else _KEPT[:1]:
        used = threshold if share == 1 else float(drawn[int(share * (drawn.size - 1))])
        yield (ridges >= used).astype(np.uint8), used


def _pack(
    edges: np.ndarray, width: int, height: int, divisor: int, threshold: float, text: bytes
) -> PicsStream:
    caption = zlib.compress(text, 9, -15)  # raw: the stream has its own checksum
    codec, payload = min(candidates(edges), key=lambda candidate: len(candidate[1]))
    fields = (_VERSION, codec, divisor, width, height, len(text), len(caption), len(payload))
    body = _HEADER.pack(_MAGIC, *fields) + caption + payload
    data = body + _CRC.pack(zlib.crc32(body))
    edge_map = torch.from_numpy(edges.astype(bool))[None, None]
    return PicsStream(data, width, height, edge_map, divisor, threshold, len(caption), len(payload))


def _inflate(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj(-15)
    text = inflater.decompress(data, size + 1)
    if len(text) != size or not inflater.eof or inflater.unused_data:
        raise ValueError("the caption has another length than the header says")
    return text
