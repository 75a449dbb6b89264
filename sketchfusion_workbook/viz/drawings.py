"""Drawings of the ideas: the pipeline, the fusion gate, the four passes, the refiner's network, its sampler.

    codec.model.config --> gate(...) --> Drawing --show(...)--> boxes and arrows in a cell

Every size on a drawing is read from the configuration that it is given, so it is that of the codec at hand.
"""

from __future__ import annotations

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.model import ModelConfig
from sketchfusion_lite.refiner import SHUFFLE, RefinerConfig
from sketchfusion_lite.sampler import flow_times
from sketchfusion_lite.weights_io import load_codec_weights

from .svg import WIDTH, Drawing, Point, arrow, box, draw, grid, label

__all__ = ["PARTS", "gate", "passes", "pipeline", "sampler", "unet"]

PARTS = ("photo", "cues", "fusion", "latent", "symbols", "file", "sketch", "preview", "refined")

_BOX = (128, 62)
_LEFT, _COLUMN = 8, 148  # of the first box; from one box to the next
_CENTRE = _BOX[0] / 2


def pipeline(here: str = "", weights: str = "") -> Drawing:
    """From the photo to the file, and from the file to three pictures.

    Args:
        here: the parts, out of ``PARTS`` and divided by spaces, that carry the words "you are here".
        weights: file of the codec whose sizes are shown; empty for the shipped one.

    Raises:
        ArgumentError: ``here`` names another part.
        WeightsError: the weights are missing, damaged, or not a codec.
    """
    marked = here.split()
    if unknown := [part for part in marked if part not in PARTS]:
        raise ArgumentError(f"here={unknown[0]!r}: choose out of {', '.join(PARTS)}.")
    notes = _notes(ModelConfig.from_dict(load_codec_weights(weights or None)[1]))
    row, top = 104, 32
    places = [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1), (0, 2), (1, 2), (2, 2)]
    corners = {
        part: (_LEFT + column * _COLUMN, top + line * row)
        for part, (column, line) in zip(PARTS, places, strict=True)
    }
    parts = [label((_LEFT, 20), "Sender", "title")]
    parts += [label((_LEFT + 130, top + 2 * row - 8), "Receiver", "title")]
    for part, corner in corners.items():
        kind = "here" if part in marked else "file" if part == "file" else "box"
        parts.append(box(corner, _BOX, part, notes[part], kind))
    for line, direction in ((0, 1), (1, -1)):  # there, and back
        y = top + line * row + _BOX[1] / 2
        for column in (0, 1):
            ends = _LEFT + column * _COLUMN + _BOX[0] + 1, _LEFT + (column + 1) * _COLUMN - 1
            parts.append(arrow(*((x, y) for x in ends[::direction])))
    down = _LEFT + 2 * _COLUMN + 112
    parts.append(arrow((down, top + _BOX[1] + 1), (down, top + row - 1)))
    start, bus, end = top + row + _BOX[1] + 1, top + row + _BOX[1] + 18, top + 2 * row - 1
    for column in range(3):
        x = _LEFT + column * _COLUMN + 112
        parts.append(arrow((_LEFT + 112, start), (_LEFT + 112, bus), (x, bus), (x, end)))
    y = top + 2 * row + _BOX[1] / 2
    parts.append(arrow((_LEFT + _COLUMN + _BOX[0] + 1, y), (_LEFT + 2 * _COLUMN - 1, y)))
    for part in marked:
        x, y = corners[part][0] + 4, corners[part][1] + _BOX[1] - 4
        parts.append(
            f'<rect class="pill" x="{x:g}" y="{y:g}" width="92" height="16" rx="8"/>'
            + label((x + 46, y + 12), "you are here", "tag")
        )
    alt = (
        "The pipeline. Sender: photo, cues, fusion, latent, symbols, file. Receiver, from the file: sketch, preview, "
        "and from both preview and file the refined picture."
    )
    alt += f" You are here: {', '.join(marked)}." if marked else ""
    return draw(parts, top + 2 * row + _BOX[1] + 18, alt)


