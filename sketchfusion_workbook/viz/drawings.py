"""Drawings of the ideas: the pipeline, the fusion gate, the four passes, the refiner's network, its sampler.

    codec.model.config --> gate(...) --> Drawing --show(...)--> boxes and arrows in a cell

Every size on a drawing is read from the configuration that it is given, so it is that of the codec at hand.
"""

from __future__ import annotations

from itertools import pairwise

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.model import ModelConfig
from sketchfusion_lite.refiner import SHUFFLE, RefinerConfig
from sketchfusion_lite.sampler import flow_times
from sketchfusion_lite.weights_io import load_codec_weights

from .svg import WIDTH, Box, Drawing, arrow, draw, grid, label, link

__all__ = ["PARTS", "gate", "passes", "pipeline", "sampler", "unet"]

PARTS = ("photo", "cues", "fusion", "latent", "symbols", "file", "sketch", "preview", "refined")

_COLUMNS = (8, 156, 304)  # left edges of the boxes


def _size(channels: int, stride: int) -> str:
    return f"{channels}×H/{stride}×W/{stride}"


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
    places = [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1), (0, 2), (1, 2), (2, 2)]
    boxes = {}
    for part, (column, row) in zip(PARTS, places, strict=True):
        kind = "here" if part in marked else "file" if part == "file" else "box"
        boxes[part] = Box(_COLUMNS[column], 32 + 104 * row, part, notes[part], kind)
    parts = [label((8, 20), "Sender", "title"), label((138, 232), "Receiver", "title")]
    parts += map(str, boxes.values())
    for side, chain in (("right", PARTS[:3]), ("left", PARTS[3:6]), ("right", PARTS[7:])):
        other = "left" if side == "right" else "right"
        parts += [link(boxes[a], side, boxes[b], other) for a, b in pairwise(chain)]
    parts.append(link(boxes["fusion"], "bottom", boxes["latent"], "top", 48))
    x, start = boxes["file"].side("bottom", 48)
    for part in PARTS[6:]:
        end = boxes[part].side("top", 48)
        parts.append(arrow((x, start), (x, start + 17), (end[0], start + 17), end))
    for box in (boxes[part] for part in marked):
        x, y = box.x + 4, box.y + box.height - 4
        parts.append(f'<rect class="pill" x="{x:g}" y="{y:g}" width="92" height="16" rx="8"/>')
        parts.append(label((x + 46, y + 12), "you are here", "tag"))
    alt = (
        "The pipeline. Sender: photo, cues, fusion, latent, symbols, file. Receiver, from the file: sketch, preview, "
        "and from both preview and file the refined picture."
    )
    alt += f" You are here: {', '.join(marked)}." if marked else ""
    return draw(parts, 320, alt)


