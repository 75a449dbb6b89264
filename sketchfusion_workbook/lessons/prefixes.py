"""How good a picture is when only the start of its file has arrived.

data --cut at n bytes--> decode --> preview --> metrics     for several n
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sketchfusion_lite.bitstream import SECTIONS, parse
from sketchfusion_lite.evaluation.metrics import measure

if TYPE_CHECKING:
    from sketchfusion_lite.codec import SketchFusionCodec

__all__ = ["measure_prefixes", "prefix_lengths"]


def prefix_lengths(data: bytes, count: int = 12) -> list[int]:
    """Lengths at which to cut a whole file: evenly spread, and both sides of every section's end.

    Args:
        data: a whole ``.skf`` file.
        count: lengths between the shortest start that decodes and the whole, at least 2.

    Returns:
        Increasing lengths in bytes, the first without any but the hyper section, the last ``len(data)``.
    """
    used = parse(data).section_bytes
    end = used["header"] + 2 + used["hyper"]
    lengths = {end, *np.linspace(end, len(data), count).astype(int).tolist()}
    for section in SECTIONS[1:]:
        if used[section]:
            end += used[section] + 2
            lengths |= {end - 1, end}
    return sorted(lengths)


def measure_prefixes(
    codec: SketchFusionCodec,
    original: Image.Image,
    data: bytes,
    lengths: Iterable[int] | None = None,
    only: Sequence[str] = ("psnr", "lpips_alex"),
) -> list[tuple[int, dict[str, float]]]:
    """Decode the starts of a file and measure their previews.

    Args:
        codec: made the file.
        original: the photo.
        data: a whole ``.skf`` file.
        lengths: bytes that arrive; None for those of :func:`prefix_lengths`.
        only: metrics.

    Returns:
        (length in bytes, metric -> value), in the order of ``lengths``. Equal pictures are measured once.
    """
    measured: dict[bytes, dict[str, float]] = {}
    points = []
    for length in prefix_lengths(data) if lengths is None else lengths:
        preview = codec.decode(data[:length], "preview").preview
        key = preview.tobytes()
        if key not in measured:
            scores = measure(original, preview, only=only).as_dict()
            measured[key] = {name: scores[name] for name in only}
        points.append((length, measured[key]))
    return points
