"""One photo, five ways to spend the same bytes: words, two classical codecs, bare lines, our sketch.

photo, caption, max_bytes --> text | JPEG | AVIF | lines | ours --> Entry(label, size, image), all within the budget
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.peers import PEERS, encode_at_most
from sketchfusion_lite.evaluation.pics import encode_pics
from sketchfusion_lite.images import to_pil

__all__ = ["Entry", "equal_bytes"]


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