def _notes(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """What stands below the name of each part."""
    hyper = 0 if config.context == "factorised" else config.hyper_channels
    fused = {"fused": "a gate mixes them", "none": "no cues here"}
    return {
        "photo": ("3 × H × W",),
        "cues": ("structural: lines", "perceptual: colour"),
        "fusion": (
            fused.get(config.cues, f"{config.cues} only"),
            f"{config.encoder_widths[0]} × H/4 × W/4",
        ),
        "latent": (f"{config.latent_channels} × H/16 × W/16",),
        "symbols": (
            f"{config.structure_channels} structure",
            f"{config.tone_channels} tone, {hyper} hyper",
        ),
        "file": ("hyper, structure,", "tone"),
        "sketch": ("from structure",),
        "preview": ("a small decoder", f"widths {', '.join(map(str, config.decoder_widths))}"),
        "refined": ("from preview", "and latent"),
    }


def gate(config: ModelConfig) -> Drawing:
    """The fusion gate: two cues, a weight for each place and channel, their mixture.

    Args:
        config: of the codec, ``codec.model.config``.
    """
    width = config.encoder_widths[0]
    size, rows = f"{width} × H/4 × W/4", (8, 98, 198, 298)
    left, middle, right = (_LEFT + column * _COLUMN for column in range(3))
    held = {"structural": "held at 1", "perceptual": "held at 0", "none": "not in this codec"}
    works = held.get(config.cues, f"1×1: {2 * width} → {width}"), "sigmoid: 0 to 1"
    corners = {
        "boundaries": (left, rows[0]), "photo": (right, rows[0]), "structural cue": (left, rows[1]),
        "perceptual cue": (right, rows[1]), "gate g": (middle, rows[2]), "× g": (left, rows[2]),
        "× (1 − g)": (right, rows[2]), "fused": (middle, rows[3]),
    }  # fmt: skip
    notes = {
        "boundaries": ("1 × H × W",), "photo": ("3 × H × W",), "structural cue": (size,), "perceptual cue": (size,),
        "gate g": works, "× g": ("structural cue",), "× (1 − g)": ("perceptual cue",), "fused": (size, "sum of both"),
    }  # fmt: skip
    parts = [
        box(corner, _BOX, name, notes.get(name, ()), "here" if name == "gate g" else "box")
        for name, corner in corners.items()
    ]
    for column in (left, right):
        x, inwards = column + _CENTRE, 1 if column == left else -1
        for above, below in ((rows[0], rows[1]), (rows[1], rows[2])):
            parts.append(arrow((x, above + _BOX[1] + 1), (x, below - 1)))
        # From the cue into the gate, from the gate to its product, from the product into the sum.
        edge = column + (_BOX[0] + 1 if inwards == 1 else -1)
        y, top = rows[1] + _BOX[1] / 2, middle + _CENTRE - 24 * inwards
        parts.append(arrow((edge, y), (top, y), (top, rows[2] - 1)))
        y, side = rows[2] + _BOX[1] / 2, middle + (-1 if inwards == 1 else _BOX[0] + 1)
        parts.append(arrow((side, y), (edge, y)))
        y, side = rows[3] + _BOX[1] / 2, middle + (-1 if inwards == 1 else _BOX[0] + 1)
        parts.append(arrow((x, rows[2] + _BOX[1] + 1), (x, y), (side, y)))
    alt = (
        f"The fusion gate. Structural and perceptual cue, {width} channels each, enter a 1 by 1 convolution and a "
        "sigmoid; the gate g weighs the structural cue by g, the perceptual cue by 1 minus g, and their sum is fused."
    )
    return draw(parts, rows[3] + _BOX[1] + 8, alt)


def passes(config: ModelConfig) -> Drawing:
    """Hyper latent and the four passes of the checkerboard: what each decodes, and what it knows.

    Args:
        config: of the codec, ``codec.model.config``. Of a model without tone or without context, what it lacks is
            left out.
    """
    sees, hyper = config.context == "checkerboard", config.context != "factorised"
    names = [("structure", config.structure_channels), ("tone", config.tone_channels)]
    known = ["hyper" if hyper else "the quality"]
    parts = [label((_LEFT, 22), "First: hyper" if hyper else "No hyper latent", "title")]
    if hyper:
        parts.append(grid((_LEFT, 32), 32, ["ooo", "ooo"]))
        notes = (
            f"{config.hyper_channels} × H/64 × W/64",
            "what each region is like:",
            "all that follows knows it",
        )
        parts += [label((_LEFT + 112, 50 + 18 * n), note, "left") for n, note in enumerate(notes)]
    number, y = 0, 122 if hyper else 42
    for name, channels in names:
        for half, rows in enumerate((["o.o.o.", ".o.o.o"] * 2, ["#o#o#o", "o#o#o#"] * 2)):
            if not channels:
                continue
            number += 1
            x = _LEFT + half * 222
            others = "the others" if half else "anchors"
            parts.append(label((x, y), f"{number} · {name}, {others}", "title"))
            parts.append(grid((x, y + 10), 16, rows))
            told = [*known, f"its {'anchors'}"] if half and sees else known if sees else known[:1]
            notes = f"{channels} channels", "knows", *told
            parts += [
                label((x + 104, y + 22 + 15 * n), note, "left") for n, note in enumerate(notes)
            ]
        known.append(name)
        y += 106 if channels else 0
    for x, letter, text in (
        (_LEFT, "o", "decoded now"),
        (_LEFT + 130, "#", "known"),
        (_LEFT + 222, ".", "not yet"),
    ):
        parts += [grid((x, y - 10), 14, [letter]), label((x + 20, y + 2), text, "left")]
    alt = (
        f"The passes of the entropy model{', after the hyper latent' if hyper else ''}: for each of "
        f"{' and '.join(name for name, channels in names if channels)} first the anchors, the black fields of a "
        f"checkerboard, then the others{', which see the anchors' if sees else ''}."
    )
    return draw(parts, y + 16, alt)


def unet(config: RefinerConfig) -> Drawing:
    """The refiner's U-Net: down on the left, the latent at the bottom, up on the right, twice.

    Args:
        config: of the refiner, ``codec.refiner.unet.config``.
    """
    (w4, w8, w16), (d4, d8, d16), (down4, down8) = config.widths, config.depths, config.down_depths
    rows, right = (24, 120, 216, 312), WIDTH - _LEFT - _BOX[0]
    middle = (WIDTH - _BOX[0]) / 2
    low = rows[3]

    def level(width: int, stride: int, count: int) -> tuple[str, str]:
        return f"{width} × H/{stride} × W/{stride}", f"{count} block{'s' * (count > 1)}"

    parts = [
        f'<rect class="empty" x="{right - 9 + 4 * n}" y="{rows[1] - 26 + 4 * n}" width="142" height="196" rx="6"/>'
        for n in (1, 0)
    ]
    parts = [
        parts[0],
        parts[1],
        label((right + _CENTRE - 4, rows[1] - 10), "twice: two ends", "tag"),
    ]
    boxes: list[tuple[Point, str, tuple[str, ...], str]] = [
        (
            (_LEFT, rows[0]),
            "noisy picture",
            ("and preview", f"6 → {6 * SHUFFLE**2} channels"),
            "box",
        ),
        ((right, rows[0]), "picture", ("3 × H × W",), "file"),
        ((_LEFT, rows[1]), "down", level(w4, 4, down4), "box"),
        ((right, rows[1]), "up", level(w4, 4, d4), "box"),
        ((_LEFT, rows[2]), "down", level(w8, 8, down8), "box"),
        ((right, rows[2]), "up", level(w8, 8, d8), "box"),
        ((middle, low), "middle", level(w16, 16, d16), "box"),
        ((middle, low + 96), "latent", (f"{config.latent_channels} × H/16 × W/16",), "file"),
    ]
    parts += [box(at, _BOX, name, notes, kind) for at, name, notes, kind in boxes]
    for above, below in ((rows[0], rows[1]), (rows[1], rows[2])):
        parts.append(arrow((_LEFT + _CENTRE, above + 63), (_LEFT + _CENTRE, below - 1)))
        x = right + _CENTRE + 48
        parts.append(arrow((x, below - 1), (x, above + 63)))
    for y in (rows[1] + 31, rows[2] + 31):
        parts.append(arrow((_LEFT + _BOX[0] + 1, y), (right - 1, y)))
        parts.append(label((WIDTH / 2 - 4, y - 6), "skip"))
    parts.append(
        arrow((_LEFT + _CENTRE, rows[2] + 63), (_LEFT + _CENTRE, low + 31), (middle - 1, low + 31))
    )
    parts.append(
        arrow(
            (middle + _BOX[0] + 1, low + 31),
            (right + _CENTRE, low + 31),
            (right + _CENTRE, rows[2] + 63),
        )
    )
    parts.append(arrow((middle + _CENTRE, low + 95), (middle + _CENTRE, low + 63)))
    parts.append(label((_LEFT, low + 122), "Noise level and quality", "left"))
    parts.append(label((_LEFT, low + 138), "set a bias in every block.", "left"))
    alt = (
        f"The refiner's U-Net. Noisy picture and preview go down through {w4} channels at stride 4 and {w8} at stride "
        f"8 to {w16} at stride 16, where the latent is added; then up again, with skips from the left, to the picture. "
        "The way up exists twice, for the faithful and the realistic end."
    )
    return draw(parts, low + 96 + _BOX[1] + 8, alt)


def sampler(config: RefinerConfig, steps: int = 4) -> Drawing:
    """The sampler: start at preview and noise, ask the network, go to the next noise level, ask again.

    Args:
        config: of the refiner, ``codec.refiner.unet.config``.
        steps: 1 to 8.

    Raises:
        ArgumentError: another number of steps.
    """
    times = [*flow_times(steps), 0.0]
    left, middle, right = (_LEFT + column * _COLUMN for column in range(3))
    top, loop, line = 8, 104, 254
    parts = [
        box((left, top), _BOX, "preview", ("3 × H × W",), "file"),
        box((middle, top), _BOX, "start, t = 1", ("preview", f"+ {config.noise:g} · noise")),
        box((right, top), _BOX, "noise", ("seed: checksum", "of the file"), "file"),
        box((middle, loop), _BOX, "picture at t", ("photo and start,", "mixed (1−t) : t")),
        box((right, loop), _BOX, "network", ("U-Net: guesses", "the photo"), "here"),
        box((left, loop), _BOX, "next level", (f"t − 1/{steps}: nearer", "to the guess")),
        arrow((left + _BOX[0] + 1, top + 31), (middle - 1, top + 31)),
        arrow((right - 1, top + 31), (middle + _BOX[0] + 1, top + 31)),
        arrow((middle + _CENTRE, top + 63), (middle + _CENTRE, loop - 1)),
        arrow((middle + _BOX[0] + 1, loop + 31), (right - 1, loop + 31)),
        arrow((left + _BOX[0] + 1, loop + 31), (middle - 1, loop + 31)),
    ]
    under = loop + _BOX[1] + 20
    parts.append(
        arrow(
            (right + _CENTRE, loop + 63),
            (right + _CENTRE, under),
            (left + _CENTRE, under),
            (left + _CENTRE, loop + 63),
        )
    )
    parts.append(label((middle + _CENTRE, under - 6), "guess of the photo"))
    passed = "once" if steps == 1 else f"{steps} times"
    parts.append(label((_LEFT, line - 32), f"Noise levels: the network is asked {passed}", "title"))
    start, end = _LEFT + 14, WIDTH - _LEFT - 14
    parts.append(arrow((start, line), (end, line), kind="plain"))
    for t in times:
        x = start + (1 - t) * (end - start)
        parts.append(
            f'<circle class="{"here" if t else "file"}" cx="{x:g}" cy="{line}" r="{5 + 7 * t:g}"/>'
        )
        parts.append(label((x, line + 30), f"{t:.2g}"))
    parts.append(label((start - 12, line + 48), "t = 1: preview and noise", "left"))
    parts.append(label((end - 44, line + 48), "t = 0: the picture"))
    alt = (
        "The sampler. Preview and noise make the start at noise level 1. The network guesses the photo; the picture "
        f"moves towards the guess, to the next of the levels {', '.join(f'{t:.2g}' for t in times)}; then the network "
        "is asked again."
    )
    return draw(parts, line + 58, alt)
