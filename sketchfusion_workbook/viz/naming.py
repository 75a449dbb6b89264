"""How codecs of a table are called and drawn in every chart: ours thick and in colour, others grey and by marker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sketchfusion_lite.evaluation.operating import OURS, PEER_NAMES, parse_codec

from .figures import PALETTE

__all__ = ["SHORT", "UP", "is_ours", "label", "plain_label", "shown_codecs", "styles"]

UP = ("psnr", "ms_ssim")  # of the others, less is better
SHORT = {
    "psnr": "PSNR",
    "ms_ssim": "MS-SSIM",
    "lpips_alex": "LPIPS-Alex",
    "lpips_vgg": "LPIPS-VGG",
    "dists": "DISTS",
}

_OURS_STYLES = ((0, "o", "-"), (3, "s", "--"), (2, "D", "-"), (8, "P", "-."), (4, "X", ":"))
_PEER_MARKERS = "v^<>*hpd"


def is_ours(codec: str) -> bool:
    """Whether a codec of a table is a stage of ours."""
    return parse_codec(codec).name in OURS


def label(codec: str) -> str:
    """Words for a codec: ``"refined:steps=2"`` is "ours, refined, steps 2", ``"vvc/2"`` is "VVC at 1/2 size"."""
    spec = parse_codec(codec)
    words = f"ours, {spec.name}" if spec.name in OURS else PEER_NAMES.get(spec.name, spec.name)
    if len(spec.scales) > 1:
        words += ", size chosen"
    elif spec.scales != (1.0,):
        words += f" at 1/{round(1 / spec.scales[0])} size"
    return ", ".join([words, *(f"{key} {value}" for key, value in spec.options)])


def plain_label(codec: str) -> str:
    """The label without the choice of size, where a chart says it once for all."""
    return label(codec).replace(", size chosen", "")


def shown_codecs(rows: Iterable[dict[str, Any]]) -> list[str]:
    """What a chart of all codecs shows: our stages that are pictures, then each peer once.

    A peer is shown at the size chosen for each budget (``/auto``) if the table has it, else at full size. Line
    drawings, the codec that sends lines alone, other data types, steps and settings of the dial are other experiments:
    name them to see them.
    """
    codecs = sorted({row["codec"] for row in rows})
    ours = []
    for codec in codecs:
        spec = parse_codec(codec)
        if spec.name in ("preview", "refined") and {"effort"}.issuperset(dict(spec.options)):
            ours.append(codec)
    peers: dict[str, str] = {}
    for codec in codecs:
        spec = parse_codec(codec)
        if spec.name not in OURS and (len(spec.scales) > 1 or spec.scales == (1.0,)):
            key = f"{spec.name} {spec.options}"
            peers[key] = codec if len(spec.scales) > 1 else peers.get(key, codec)
    return [*ours, *sorted(peers.values())]


def styles(codecs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Line styles for matplotlib, one a codec, told apart by marker, dashes and shade."""
    codecs = list(codecs)
    found: dict[str, dict[str, Any]] = {}
    for index, codec in enumerate(c for c in codecs if is_ours(c)):
        colour, marker, line = _OURS_STYLES[index % len(_OURS_STYLES)]
        found[codec] = {"color": PALETTE[colour], "marker": marker, "linestyle": line}
        found[codec] |= {"linewidth": 2.2, "markersize": 6, "zorder": 4}
    for index, codec in enumerate(c for c in codecs if not is_ours(c)):
        marker = _PEER_MARKERS[index % len(_PEER_MARKERS)]
        found[codec] = {"color": str(0.2 + 0.08 * (index % 4)), "marker": marker}
        found[codec] |= {"linestyle": ("-", "--", ":")[index % 3], "linewidth": 1.0}
        found[codec] |= {"markersize": 5.5, "zorder": 3}
    return {codec: found[codec] for codec in codecs}