def _notes(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """What stands below the name of each part."""
    hyper = 0 if config.context == "factorised" else config.hyper_channels
    fused = {"fused": "a gate mixes them", "none": "no cues here"}
    return {
        "photo": ("3×H×W",),
        "cues": ("structural: lines", "perceptual: colour"),
        "fusion": (
            fused.get(config.cues, f"{config.cues} only"),
            _size(config.encoder_widths[0], 4),
        ),
        "latent": (_size(config.latent_channels, 16),),
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
    size, (left, middle, right) = _size(width, 4), _COLUMNS
    held = {"structural": "held at 1", "perceptual": "held at 0", "none": "not in this codec"}
    works = held.get(config.cues, f"1×1: {2 * width} → {width}"), "sigmoid: 0 to 1"
    lines, photo = Box(left, 8, "boundaries", ["1×H×W"]), Box(right, 8, "photo", ["3×H×W"])
    structural = Box(left, 98, "structural cue", [size])
    perceptual = Box(right, 98, "perceptual cue", [size])
    weight = Box(middle, 198, "gate g", works, "here")
    times_g = Box(left, 198, "× g", ["structural cue"])
    times_rest = Box(right, 198, "× (1 − g)", ["perceptual cue"])
    fused = Box(middle, 298, "fused", [size, "sum of both"])
    parts = [lines, photo, structural, perceptual, weight, times_g, times_rest, fused]
    ways = [
        link(lines, "bottom", structural, "top"),
        link(photo, "bottom", perceptual, "top"),
        link(structural, "bottom", times_g, "top"),
        link(perceptual, "bottom", times_rest, "top"),
        link(structural, "right", weight, "top", -24),
        link(perceptual, "left", weight, "top", 24),
        link(weight, "left", times_g, "right"),
        link(weight, "right", times_rest, "left"),
        link(times_g, "bottom", fused, "left"),
        link(times_rest, "bottom", fused, "right"),
    ]
    alt = (
        f"The fusion gate. Structural and perceptual cue, {width} channels each, enter a 1 by 1 convolution and a "
        "sigmoid; the gate g weighs the structural cue by g, the perceptual cue by 1 minus g, and their sum is fused."
    )
    return draw([*map(str, parts), *ways], 368, alt)


def passes(config: ModelConfig) -> Drawing:
    """Hyper latent and the four passes of the checkerboard: what each decodes, and what it knows.

    Args:
        config: of the codec, ``codec.model.config``. Of a model without tone or without context, what it lacks is
            left out.
    """
    sees, hyper = config.context == "checkerboard", config.context != "factorised"
    names = [("structure", config.structure_channels), ("tone", config.tone_channels)]
    known = ["hyper" if hyper else "the quality"]
    parts = [label((8, 22), "First: hyper" if hyper else "No hyper latent", "title")]
    if hyper:
        parts.append(grid((8, 32), 32, ["ooo", "ooo"]))
        said = (
            _size(config.hyper_channels, 64),
            "what each region is like:",
            "all that follows knows it",
        )
        parts += [label((120, 50 + 18 * n), line, "left") for n, line in enumerate(said)]
    number, y = 0, 122 if hyper else 42
    for name, channels in names:
        for half, rows in enumerate((["o.o.o.", ".o.o.o"] * 2, ["#o#o#o", "o#o#o#"] * 2)):
            if not channels:
                continue
            number += 1
            x = 8 + half * 222
            others = "the others" if half else "anchors"
            parts.append(label((x, y), f"{number} · {name}, {others}", "title"))
            parts.append(grid((x, y + 10), 16, rows))
            told = [*known, "its anchors"] if half and sees else known if sees else known[:1]
            notes = f"{channels} channels", "knows", *told
            parts += [
                label((x + 104, y + 22 + 15 * n), note, "left") for n, note in enumerate(notes)
            ]
        known.append(name)
        y += 106 if channels else 0
    for x, letter, text in (
        (8, "o", "decoded now"),
        (138, "#", "known"),
        (230, ".", "not yet"),
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
    left, middle, right = _COLUMNS

    def level(width: int, stride: int, count: int) -> tuple[str, str]:
        return _size(width, stride), f"{count} block{'s' * (count > 1)}"

    seen = Box(left, 24, "noisy picture", ["and preview", f"6 → {6 * SHUFFLE**2} channels"])
    drawn = Box(right, 24, "picture", ["3×H×W"], "file")
    down_4, up_4 = (
        Box(left, 120, "down", level(w4, 4, down4)),
        Box(right, 120, "up", level(w4, 4, d4)),
    )
    down_8, up_8 = (
        Box(left, 216, "down", level(w8, 8, down8)),
        Box(right, 216, "up", level(w8, 8, d8)),
    )
    deep = Box(middle, 312, "middle", level(w16, 16, d16))
    latent = Box(middle, 408, "latent", [_size(config.latent_channels, 16)], "file")
    ways = [
        link(seen, "bottom", down_4, "top"),
        link(down_4, "bottom", down_8, "top"),
        link(down_8, "bottom", deep, "left"),
        link(latent, "top", deep, "bottom"),
        link(deep, "right", up_8, "bottom"),
        link(up_8, "top", up_4, "bottom", 48),
        link(up_4, "top", drawn, "bottom", 48),
        link(down_4, "right", up_4, "left"),
        link(down_8, "right", up_8, "left"),
    ]
    frame = '<rect class="empty" x="{}" y="{}" width="137" height="196" rx="6"/>'
    parts = [frame.format(right - 5, 98), frame.format(right - 9, 94)]  # one behind the other
    parts += map(str, (seen, drawn, down_4, up_4, down_8, up_8, deep, latent))
    parts.append(label((right + 60, 110), "twice: two ends", "tag"))
    parts += [label((WIDTH / 2 - 4, y), "skip") for y in (145, 241)]
    said = "Noise level and", "quality set a bias", "in every block."
    parts += [label((8, 418 + 17 * n), line, "left") for n, line in enumerate(said)]
    alt = (
        f"The refiner's U-Net. Noisy picture and preview go down through {w4} channels at stride 4 and {w8} at stride "
        f"8 to {w16} at stride 16, where the latent is added; then up again, with skips from the left, to the picture. "
        "The way up exists twice, for the faithful and the realistic end."
    )
    return draw([*parts, *ways], 478, alt)


def sampler(config: RefinerConfig, steps: int = 4) -> Drawing:
    """The sampler: start at preview and noise, ask the network, go to the next noise level, ask again.

    Args:
        config: of the refiner, ``codec.refiner.unet.config``.
        steps: 1 to 8.

    Raises:
        ArgumentError: another number of steps.
    """
    times = [*flow_times(steps), 0.0]
    left, middle, right = _COLUMNS
    onwards = (f"t − 1/{steps}: nearer", "to the guess") if steps > 1 else ("t = 0: the guess",)
    preview = Box(left, 8, "preview", ["3×H×W"], "file")
    begin = Box(middle, 8, "start, t = 1", ["preview", f"+ {config.noise:g} · noise"])
    noise = Box(right, 8, "noise", ["seed: checksum", "of the file"], "file")
    picture = Box(middle, 104, "picture at t", ["guess and start,", "mixed (1−t) : t"])
    network = Box(right, 104, "network", ["U-Net: guesses", "the photo"], "here")
    onward = Box(left, 104, "next level", onwards)
    ways = [
        link(preview, "right", begin, "left"),
        link(noise, "left", begin, "right"),
        link(begin, "bottom", picture, "top"),
        link(picture, "right", network, "left"),
        link(onward, "right", picture, "left"),
    ]
    parts = [str(each) for each in (preview, begin, noise, picture, network, onward)]
    parts += ways
    (x1, y), (x2, _), line = network.side("bottom"), onward.side("bottom"), 254
    parts.append(arrow((x1, y), (x1, y + 19), (x2, y + 19), (x2, y)))
    parts.append(label((WIDTH / 2, y + 14), "guess of the photo"))
    passed = "once" if steps == 1 else f"{steps} times"
    parts.append(label((8, line - 32), f"Noise levels: the network is asked {passed}", "title"))
    start, end = 22, WIDTH - 22
    parts.append(arrow((start, line), (end, line), kind="plain"))
    for t in times:
        x = start + (1 - t) * (end - start)
        parts.append(
            f'<circle class="{"here" if t else "file"}" cx="{x:g}" cy="{line}" r="{5 + 7 * t:g}"/>'
        )
        parts.append(label((x, line + 30), f"{t:.3g}"))
    parts.append(label((start - 12, line + 48), "t = 1: preview and noise", "left"))
    parts.append(label((end - 44, line + 48), "t = 0: the picture"))
    alt = (
        "The sampler. Preview and noise make the start at noise level 1. The network guesses the photo; the picture "
        f"moves towards the guess, to the next of the levels {', '.join(f'{t:.3g}' for t in times)}; then the network "
        "is asked again."
    )
    return draw(parts, line + 58, alt)
