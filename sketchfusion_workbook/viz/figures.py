"""Figures: each takes data, computes its own title's finding where it can, and knows its alt text.

    data --> section_bytes(...) --> matplotlib Figure --> show(...) --> picture in a cell
                                    (label = alt text)

No figure touches pyplot or global settings, so importing this changes nothing elsewhere. Meaning
never rests on colour alone: bars are labelled and hatched, lines have markers, windows numbers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
import seaborn as sns
from IPython.display import Image as NotebookImage
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from .svg import Drawing

__all__ = [
    "Window",
    "comparison",
    "difference_window",
    "panels",
    "rate_curve",
    "raw_pixels",
    "render",
    "say",
    "section_bytes",
    "show",
]

WIDTH = 9.6  # inches
DPI = 88
PALETTE = sns.color_palette("colorblind")
HATCHES = {"header": "xx", "crc": "..", "hyper": "\\\\", "structure": "//", "tone": ""}
COLOURS = {name: PALETTE[i] for name, i in zip(HATCHES, (7, 9, 4, 0, 1), strict=True)}
MEANING = {name: name for name in HATCHES} | {"crc": "checksums"}
AXES = {
    "psnr": "PSNR (dB, higher is better)",
    "ms_ssim": "MS-SSIM (higher is better)",
    "lpips_alex": "LPIPS-Alex (lower is better)",
    "lpips_vgg": "LPIPS-VGG (lower is better)",
    "dists": "DISTS (lower is better)",
}

Window = tuple[int, int, int, int]  # left, top, right, bottom: what PIL's crop takes
Kind = Literal["jpeg", "png"]
P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the workbook's style, and leave everybody else's alone."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        style = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.85)}
        style |= {"axes.titlesize": 10, "figure.titlesize": 12, "hatch.linewidth": 0.6}
        with matplotlib.rc_context(style):
            return draw(*args, **kwargs)

    return styled


def show(figure: Figure | Drawing, kind: Kind = "jpeg") -> None:
    """Display a figure in a notebook, as :func:`render` makes it, or a drawing, as it is."""
    display(figure if isinstance(figure, Drawing) else render(figure, kind))


def say(text: str) -> None:
    """Display text computed from results, as Markdown: prose whose numbers cannot go stale."""
    display(Markdown(text))


def render(figure: Figure, kind: Kind = "jpeg") -> NotebookImage:
    """Make a compressed picture of a figure, with its alt text.

    Args:
        figure: one of this module's; its label becomes the alt text.
        kind: ``"jpeg"`` for photos, ``"png"`` for charts.
    """
    buffer = io.BytesIO()
    smaller: dict[str, Any] = {"quality": 80, "optimize": True} if kind == "jpeg" else {}
    figure.savefig(buffer, format=kind, dpi=DPI, pil_kwargs=smaller)
    data = buffer.getvalue() if kind == "jpeg" else _fewer_colours(buffer)
    return NotebookImage(data, format=kind, alt=figure.get_label())


def raw_pixels(photo: Image.Image, budget: int) -> Figure:
    """The photo beside the most raw pixels that ``budget`` bytes can hold, at three bytes each."""
    ratio = 3 * photo.width * photo.height / budget
    columns, rows = size = [max(1, int(side / math.sqrt(max(1, ratio)))) for side in photo.size]
    stamp = photo.resize(size, Image.Resampling.BOX).resize(photo.size, Image.Resampling.NEAREST)
    return panels(
        {
            f"the photo: {3 * photo.width * photo.height:,} bytes raw": photo,
            f"{columns} x {rows} raw pixels: {3 * columns * rows:,} bytes": stamp,
        },
        f"1 : {ratio:.0f}. Raw pixels for {budget:,} bytes make a postage stamp",
        f"Left: the photo. Right: the same picture made of {columns} x {rows} large square pixels.",
        columns=2,
    )


@_styled
def panels(
    images: Mapping[str, Image.Image],
    title: str,
    alt: str,
    columns: int = 3,
    marked: Window | None = None,
) -> Figure:
    """Pictures side by side, each under its caption.

    Args:
        images: caption -> picture; mode "L" or "RGB".
        title: the finding.
        alt: what a reader who cannot see it should know.
        columns: pictures per row.
        marked: a window to outline in the first picture.
    """
    rows = -(-len(images) // columns)
    first = next(iter(images.values()))
    height = rows * ((WIDTH / columns - 0.1) * first.height / first.width + 0.3) + 0.32
    figure = _figure(height, title, alt)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(images) :]:
        axes.set_axis_off()
    for axes, (caption, image) in zip(grid.flat, images.items(), strict=False):
        _picture(axes, image, caption)
    if marked:
        _outline(grid.flat[0], marked, "")
    return figure


@_styled
def section_bytes(sections: Mapping[str, int], estimated_bytes: float) -> Figure:
    """Every byte of a file by its use, beside the model's own estimate.

    Args:
        sections: ``StreamInfo.section_bytes``; its values sum to the file size.
        estimated_bytes: ideal code length ``-log2 p / 8``.
    """
    total = sum(sections.values())
    largest = max(sections, key=sections.__getitem__)
    title = (
        f"{MEANING[largest].capitalize()} takes {sections[largest] / total:.0%} of the {total:,} bytes; "
        f"header and checksums {(sections['header'] + sections['crc']) / total:.1%}"
    )
    alt = "Bar of bytes by use: " + ", ".join(f"{MEANING[k]} {v}" for k, v in sections.items())
    figure = _figure(2.5, title, f"{alt}; the model's estimate is {estimated_bytes:.0f} bytes.")
    axes = figure.subplots()
    left = 0
    for name, count in sections.items():
        label = f"{MEANING[name]}: {count:,} B"
        style = {"color": COLOURS[name], "hatch": HATCHES[name], "edgecolor": "white"}
        bar = axes.barh(1, count, left=left, height=0.62, label=label, **style)
        text = f"{MEANING[name]}\n{count / total:.0%}" if count > 0.08 * total else ""
        ground = {"facecolor": "white", "alpha": 0.85, "lw": 0}
        axes.bar_label(bar, [text], label_type="center", bbox=ground)
        left += count
    bar = axes.barh(0, estimated_bytes, height=0.36, color="0.75", edgecolor="0.3")
    axes.bar_label(bar, fmt="{:,.1f} bytes", label_type="center")
    axes.set_yticks([0, 1], ["ideal $-\\log_2 p$", "file on disk"])
    axes.set_xlabel("bytes")
    axes.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=len(sections), frameon=False)
    sns.despine(ax=axes, left=True)
    return figure


@_styled
def comparison(
    pictures: Mapping[str, Image.Image], windows: Mapping[str, Window], title: str
) -> Figure:
    """Whole pictures above, the windows that tell them apart enlarged below.

    Args:
        pictures: caption -> picture of one common size; the original first.
        windows: what the window shows -> where it is.
        title: the finding.
    """
    first = next(iter(pictures.values()))
    cell = WIDTH / len(pictures)
    heights = [first.height / first.width]
    heights += [(bottom - top) / (right - left) for left, top, right, bottom in windows.values()]
    alt = f"Columns: {', '.join(pictures)}. Rows: the whole picture; {'; '.join(windows)}."
    figure = _figure((cell - 0.1) * sum(heights) + 0.28 * len(heights) + 0.35, title, alt)
    grid = figure.subplots(len(heights), len(pictures), height_ratios=heights, squeeze=False)
    for column, (caption, picture) in enumerate(pictures.items()):
        _picture(grid[0, column], picture, caption)
        for row, (what, window) in enumerate(windows.items(), start=1):
            _outline(grid[0, column], window, str(row))
            note = f"{row}: {what}" if column == 0 else ""
            _picture(grid[row, column], picture.crop(window), note)
    return figure


@_styled
def rate_curve(
    curve: Sequence[tuple[float, Mapping[str, float]]],
    others: Mapping[str, tuple[float, Mapping[str, float]]],
    title: str,
    metrics: Sequence[str] = ("psnr", "lpips_alex"),
) -> Figure:
    """Metrics over rate for one model, with single points of other codecs.

    Args:
        curve: (bits per pixel, metric -> value) of each file.
        others: codec -> the same for its one file.
        title: the finding.
        metrics: one chart each, out of ``AXES``.
    """
    bpps, first, last = [bpp for bpp, _ in curve], curve[0][1], curve[-1][1]
    ranges = "; ".join(f"{AXES[m]} from {first[m]:.3g} to {last[m]:.3g}" for m in metrics)
    alt = f"Curves over {bpps[0]:.3f} to {bpps[-1]:.3f} bits per pixel: {ranges}."
    figure = _figure(2.9, title, alt)
    grid = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, name in zip(grid, metrics, strict=True):
        values = [scores[name] for _, scores in curve]
        axes.plot(bpps, values, color=PALETTE[0], marker="o", label="SketchFusion-Lite, one model")
        for index, (codec, (bpp, points)) in enumerate(others.items(), start=1):
            style = {"color": PALETTE[index % 10], "marker": "sDv^"[index % 4], "markersize": 8}
            axes.plot([bpp], [points[name]], linestyle="none", label=codec, **style)
        axes.set(xlabel="file size (bits per pixel)", ylabel=AXES[name])
        sns.despine(ax=axes)
    grid[0].legend(frameon=True, fontsize="small")
    return figure


def difference_window(
    a: Image.Image, b: Image.Image, size: tuple[int, int], avoid: Window | None = None
) -> Window:
    """Window in which two pictures differ most: largest mean absolute difference.

    Args:
        a, b: two pictures of one size.
        size: width and height of the window; cut to the picture's.
        avoid: a window that the result must not overlap, if there is room beside it.
    """
    width, height = min(size[0], a.width), min(size[1], a.height)
    pair = [np.asarray(image.convert("RGB"), dtype=np.float64) for image in (a, b)]
    total = np.zeros((a.height + 1, a.width + 1))  # integral image
    total[1:, 1:] = np.abs(pair[0] - pair[1]).sum(axis=2).cumsum(axis=0).cumsum(axis=1)
    bands = total[height:] - total[:-height]  # (H - height + 1, W + 1)
    sums = bands[:, width:] - bands[:, :-width]  # (H - height + 1, W - width + 1)
    if avoid is not None:
        left, top, right, bottom = avoid
        free = sums.copy()
        free[max(0, top - height + 1) : bottom, max(0, left - width + 1) : right] = -1
        sums = free if free.max() >= 0 else sums
    top, left = (int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
    return left, top, left + width, top + height


# --------------------------------------------------------------------------------------------------
# Parts


def _figure(height: float, title: str, alt: str) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    figure.set_label(alt)
    return figure


def _fewer_colours(png: io.BytesIO) -> bytes:
    """A chart in 128 colours: a third of the bytes, and no difference to see."""
    small = io.BytesIO()
    Image.open(png).convert("RGB").quantize(128).save(small, "PNG", optimize=True)
    return small.getvalue()


def _bare(axes: Axes, caption: str) -> None:
    axes.set_title(caption)
    axes.set_axis_off()


def _picture(axes: Axes, image: Image.Image, caption: str) -> None:
    _bare(axes, caption)
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)


def _outline(axes: Axes, window: Window, number: str) -> None:
    left, top, right, bottom = window
    for colour, width in (("black", 3.0), ("white", 1.4)):  # seen on any ground
        box = Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=width)
        axes.add_patch(box)
    style = {"facecolor": "white", "edgecolor": "black", "pad": 1.5, "lw": 0.8}
    axes.text(left, top, number, fontsize=8, ha="left", va="top", bbox=style)
