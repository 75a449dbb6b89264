"""The trainable model: every learned part of the signal path, wired as training sees it.

image --+-> BoundaryDetector (frozen) -+
        |                              v
        +----------------------> SketchFusionNet --> y --gain--> EntropyModel --> y_hat, bits
                                                                      |
                        sketch <-- SketchRenderer <--- structure -----+
                        preview <-- PreviewDecoder <-- inverse gain --+
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checks
from .cues import BoundaryDetector
from .entropy import EntropyModel
from .errors import WeightsError
from .integer import IntegerEntropyModel, export_entropy_model
from .preview import PreviewDecoder
from .sketch import GainUnit, SketchFusionNet, SketchRenderer
from .weights_io import load_codec_weights, part, save_weights


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model; stored in the weights file.

    Attributes:
        structure_channels, tone_channels: the two ordered groups of the latent (stride 16); no tone channels
            make a lines-only codec.
        hyper_channels: channels of the hyper latent (stride 64).
        levels: trained quality levels; ``quality`` runs over [0, levels - 1].
        encoder_widths, encoder_depths: at strides 4, 8, 16.
        decoder_widths, decoder_depths: at strides 16, 8, 4.
        cues: ``"fused"``, or for ablations ``"structural"``, ``"perceptual"`` or ``"none"``, see
            :class:`.SketchFusionNet`.
        context: ``"checkerboard"``, or for ablations ``"hyperprior"`` or ``"factorised"``, see :class:`.EntropyModel`.
        gain_vectors: a gain per channel and quality level; false for one step size per level, as in JPEG (ablations).
        activation: of the bottleneck blocks, ``"silu"`` or ``"relu"``, see :class:`.blocks.BottleneckBlock`.
    """

    structure_channels: int = 16
    tone_channels: int = 32
    hyper_channels: int = 16
    levels: int = 6
    encoder_widths: tuple[int, int, int] = (48, 160, 256)
    encoder_depths: tuple[int, int, int] = (1, 3, 6)
    decoder_widths: tuple[int, int, int] = (192, 96, 40)
    decoder_depths: tuple[int, int, int] = (6, 2, 1)
    cues: str = "fused"
    context: str = "checkerboard"
    gain_vectors: bool = True
    activation: str = "silu"

    @property
    def latent_channels(self) -> int:
        return self.structure_channels + self.tone_channels

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Inverse of :meth:`to_dict`; JSON's lists become tuples again, and weights up to 0.6.0 have ReLUs.

        Raises:
            WeightsError: a field of another release, or an activation that is no more.
        """
        values = {"activation": "relu"} | values
        if values.pop("negative_slope", 0.0):
            raise WeightsError(
                "weights: blocks with a negative_slope were an experiment of 0.6.0; load them with that release."
            )
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise WeightsError(
                f"weights: {', '.join(sorted(unknown))} in their configuration are not known here; they are of a "
                "later release. Upgrade, or train new ones."
            )
        whole: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**whole)


def entropy_model(config: ModelConfig, trainable: bool = True) -> EntropyModel:
    """The entropy model of a configuration, not trained."""
    return EntropyModel(
        config.structure_channels,
        config.tone_channels,
        config.hyper_channels,
        trainable,
        config.context,
    )


@dataclass
class TrainingOutput:
    """One forward pass of training.

    Attributes:
        preview: ``(B, 3, H, W)``, not clamped.
        sketch_logits: ``(B, 1, H/2, W/2)``.
        bits_sections: ``(B, 3)`` bits of hyper, structure and tone.
        rounded_bits: ``(B,)`` all bits with rounded symbols, without gradient.
        y_hat: quantised latent after inverse gain ``(B, C, H/16, W/16)``, what the decoder saw.
    """

    preview: Tensor
    sketch_logits: Tensor
    bits_sections: Tensor
    rounded_bits: Tensor
    y_hat: Tensor


class SketchFusionModel(nn.Module):
    """All learned parts of the codec.

    Args:
        config: sizes; None for the defaults.
        trainable: with false the float networks that only training needs are left out.
    """

    def __init__(self, config: ModelConfig | None = None, trainable: bool = True) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.boundary_detector = BoundaryDetector().requires_grad_(False)
        self.encoder = SketchFusionNet(
            config.latent_channels,
            config.encoder_widths,
            config.encoder_depths,
            config.cues,
            config.activation,
        )
        gains = config.latent_channels if config.gain_vectors else 1
        self.gain = GainUnit(config.levels, gains, low=0.4, high=3.5)
        self.entropy = entropy_model(config, trainable)
        self.renderer = SketchRenderer(config.structure_channels, activation=config.activation)
        self.preview = PreviewDecoder(
            config.latent_channels,
            config.levels,
            config.decoder_widths,
            config.decoder_depths,
            config.activation,
        )

    def forward(
        self, image: Tensor, boundaries: Tensor, quality: Tensor, drop_tone: Tensor | None = None
    ) -> TrainingOutput:
        """Encode, quantise, count and decode.

        Args:
            image: ``(B, 3, H, W)`` in [0, 1], sides multiples of 16.
            boundaries: ``(B, 1, H, W)`` in [0, 1], output of the frozen boundary detector.
            quality: ``(B,)`` in [0, levels - 1].
            drop_tone: boolean ``(B,)``; where true, the decoder sees predicted means in place of the tone
                group, as it will when a stream is cut short.
        """
        gain, inverse_gain = self.gain(quality)  # (B, C, 1, 1)
        y = self.encoder(image, boundaries) * gain  # (B, C, h, w)
        with torch.autocast(image.device.type, enabled=False):  # what codes has full precision
            quantised = self.entropy(y.to(gain.dtype), quality)
        y_hat = quantised.y_hat
        if drop_tone is not None:
            y_hat = torch.where(drop_tone.view(-1, 1, 1, 1), quantised.y_mean, y_hat)
        y_hat = y_hat * inverse_gain
        structure = y_hat[:, : self.config.structure_channels]
        return TrainingOutput(
            self.preview(y_hat, quality),
            self.renderer(structure),
            quantised.bits_sections,
            quantised.rounded_bits,
            y_hat,
        )


def load_float_entropy(weights: str | Path | None = None) -> EntropyModel:
    """The float entropy networks, which :func:`~sketchfusion_lite.load_codec` leaves out: frozen, on the CPU.

    Args:
        weights: a codec's ``.safetensors``; None for the weights that come with the library.

    Raises:
        WeightsError: missing, damaged, or no codec with float entropy networks.
    """
    tensors, fields, name = load_codec_weights(weights)
    entropy = entropy_model(ModelConfig.from_dict(fields))
    try:
        entropy.load_state_dict(part(tensors, "entropy", name))
    except RuntimeError as error:
        raise WeightsError(f"{name}: does not fit its own configuration ({error})") from error
    return entropy.eval().requires_grad_(False)


def export_weights(model: SketchFusionModel, path: str | Path, training: dict) -> int:
    """Write a codec's weights file and return its model id.

    Args:
        model: the trained model.
        path: the ``.safetensors`` to write.
        training: what the model card should know (recipe, steps, minutes).

    Raises:
        ArgumentError: an argument of another type.
        WeightsError: a weight is no number, or too large for float16; nothing is written.
        OutputError: the file cannot be written.
    """
    checks.kind("model", model, SketchFusionModel, "a SketchFusionModel")
    checks.kind("training", training, dict, "a dict")
    path = checks.path("path", path)
    integers = export_entropy_model(model.entropy)
    tensors = model.state_dict() | {f"integer.{name}": t for name, t in integers.items()}
    save_weights(path, tensors, {"model": model.config.to_dict(), "training": training})
    return IntegerEntropyModel(integers).model_id
