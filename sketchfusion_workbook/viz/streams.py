"""Views of a stream: what each byte of a ``.skf`` file is, and where in the picture its bits go.

    data --> dissect --> [Field(section, start, stop, meaning), ...] --> hexdump --> text
                          (they tile the data: no byte without an owner)

Same manners as :mod:`.figures`: a title that states the finding, alt text as the figure's label, and no meaning that
rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from sketchfusion_lite.bitstream import SECTIONS, WORD_BYTES, parse

from .figures import (
    AXES,
    COLOURS,
    HATCHES,
    MEANING,
    PALETTE,
    WIDTH,
    _bare,
    _figure,
    _picture,
    _styled,
)

__all__ = ["Field", "bit_maps", "code_lengths", "dissect", "hexdump", "prefix_quality"]


@dataclass(frozen=True)
class Field:
    """Some bytes of a stream that belong together.

    Attributes:
        section: ``"header"``, ``"crc"``, ``"hyper"``, ``"structure"`` or ``"tone"``: ``StreamInfo``'s keys.
        start, stop: offsets in bytes; ``data[start:stop]`` are the bytes.
        meaning: in words, with the value.
    """

    section: str
    start: int
    stop: int
    meaning: str


def dissect(data: bytes, name: str = "stream", keep_going: bool = False) -> list[Field]:
    """Every field of a stream, in order; together they are all of ``data``.

    Args:
        data: a whole ``.skf`` file, or the start of one.
        name: what error messages call it.
        keep_going: point at a damaged structure or tone section instead of raising.

    Raises:
        StreamError: not a stream, corrupt, or too short for header and hyper section.
    """
    stream = parse(data, name=name, keep_going=keep_going)
    header = stream.header
    fields = [
        Field("header", 0, 2, f"magic {chr(data[0])!r}, format version {data[1] & 0x0F}"),
        Field("header", 2, 4, f"model id {header.model_id:#06x}, little endian"),
        Field("header", 4, 5, f"quality {header.quality:.2f} ({header.quality_index} of 255)"),
    ]
    labels = ["width {} pixels", "height {} pixels", *(f"{s} has {{}} words" for s in SECTIONS)]
    words = []
    start = 5
    for label in labels:  # five varints: seven bits a byte, the least significant first
        stop = start + 1
        while data[stop - 1] & 0x80:
            stop += 1
        value = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data[start:stop]))
        fields.append(Field("header", start, stop, label.format(value)))
        words.append(value)
        start = stop
    fields.append(Field("crc", start, start + 2, "CRC-16 of header and hyper: agrees"))
    start += 2
    for section, count in zip(SECTIONS, words[2:], strict=True):
        stop = min(start + WORD_BYTES * count, len(data))
        if stop > start:
            cut = "" if stop == start + WORD_BYTES * count else ", cut short"
            state = ", first the coder's state of 8" if section == "hyper" else ""
            fields.append(Field(section, start, stop, f"{stop - start:,} bytes{state}{cut}"))
        start = stop
        stop = min(start + 2, len(data))
        if section != "hyper" and count and stop > start:
            verdict = "agrees"
            if section in stream.missing:
                verdict = "differs" if section in stream.damaged else "of no use"
            meaning = f"CRC-16 of all before and {section}: {verdict}"
            fields.append(Field("crc", start, stop, meaning))
            start = stop
    return fields


def hexdump(data: bytes, rows: int = 2, name: str = "stream", keep_going: bool = False) -> str:
    """An annotated hex dump, one field at a time.

    Args:
        data: a whole ``.skf`` file, or the start of one.
        rows: lines of 16 bytes shown at each end of a long section; at least 1.
        name: what error messages call it.
        keep_going: see :func:`dissect`.

    Raises:
        StreamError: see :func:`dissect`.
    """
    lines = []
    for field in dissect(data, name, keep_going):
        starts = list(range(field.start, field.stop, 16))
        shown = starts if len(starts) <= 2 * rows + 1 else [*starts[:rows], None, *starts[-rows:]]
        for at in shown:
            if at is None:
                skipped = 16 * (len(starts) - 2 * rows)
                lines.append(f"  ...  {f'{skipped:,} bytes of the same section':<47}  |")
                continue
            digits = data[at : min(at + 16, field.stop)].hex(" ")
            note = f"{field.section:<9}  {field.meaning}" if at == field.start else ""
            lines.append(f"{at:6d}  {digits:<47}  | {note}".rstrip())
    return "\n".join(lines)


@_styled
def bit_maps(photo: Image.Image, maps: Mapping[str, np.ndarray], title: str) -> Figure:
    """Where in the picture the bits go: the photo beside one map for each section.

    Args:
        photo: the original.
        maps: name -> ``(h, w)`` bits per place; places cover the picture evenly.
        title: the finding.
    """
    sums = ", ".join(f"{name} {grid.sum():,.0f} bits" for name, grid in maps.items())
    alt = f"The photo, and maps of the bits spent on each place of it: {sums}; bright places cost most."
    columns = 1 + len(maps)
    height = (WIDTH - 0.8) / columns * photo.height / photo.width + 0.75
    figure = _figure(height, title, alt)
    grid = figure.subplots(1, columns)
    _picture(grid[0], photo, "the photo")
    top = max(float(np.quantile(bits, 0.995)) for bits in maps.values())
    for axes, (name, bits) in zip(grid[1:], maps.items(), strict=True):
        _bare(axes, f"{name}: {bits.sum() / 8:,.0f} bytes")
        drawn = axes.imshow(bits, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
    figure.colorbar(drawn, ax=list(grid[1:]), fraction=0.035, pad=0.02, label="bits per place")
    return figure


@_styled
def code_lengths(models: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """What the same picture costs under different models, as stacked bars.

    Args:
        models: name -> (section -> bytes); sections out of hyper, structure, tone.
        title: the finding.
    """
    totals = {name: sum(parts.values()) for name, parts in models.items()}
    alt = "Bars of bytes: " + "; ".join(f"{name} {total:,.0f}" for name, total in totals.items())
    figure = _figure(0.46 * len(models) + 1.2, title, f"{alt}.")
    axes = figure.subplots()
    used = [s for s in SECTIONS if any(parts.get(s) for parts in models.values())]
    left = np.zeros(len(models))
    for section in used:
        sizes = np.array([parts.get(section, 0.0) for parts in models.values()])
        style = {"color": COLOURS[section], "hatch": HATCHES[section], "edgecolor": "white"}
        axes.barh(range(len(models)), sizes, left=left, label=MEANING[section], **style)
        left += sizes
    for row, total in enumerate(totals.values()):
        axes.annotate(f" {total:,.0f}", (total, row), va="center")
    axes.set_yticks(range(len(models)), list(models))
    axes.invert_yaxis()
    axes.set_xlabel("bytes, ideal code length")
    axes.set_xlim(0, 1.1 * max(totals.values()))
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=len(used), frameon=False)
    sns.despine(ax=axes, left=True)
    return figure


@_styled
def prefix_quality(
    prefixes: Sequence[tuple[int, Mapping[str, float]]],
    whole: Sequence[tuple[int, Mapping[str, float]]],
    title: str,
) -> Figure:
    """Quality over the bytes of one file that arrived, beside whole files of other sizes.

    Args:
        prefixes: (bytes that arrived, metric -> value), in order.
        whole: the same for files that were made for their size.
        title: the finding.
    """
    metrics = list(prefixes[0][1])
    first, last = prefixes[0], prefixes[-1]
    ranges = "; ".join(f"{AXES[m]} from {first[1][m]:.3g} to {last[1][m]:.3g}" for m in metrics)
    alt = f"Stairs over {first[0]:,} to {last[0]:,} bytes of one file: {ranges}; crosses: whole files."
    figure = _figure(2.9, title, alt)
    for axes, name in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        sizes, values = [n for n, _ in prefixes], [scores[name] for _, scores in prefixes]
        style = {"color": PALETTE[0], "marker": "o", "drawstyle": "steps-post"}
        axes.plot(sizes, values, label="one file, cut short", **style)
        style = {"color": PALETTE[1], "marker": "X", "markersize": 8, "linestyle": "--"}
        sizes, values = [n for n, _ in whole], [scores[name] for _, scores in whole]
        axes.plot(sizes, values, label="whole files", **style)
        axes.set_xlabel("bytes")
        axes.set_ylabel(AXES[name])
        axes.set_xlim(0)
        sns.despine(ax=axes)
    axes.legend(frameon=True, fontsize="small")
    return figure
