"""Parts of the explorer's page, each a function of the snapshot: pictures, captions, tables, the link that saves."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape

from PIL import Image

from ..evaluation.metrics import Metrics
from ..samples import Photo
from ..viz.figures import MEANING
from .state import Snapshot

__all__ = [
    "STYLE",
    "describe",
    "file_name",
    "halves",
    "peer_caption",
    "save_link",
    "score_table",
    "section_table",
]

_COLUMNS = {
    "psnr": ("PSNR dB ↑", 2, max),
    "ms_ssim": ("MS-SSIM ↑", 3, max),
    "lpips_alex": ("LPIPS-Alex ↓", 3, min),
    "lpips_vgg": ("LPIPS-VGG ↓", 3, min),
    "dists": ("DISTS ↓", 3, min),
}

STYLE = """<style>
.skf-explorer{max-width:1180px;gap:10px;overflow:visible}
.skf-explorer .skf-row{flex-flow:row wrap;gap:6px 18px;overflow:visible;align-items:flex-start}
.skf-explorer .skf-row>.skf-panel{flex:1 1 340px;min-width:0;overflow:visible}
.skf-explorer .skf-error{border-left:4px solid #d55e00;padding:4px 10px;background:#fdf1e7;color:#222}
.skf-explorer .skf-progress{width:100%;height:8px;min-height:8px;margin:2px 0}
.skf-explorer .skf-progress .progress{height:8px}
.skf-explorer .skf-status .widget-html-content{line-height:1.4;white-space:normal}
.skf-explorer .skf-peer img{width:100%;height:auto;display:block}
.skf-explorer table.skf-table{border-collapse:collapse;width:100%;font-size:12.5px;line-height:1.5}
.skf-explorer .skf-table caption{text-align:left;font-weight:600;padding:2px 0}
.skf-explorer .skf-table th,.skf-explorer .skf-table td{padding:2px 5px;text-align:right;
 border-bottom:1px solid rgba(128,128,128,.3);white-space:nowrap}
.skf-explorer .skf-table th:first-child{text-align:left;font-weight:normal}
.skf-explorer .skf-table td.skf-bar{width:40%;text-align:left}
.skf-explorer .skf-bar i{display:block;height:11px;background:#0173b2;border-radius:2px}
.skf-explorer button:focus-visible,.skf-explorer a:focus-visible,.skf-explorer [role=slider]:focus-visible,
.skf-explorer .noUi-handle:focus{outline:3px solid #0173b2;outline-offset:1px}
.skf-explorer a.skf-save{display:inline-block;padding:3px 12px;border:1px solid #0173b2;border-radius:3px;
 color:#0173b2;text-decoration:none;font-size:13px}
</style>"""


def halves(
    snapshot: Snapshot, stage: str, against: str
) -> tuple[Image.Image, Image.Image, tuple[str, str]]:
    """Left picture, right picture and their labels; what is not there yet is stood in for by what is.

    Args:
        stage: ``"sketch"``, ``"preview"`` or ``"refined"``.
        against: ``"preview"``, ``"photo"`` or ``"peer"``.
    """
    photo: Photo = snapshot.photo
    right, label = snapshot.stage(stage), stage
    if right is None:
        right, label = snapshot.decoded.preview, "preview, refined picture to come"
    elif stage == "refined":
        done, wanted = snapshot.steps_done, snapshot.settings.steps
        steps = f"{wanted}" if done == wanted else f"{done} of {wanted}"
        noun = "step" if wanted == 1 else "steps"
        label = f"refined, {steps} {noun}, realism {snapshot.settings.realism:g}"
    if against == "preview" and stage != "preview":  # beside itself it would say nothing
        return snapshot.decoded.preview, right, ("preview", label)
    if against == "peer" and snapshot.peer is not None:
        return snapshot.peer.image, right, (snapshot.peer.label, label)
    return photo.image, right, (photo.name, label)


def describe(snapshot: Snapshot) -> str:
    """One line: file, rate, quality, what is being worked on."""
    parts = []
    if snapshot.encoded is not None:
        photo, encoded = snapshot.photo, snapshot.encoded
        parts = [
            f"{photo.name}, {photo.image.width} x {photo.image.height}",
            f"{len(encoded.data):,} of {snapshot.budget:,} bytes",
            f"{encoded.bpp:.4f} bits per pixel",
            f"quality {encoded.quality:.2f} of 5",
            f"preview after {snapshot.preview_seconds:.2f} s on {snapshot.networks}",
        ]
        parts += [f"effort {snapshot.effort}"] if snapshot.effort else []
    parts += [snapshot.remark] if snapshot.remark else []
    parts += [f"{snapshot.activity} ..."] if snapshot.activity else []
    return " · ".join(parts)


def peer_caption(snapshot: Snapshot) -> str:
    """What stands under the other codec's picture."""
    if snapshot.peer is not None:
        return f"{snapshot.peer.label}: {len(snapshot.peer.data):,} bytes of the same budget"
    if snapshot.activity:
        return "AVIF within the same budget: to come"
    return "AVIF makes no file of this photo within the budget, not even at 1/8 size"


def section_table(snapshot: Snapshot) -> str:
    """Every byte of the file by its use, as an HTML table with bars."""
    sections = snapshot.decoded.info.section_bytes
    total = sum(sections.values())
    rows = "".join(
        f'<tr><th scope="row">{MEANING[name]}</th><td>{size:,} B</td><td>{size / total:.1%}</td>'
        f'<td class="skf-bar"><i style="width:{100 * size / total:.1f}%"></i></td></tr>'
        for name, size in sections.items()
    )
    return f'<table class="skf-table"><caption>Where the {total:,} bytes go</caption>{rows}</table>'


def score_table(snapshot: Snapshot) -> str:
    """Metrics of both stages and of the other codec, the best of each column in bold, as an HTML table."""
    sizes = {name: len(snapshot.encoded.data) for name in ("preview", "refined")}
    if snapshot.peer is not None:
        sizes["AVIF"] = len(snapshot.peer.data)
    scores = {name: snapshot.scores.get(name, Metrics()).as_dict() for name in sizes}
    shown = [m for m in _COLUMNS if any(not math.isnan(s[m]) for s in scores.values())]
    head = "".join(f'<th scope="col">{_COLUMNS[metric][0]}</th>' for metric in shown)
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{size:,}</td>'
        + "".join(_score(scores, name, metric) for metric in shown)
        + "</tr>"
        for name, size in sizes.items()
    )
    return (
        '<table class="skf-table"><caption>At equal bytes (bold: best)</caption>'
        f'<tr><th></th><th scope="col">bytes</th>{head}</tr>{rows}</table>'
    )


def _score(scores: Mapping[str, Mapping[str, float]], name: str, metric: str) -> str:
    value, (_, digits, choose) = scores[name][metric], _COLUMNS[metric]
    if math.isnan(value):
        return "<td>–</td>"
    best = choose(s[metric] for s in scores.values() if not math.isnan(s[metric]))
    text = f"{value:.{digits}f}"
    return f"<td><b>{text}</b></td>" if value == best else f"<td>{text}</td>"


def file_name(snapshot: Snapshot) -> str:
    """``coffee-1350.skf``: the photo and the budget."""
    return f"{snapshot.photo.name}-{snapshot.budget}.skf"


def save_link(snapshot: Snapshot) -> str:
    """A link that downloads the file; it carries the bytes, so it works without the server, too."""
    data = base64.b64encode(snapshot.encoded.data).decode("ascii")
    name = escape(file_name(snapshot))
    return (
        f'<a class="skf-save" download="{name}" href="data:application/octet-stream;base64,{data}">'
        f"Download {name} ({len(snapshot.encoded.data):,} bytes)</a>"
    )
