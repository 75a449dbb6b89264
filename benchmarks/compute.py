"""Work of every stage and how well the machine does it: MACs, seconds, and the least seconds possible here (the floor).

A 768x512 photo; networks alone, then encoder and decoder whole with everything that is not a network (file, entropy
coder, pictures). The entropy networks compute integers in float64, so float64's peak is theirs. A training step counts
forward and backward of the codec and of the LPIPS networks, its pixels are those of its crops.
"""

from __future__ import annotations

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
from .flops import count_macs, floor_seconds, measure_peak, numbers_here
from .timing import median_seconds
from .training_step import BATCH, CROP, in_precisions

QUALITY = 2.0
STEPS = DEFAULT_STEPS


@dataclass(frozen=True)
class Stage:
    """Something that takes time, and its work.

    Attributes:
        name: as printed.
        macs: by type of number.
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
        """A row of the table."""
        total, floor = sum(self.macs.values()), floor_seconds(self.macs, peaks)
        return {
            "stage": self.name,
            "numbers": " + ".join(sorted(self.macs)),
            "parameters k": f"{self.parameters / 1e3:.0f}",
            "kMAC/pixel": f"{total / self.pixels / 1e3:.2f}",
            "GMAC": f"{total / 1e9:.2f}",
            "seconds": f"{self.seconds:.4f}",
            "floor s": f"{floor:.4f}",
            "GFLOP/s": f"{2 * total / self.seconds / 1e9:.1f}",
            "of peak": f"{100 * floor / self.seconds:.0f} %",
        }


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
    index = quality_to_index(QUALITY)
    quality = torch.tensor([QUALITY])
    with torch.inference_mode():
        boundaries = model.boundary_detector(pixels).sigmoid()  # (1, 1, H, W)
        gain, inverse_gain = model.gain(quality)
        scaled = model.encoder(pixels, boundaries) * gain  # (1, C, h, w)
        z = model.entropy.analysis(scaled)
        units = codec.coder.quantise(scaled, z, index).y_hat
        y_hat = (units / UNITS_PER_Y).float() * inverse_gain
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        structure = y_hat[:, : model.config.structure_channels]
        sample, time = pixels * 2 - 1, torch.ones(1)
    runs = {
        "cue": ("boundary detector", lambda: model.boundary_detector(pixels)),
        "encoder": ("SketchFusionNet", lambda: model.encoder(pixels, boundaries)),
        "analysis": ("hyper analysis", lambda: model.entropy.analysis(scaled)),
        "entropy": (
            "entropy networks, four passes",
            lambda: codec.coder.quantise(scaled, z, index),
        ),
        "renderer": ("sketch renderer", lambda: model.renderer(structure)),
        "preview": ("preview decoder", lambda: model.preview(y_hat, quality)),
        "refiner": ("refiner, each step", lambda: unet(sample, time, sample, y_hat, quality)),
    }
    parts = {
        "cue": model.boundary_detector,
        "encoder": model.encoder,
        "analysis": model.entropy.analysis,
        "entropy": codec.entropy,
        "renderer": model.renderer,
        "preview": model.preview,
        "refiner": unet,
    }
    area = picture.width * picture.height
    stages = {}
    for key, (name, run) in runs.items():
        number = "float64" if key == "entropy" else "float32"
        inferred = torch.inference_mode()(run)
        work = {number: count_macs(inferred)}
        stages[key] = Stage(name, work, area, parameters_of(parts[key]), run=inferred)
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
    before = dict.fromkeys(("cue", "encoder", "analysis", "entropy"), 1)
    after = dict.fromkeys(("entropy", "renderer", "preview"), 1)
    return {
        "encode": _sum(
            "encode, quality given", parts, before, lambda: codec.encode(picture, quality=QUALITY)
        ),
        "decode": _sum("decode preview", parts, after, lambda: codec.decode(data, "preview")),
        "refined": _sum(
            "decode refined",
            parts,
            after | {"refiner": STEPS},
            lambda: codec.decode(data, "refined", steps=STEPS),
        ),
    }


def _sum(
    name: str, parts: dict[str, Stage], counts: dict[str, int], run: Callable[[], object]
) -> Stage:
    macs: dict[str, float] = {}
    for key, count in counts.items():
        for number, work in parts[key].macs.items():
            macs[number] = macs.get(number, 0) + count * work
    parameters = sum(parts[key].parameters for key in counts)
    return Stage(name, macs, next(iter(parts.values())).pixels, parameters, run=run)


def timed(stage: Stage, repeats: int = 7) -> Stage:
    """The same stage with its seconds."""
    assert stage.run is not None
    return replace(stage, seconds=median_seconds(stage.run, repeats))


def training(repeats: int = 3, crop: int = CROP, batch: int = BATCH) -> list[Stage]:
    """A training step, in each precision that the processor has."""
    name, area = f"training step, {batch} x {crop}x{crop}", batch * crop * crop
    return [
        Stage(name, {number: found["macs"]}, area, int(found["parameters"]), found["seconds"])
        for number, found in in_precisions(repeats, crop, batch).items()
    ]


def peaks_here(seconds: float = 1.0, side: int = 2048) -> dict[str, float]:
    """Floating-point operations per second that this machine reaches, by type of number."""
    return {name: measure_peak(dtype, seconds, side) for name, dtype in numbers_here().items()}


def peak_rows(peaks: dict[str, float]) -> list[dict[str, str]]:
    """The peaks as rows of the same table."""
    return [
        {
            "stage": "peak of this machine",
            "numbers": number,
            **dict.fromkeys(("parameters k", "kMAC/pixel", "GMAC", "seconds", "floor s"), ""),
            "GFLOP/s": f"{peak / 1e9:.1f}",
            "of peak": "100 %",
        }
        for number, peak in peaks.items()
    ]


def main(
    size: tuple[int, int] = (768, 512), repeats: int = 7, crop: int = CROP, batch: int = BATCH
) -> None:
    print(machine())
    codec = load_codec(device="cpu", dtype="float32")
    picture = load_photo("coffee").image.resize(size)
    first = peaks_here()
    parts = networks(codec, picture)
    stages = [*parts.values(), *whole(codec, picture, parts).values()]
    stages = [timed(stage, repeats) for stage in stages] + training(min(repeats, 3), crop, batch)
    # Whatever else runs here lowers a peak, never raises it: the better of two.
    peaks = {number: max(peak, first[number]) for number, peak in peaks_here().items()}
    rows = [stage.row(peaks) for stage in stages] + peak_rows(peaks)
    print(markdown(rows))
    write_rows("compute", rows)


if __name__ == "__main__":
    main()
