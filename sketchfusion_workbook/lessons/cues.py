"""Notebook 01: a scene whose boundaries are known, an encoder with one cue covered, five ways to spend the same bytes.

seed --> wobbling regions --> a texture and a tint for each --> Scene(image, boundaries)

with blinded(codec, "structural"):       boundaries --> empty map ---+
    codec.encode(photo, bpp=0.045)       image ----------------------+--> encoder --> y

photo, caption, max_bytes --> text | JPEG | AVIF | lines | ours --> Entry(label, size, image), all within the budget
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.cues import gaussian_blur
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.peers import PEERS, encode_at_most
from sketchfusion_lite.evaluation.pics import encode_pics
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.samples import packaged

__all__ = ["TEXTURES", "Entry", "Scene", "blinded", "equal_bytes", "textured_scene"]


TEXTURES = ("brick", "grass", "gravel")
_HALVES = {"train": slice(0, 256), "test": slice(256, 512)}  # columns of the texture pictures


@dataclass(frozen=True)
class Scene:
    """A picture whose boundaries are known.

    Attributes:
        image: ``(1, 3, H, W)`` in [0, 1].
        boundaries: ``(1, 1, H, W)``, 1 on the pixels at the border of two regions, else 0.
        regions: ``(H, W)`` number of the region of each pixel.
    """

    image: Tensor
    boundaries: Tensor
    regions: Tensor


def textured_scene(
    seed: int,
    height: int = 160,
    width: int = 240,
    regions: int = 5,
    contrast: float = 0.5,
    half: str = "test",
) -> Scene:
    """Draw a scene; the same arguments give the same scene.

    Args:
        seed: of everything that is random.
        height, width: pixels, 32 to 256 and 32 or more.
        regions: at least 2.
        contrast: of the texture within a region, 0 (flat colour) to 1 (as photographed).
        half: ``"train"`` or ``"test"``: which half of the texture pictures is cut from, so that a detector trained on
            scenes can be tested on others.

    Raises:
        ArgumentError: an argument out of range.
        DependencyMissing: scikit-image is not installed.
    """
    if half not in _HALVES or regions < 2 or min(height, width) < 32 or not 0 <= contrast <= 1:
        raise ArgumentError(
            f"half={half!r}, regions={regions!r}, {width}x{height}, contrast={contrast!r}: give 'train' or 'test', "
            "2 regions or more, sides of 32 or more, a contrast from 0 to 1."
        )
    generator = torch.Generator().manual_seed(seed)
    labels = _regions(height, width, regions, generator)  # (H, W)
    image = torch.zeros(3, height, width)
    for index in range(regions):
        grain = _texture(height, width, half, generator)  # (H, W), mean 0
        tint = torch.rand(3, 1, 1, generator=generator) * 0.5 + 0.25
        image = torch.where(labels == index, tint + contrast * grain, image)
    smooth = gaussian_blur(image[None], 0.6).clamp(0, 1)  # as a lens does to a hard border
    edges = torch.zeros(height, width)
    edges[:, :-1] += labels[:, :-1] != labels[:, 1:]
    edges[:-1] += labels[:-1] != labels[1:]
    return Scene(smooth, edges.clamp(max=1)[None, None], labels)


def _regions(height: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    """Nearest-centre regions ``(H, W)`` with wobbling borders."""
    rows, columns = torch.meshgrid(
        torch.arange(height).float(), torch.arange(width).float(), indexing="ij"
    )
    coarse = torch.randn(1, 2, 5, 7, generator=generator) * 0.08 * min(height, width)
    wobble = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0]
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([height, width])
    distance = (rows + wobble[0] - centres[:, 0].view(-1, 1, 1)) ** 2
    distance = distance + (columns + wobble[1] - centres[:, 1].view(-1, 1, 1)) ** 2  # (count, H, W)
    return distance.argmin(dim=0)


def _texture(height: int, width: int, half: str, generator: torch.Generator) -> Tensor:
    """A piece ``(H, W)`` of one texture at a random place, mirrored or not, with mean 0."""
    name = TEXTURES[int(torch.randint(len(TEXTURES), (), generator=generator))]
    whole = _load(name)[:, _HALVES[half]]  # (512, 256)
    shifts = torch.randint(512, (2,), generator=generator).tolist()
    repeats = -(-height // whole.shape[0]) + 1, -(-width // (2 * whole.shape[1])) + 1
    tile = torch.cat([whole, whole.flip(1)], dim=1).repeat(repeats)  # mirrored: no seam
    piece = torch.roll(tile, shifts, dims=(0, 1))[:height, :width]
    return piece - piece.mean()


@cache
def _load(name: str) -> Tensor:
    grey = (
        np.asarray(
            Image.open(packaged("skimage", f"data/{name}.png", "scikit-image")).convert("L"),
            dtype=np.float32,
        )
        / 255
    )
    return torch.from_numpy(grey.copy())


_CUES = ("structural", "perceptual")


@contextmanager
def blinded(codec: SketchFusionCodec, *covered: str) -> Iterator[SketchFusionCodec]:
    """Cover cues of the encoder while the context lasts; decoding is not touched.

    Args:
        codec: comes back as it was, whatever happens inside.
        covered: ``"structural"`` (the encoder gets an empty boundary map), ``"perceptual"`` (an evenly grey picture),
            both or none.

    Raises:
        ArgumentError: another cue.
    """
    if unknown := set(covered) - set(_CUES):
        raise ArgumentError(f"no cue {sorted(unknown)}; there are: {', '.join(_CUES)}.")

    def cover(_: nn.Module, cues: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        image, boundaries = cues
        if "structural" in covered:
            boundaries = torch.zeros_like(boundaries)
        if "perceptual" in covered:
            image = torch.full_like(image, 0.5)
        return image, boundaries

    hook = codec.model.encoder.register_forward_pre_hook(cover)
    try:
        yield codec
    finally:
        hook.remove()


@dataclass(frozen=True)
class Entry:
    """What one way makes of the photo.

    Attributes:
        label: of the way, with the trick if there was one (``"AVIF at 1/2 size"``).
        size: bytes of the complete file; of UTF-8 for the caption.
        image: as decoded, of the photo's size; None for the caption.
    """

    label: str
    size: int
    image: Image.Image | None


def equal_bytes(
    photo: Image.Image,
    caption: str,
    max_bytes: int,
    codec: SketchFusionCodec,
    peers: Sequence[str] = ("JPEG", "AVIF"),
) -> list[Entry]:
    """Code a photo in every way within one budget.

    Args:
        photo: RGB.
        caption: what a person would say of it.
        max_bytes: budget of each file; never exceeded.
        codec: ours; its preview is shown, and its boundary detector draws the bare lines.
        peers: names out of ``PEERS``.

    Raises:
        ArgumentError: the caption is over budget, or no such peer.
        BudgetTooSmall: one of the codecs cannot reach the budget.
        DependencyMissing: one of the peers is not installed.
    """
    spoken = len(caption.encode())
    if spoken > max_bytes:
        raise ArgumentError(f"caption of {spoken} bytes: the budget is {max_bytes}. Say less.")
    if unknown := set(peers) - set(PEERS):
        raise ArgumentError(f"no codec {sorted(unknown)}; there are: {', '.join(PEERS)}.")
    entries = [Entry("text", spoken, None)]
    for name in peers:
        file = encode_at_most(photo, max_bytes, PEERS[name])
        entries.append(Entry(file.label, len(file.data), file.image))
    lines = encode_pics(photo, "", codec.boundaries, max_side=max(photo.size), max_bytes=max_bytes)
    page = to_pil(1 - lines.edge_map.float()).resize(photo.size).convert("RGB")
    entries.append(Entry("bare lines", len(lines.data), page))
    ours = codec.encode(photo, max_bytes=max_bytes).data
    entries.append(Entry("fused sketch", len(ours), codec.decode(ours, "preview").image))
    return entries
