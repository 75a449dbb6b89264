"""A refiner for any codec, so that the notebooks run on weights that none was trained for.

weights, refiner --> refiner_for(...) --> load_codec(..., refiner=...)
                            |
                            +-- none fits: says so, and gives a graft of the preview decoder, which returns the preview
"""

from __future__ import annotations

from sketchfusion_lite.blocks import channels_last
from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.hardware import choose_device, choose_dtype
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.sampler import FlowRefiner
from sketchfusion_lite.training.grafting import graft

from ..viz.figures import say

__all__ = ["refiner_for", "stand_in"]


def refiner_for(
    weights: str, refiner: str, device: str = "cpu", dtype: str = "float32"
) -> str | FlowRefiner | None:
    """What a notebook hands to ``load_codec(refiner=...)``.

    Args:
        weights: a codec's weights file; empty for the shipped one.
        refiner: folder of a refiner; empty for the shipped one where it fits, else for a stand-in, of which a line is
            displayed.
        device, dtype: where and in what a stand-in runs.

    Raises:
        WeightsError: the weights are missing, damaged, or not a codec.
    """
    if refiner or not weights:
        return refiner or None
    codec = load_codec(weights, "cpu", "float32")
    if codec.finest_stage == "refined":
        return None
    say(
        "**No refiner was trained for these weights.** A stand-in takes its place: a fresh graft of their preview "
        "decoder, which returns the preview. Where it says *refined* below you see the preview, and what a refiner "
        "adds is left out. The recipe `refiner` trains one; the parameter `refiner` takes its folder."
    )
    return stand_in(codec, device, dtype)


def stand_in(codec: SketchFusionCodec, device: str = "cpu", dtype: str = "float32") -> FlowRefiner:
    """A refiner as large as the codec's preview decoder, which it returns the picture of, at any step and realism."""
    sizes = codec.model.config
    config = RefinerConfig(
        latent_channels=sizes.latent_channels,
        levels=sizes.levels,
        widths=sizes.decoder_widths[::-1],
        depths=sizes.decoder_depths[::-1],
        down_depths=(1, 1),
        codec_id=codec.model_id,
        activation=sizes.activation,
    )
    unet = RefinerUNet(config)
    graft(unet, codec.model.preview)
    where = choose_device(device)
    unet = unet.to(where, choose_dtype(dtype, where)).eval().requires_grad_(False)
    return FlowRefiner(channels_last(unet))
