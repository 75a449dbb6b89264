"""Parts of the explorer's page, each a function of the snapshot: pictures, captions, tables, links with the file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.metrics import Metrics
from sketchfusion_lite.links import link

from .state import Snapshot

__all__ = [
    "STYLE",
    "describe",
    "file_name",
    "halves",
    "refiner_note",
    "save_link",
    "score_table",
    "search_note",
    "section_table",
    "share_field",
    "summary",
]

_COLUMNS = {
    "psnr": ("PSNR dB ↑", 2, max),
    "ms_ssim": ("MS-SSIM ↑", 3, max),
    "lpips_alex": ("LPIPS ↓", 3, min),
    "lpips_vgg": ("LPIPS-VGG ↓", 3, min),
    "dists": ("DISTS ↓", 3, min),
}

_WORDS = {
    "header": "header",
    "crc": "checksums",
    "hyper": "where it is busy (hyper)",
    "structure": "first, with the lines (structure)",
    "tone": "what is left (tone)",
}

STYLE = f"<style>{Path(__file__).with_name('explorer.css').read_text('utf-8')}</style>"


def halves(
    snapshot: Snapshot, stage: str, against: str
) -> tuple[Image.Image, Image.Image, tuple[str, str]]:
    """Left picture, right picture and their labels; what is not there yet is stood in for by what is.

    Args:
        stage: ``"sketch"``, ``"preview"`` or ``"refined"``.
        against: ``"preview"``, ``"photo"`` or ``"peer"``.
    """
    photo, _, decoded = snapshot.made
    right, label = snapshot.stage(stage), stage
    if right is None:
        right, label = decoded.image, "preview, refined picture to come"
    elif stage == "refined":
        done, wanted = snapshot.steps_done, snapshot.settings.steps
        steps = f"{wanted}" if done == wanted else f"{done} of {wanted}"
        noun = "step" if wanted == 1 else "steps"
        label = f"refined, {steps} {noun}, realism {snapshot.settings.realism:g}"
    if against == "preview" and stage != "preview":  # beside itself it would say nothing
        return decoded.image, right, ("preview", label)
    if against == "peer" and snapshot.peer is not None:
        return snapshot.peer.image, right, (snapshot.peer.label, label)
    return photo.image, right, (f"photo: {photo.name}", label)


def describe(snapshot: Snapshot) -> str:
    """One line: file, rate, quality, what is being worked on."""
    parts = []
    if snapshot.encoded is not None:
        photo, encoded, _ = snapshot.made
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


def summary(snapshot: Snapshot) -> str:
    """The size of the file in large figures, as HTML."""
    photo, encoded, _ = snapshot.made
    size = len(encoded.data)
    return (
        f'<p class="skf-figure"><b>{size:,}</b> bytes</p>'
        f'<p class="skf-note">{encoded.bpp:.4f} bits per pixel, '
        f"{3 * photo.pixels / size:,.0f} times compressed</p>"
    )


def search_note(snapshot: Snapshot, effort: int, seconds: float | None) -> str:
    """What a search of this effort would cost, or what became of the last one.

    Args:
        effort: that stands on the dial.
        seconds: that it would take, None where nobody knows yet.
    """
    if snapshot.searching:
        return "Searching. Stop keeps the file of before."
    if snapshot.encoded is not None and effort == snapshot.effort:
        return (
            f"This file was searched with effort {effort}." if effort else "The encoder's own file."
        )
    if not effort:
        return "Back to the encoder's own file, at once."
    if seconds is None:
        return "The first picture will tell how long a search takes here."
    return f"Searches a better file of this size: about {_duration(seconds)} here."


def _duration(seconds: float) -> str:
    return (
        f"{max(1, round(seconds, -1 if seconds > 30 else 0)):.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
    )


def refiner_note(snapshot: Snapshot) -> str:
    """How far the refiner went from the preview: a small number says why the two look alike."""
    if snapshot.refined is None:
        return "The refined picture is to come."
    pictures = (snapshot.refined, snapshot.made[2].image)
    levels = np.abs(np.subtract(*(np.asarray(p, np.float32) for p in pictures))).mean()
    return f"It changed the preview by {levels:.1f} of 255 levels (mean)."


def section_table(snapshot: Snapshot) -> str:
    """Every byte of the file by its use, as an HTML table with bars."""
    sections = snapshot.made[2].info.section_bytes
    total = sum(sections.values())
    rows = "".join(
        f'<tr><th scope="row">{_WORDS[name]}</th><td>{size:,} B</td><td>{size / total:.0%}</td>'
        f'<td class="skf-bar"><i style="width:{100 * size / total:.1f}%"></i></td></tr>'
        for name, size in sections.items()
    )
    return f'<table class="skf-table"><caption>Where the {total:,} bytes go</caption>{rows}</table>'


def score_table(snapshot: Snapshot) -> str:
    """Metrics of both stages and of the other codec, the best of each column in bold, as an HTML table."""
    _, encoded, _ = snapshot.made
    sizes = {name: len(encoded.data) for name in ("preview", "refined")}
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
    if snapshot.peer is None:
        lacking = "to come" if snapshot.activity else "none fits this budget, not even at 1/8 size"
        rows += f'<tr><th scope="row">AVIF</th><td colspan="{1 + len(shown)}">{lacking}</td></tr>'
    return (
        '<table class="skf-table"><caption>Nearness to the photo (bold: best)</caption>'
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
    return f"{snapshot.made[0].name}-{snapshot.budget}.skf"


def save_link(snapshot: Snapshot) -> str:
    """A link by which the browser saves the file; it carries the bytes, so it works without the server, too."""
    file = snapshot.made[1].data
    data = base64.b64encode(file).decode("ascii")
    name = escape(file_name(snapshot))
    return (
        f'<a class="skf-save" download="{name}" href="data:application/octet-stream;base64,{data}">'
        f"Download {name} ({len(file):,} bytes)</a>"
    )


def share_field(snapshot: Snapshot, page: str = "") -> str:
    """A field with a link that holds the file, to be copied from, as HTML; a word where the file is too long for one.

    Args:
        page: address of a page that decodes links; empty: the field holds what follows it.
    """
    try:
        text = escape(link(snapshot.made[1].data, page))
    except ArgumentError:
        return '<p class="skf-note">Too long for a link.</p>'
    return (
        f'<label class="skf-share">Copy link<input readonly value="{text}" onclick="this.select()" '
        'title="the whole photo, for the page of make web"></label>'
    )
