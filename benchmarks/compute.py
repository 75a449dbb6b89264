"""Work of every stage and how well the machine does it: MACs, seconds, and the least seconds possible here (the floor).

A 768x512 photo; networks alone, then encoder and decoder whole with everything that is not a network (file, entropy
coder, pictures). The entropy networks compute integers in float64, so float64's peak is theirs. A training step counts
forward and backward of the codec and of the LPIPS networks, its pixels are those of its crops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import nn

from sketchfusion_lite import load_codec
from sketchfusion_lite.bitstream import quality_to_index
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.conditioning import DEFAULT_STEPS
from sketchfusion_lite.images import load_image
from sketchfusion_lite.integer import UNITS_PER_Y, IntegerConv
from sketchfusion_lite.samples import load_photo

from .common import machine, markdown, write_rows
from .timing import count_macs, median_seconds, peaks_here
from .training_step import BATCH, CROP, in_precisions

QUALITY = 2.0
STEPS = DEFAULT_STEPS
COLUMNS = ("stage", "numbers", "parameters k", "kMAC/pixel", "GMAC", "seconds", "floor s")
COLUMNS += ("GFLOP/s", "of peak")
# What a user calls -> how often each network runs in it.
ENCODE = {"cue": 1, "encoder": 1, "analysis": 1, "entropy": 1}
DECODE = {"entropy": 1, "renderer": 1, "preview": 1}


@dataclass(frozen=True)
class Stage:
    """Something that takes time, and its work.

    Attributes:
        name: as printed.
        macs: by type of number, e.g. ``{"float32": 4e9}``.
        pixels: of the picture that it works on.
        parameters: weights that take part.
        seconds: measured; 0 before that.
        run: what to time; None for a stage that was timed elsewhere.
    """

    name: str
    macs: dict[str, float]
    pixels: int
    parameters: int
    seconds: float = 0.0
    run: Callable[[], object] | None = None

    def row(self, peaks: dict[str, float]) -> dict[str, str]:
        """A row of the table; ``peaks`` are operations per second by type of number."""
        total = sum(self.macs.values())
        floor = sum(2 * count / peaks[number] for number, count in self.macs.items())
        values = (
            self.name,
            " + ".join(sorted(self.macs)),
            f"{self.parameters / 1e3:.0f}",
            f"{total / self.pixels / 1e3:.2f}",
            f"{total / 1e9:.2f}",
            f"{self.seconds:.4f}",
            f"{floor:.4f}",
            f"{2 * total / self.seconds / 1e9:.1f}",
            f"{100 * floor / self.seconds:.0f} %",
        )
        return dict(zip(COLUMNS, values, strict=True))


def networks(codec: SketchFusionCodec, picture: Image.Image) -> dict[str, Stage]:
    """Every network of the signal path on one picture, its work counted by running it.

    Args:
        codec: float32, on the CPU.
        picture: sides multiples of 16, at most one tile.

    Returns:
        Stages by a short key, in the order of the signal.
    """
    model, unet = codec.model, codec.refiner.unet
    pixels = load_image(picture).contiguous(memory_format=torch.channels_last)  # (1, 3, H, W)
    index, quality = quality_to_index(QUALITY), torch.tensor([QUALITY])
    with torch.inference_mode():
        boundaries = model.boundary_detector(pixels).sigmoid()  # (1, 1, H, W)
        gain, inverse_gain = model.gain(quality)
        scaled = model.encoder(pixels, boundaries) * gain  # (1, C, h, w)
        z = model.entropy.analysis(scaled)
        y_hat = (codec.coder.quantise(scaled, z, index).y_hat / UNITS_PER_Y).float() * inverse_gain
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        structure = y_hat[:, : model.config.structure_channels]
        sample, time = pixels * 2 - 1, torch.ones(1)
    parts: dict[str, tuple[str, nn.Module, Callable[[], object]]] = {
        "cue": ("boundary detector", model.boundary_detector, lambda: model.boundary_detector(pixels)),
        "encoder": ("SketchFusionNet", model.encoder, lambda: model.encoder(pixels, boundaries)),
        "analysis": ("hyper analysis", model.entropy.analysis, lambda: model.entropy.analysis(scaled)),
        "entropy": ("entropy networks, four passes", codec.entropy,
                    lambda: codec.coder.quantise(scaled, z, index)),
        "renderer": ("sketch renderer", model.renderer, lambda: model.renderer(structure)),
        "preview": ("preview decoder", model.preview, lambda: model.preview(y_hat, quality)),
        "refiner": ("refiner, each step", unet, lambda: unet(sample, time, sample, y_hat, quality)),
    }  # fmt: skip
    stages = {}
    for key, (name, network, run) in parts.items():
        inferred = torch.inference_mode()(run)
        work = {"float64" if key == "entropy" else "float32": count_macs(inferred)}
        area = picture.width * picture.height
        stages[key] = Stage(name, work, area, parameters_of(network), run=inferred)
    return stages


def parameters_of(module: nn.Module) -> int:
    """Weights and biases; those of integer convolutions are buffers."""
    convs = (part for part in module.modules() if isinstance(part, IntegerConv))
    integers = sum(conv.weight.numel() + conv.bias.numel() for conv in convs)
    return integers + sum(p.numel() for p in module.parameters())


def whole(
    codec: SketchFusionCodec, picture: Image.Image, parts: dict[str, Stage]
) -> dict[str, Stage]:
    """Encoder and decoder as a user calls them; their work is that of the networks that they run."""
    data = codec.encode(picture, quality=QUALITY).data
    calls = {
        "encode": ("encode, quality given", ENCODE, lambda: codec.encode(picture, quality=QUALITY)),
        "decode": ("decode preview", DECODE, lambda: codec.decode(data, "preview")),
        "refined": ("decode refined", DECODE | {"refiner": STEPS},
                    lambda: codec.decode(data, "refined", steps=STEPS)),
    }  # fmt: skip
    stages = {}
    for key, (name, counts, run) in calls.items():
        macs: Counter[str] = Counter()
        for part, count in counts.items():
            macs.update({number: count * work for number, work in parts[part].macs.items()})
        parameters = sum(parts[part].parameters for part in counts)
        stages[key] = Stage(name, dict(macs), parts["cue"].pixels, parameters, run=run)
    return stages


def main(
    size: tuple[int, int] = (768, 512), repeats: int = 7, crop: int = CROP, batch: int = BATCH
) -> None:
    print(machine())
    codec = load_codec(device="cpu", dtype="float32")
    picture = load_photo("coffee").image.resize(size)
    first, parts = peaks_here(), networks(codec, picture)
    stages = [
        replace(stage, seconds=median_seconds(stage.run, repeats))
        for stage in (*parts.values(), *whole(codec, picture, parts).values())
    ]
    name, area = f"training step, {batch} x {crop}x{crop}", batch * crop * crop
    for number, found in in_precisions(min(repeats, 3), crop, batch).items():
        work, count = {number: found["macs"]}, int(found["parameters"])
        stages.append(Stage(name, work, area, count, found["seconds"]))
    # Whatever else runs here lowers a peak, never raises it: the better of two.
    peaks = {number: max(peak, first[number]) for number, peak in peaks_here().items()}
    rows = [stage.row(peaks) for stage in stages]
    for number, peak in peaks.items():
        named = {"stage": "peak of this machine", "numbers": number, "GFLOP/s": f"{peak / 1e9:.1f}"}
        rows.append(dict.fromkeys(COLUMNS, "") | named | {"of peak": "100 %"})
    print(markdown(rows))
    write_rows("compute", rows)


if __name__ == "__main__":
    main()
