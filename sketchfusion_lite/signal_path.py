"""SignalPath: what sender and receiver do with one picture, step by step.

photo  --detect--> boundaries --latent--> y --quantise--> Symbols --pack--> .skf      sender
stream --dequantise--> y_hat --render---> lines                                     receiver
                             --preview--> preview

:mod:`.codec` puts the steps together; the searches for a rate and for a latent take single ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream, checks
from .blocks import channels_last
from .coding import SketchCoder, Symbols
from .cues import DETECTOR_MARGIN
from .errors import ImageError
from .hardware import choose_device, choose_dtype
from .images import crop, pad_to_multiple
from .integer import UNITS_PER_Y, IntegerEntropyModel
from .model import SketchFusionModel
from .tiling import DEFAULT_TILE, STRIDE, check_tile, run_tiled

__all__ = ["SignalPath"]


class SignalPath:
    """The networks of a codec and the steps that they take.

    Args:
        model: the trained networks.
        entropy: the integer entropy model exported from them.
        device: where the float networks run, see :func:`.choose_device`; entropy coding is always exact integer work
            on the CPU.
        dtype: of the float networks, see :func:`.choose_dtype`. It may change which symbols an encoder picks, never how
            they decode.
        tile: side in pixels above which a picture is worked on in pieces, to bound the memory.

    Attributes:
        coder: symbols to rANS words and back.
        counter: the same in float32, for trials of the rate search.

    Raises:
        ArgumentError: an argument of another type or out of range, or no such device or data type here.
    """

    def __init__(
        self,
        model: SketchFusionModel,
        entropy: IntegerEntropyModel,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = torch.float32,
        tile: int = DEFAULT_TILE,
    ) -> None:
        checks.kind("model", model, SketchFusionModel, "a SketchFusionModel")
        checks.kind("entropy", entropy, IntegerEntropyModel, "an IntegerEntropyModel")
        self.tile = check_tile("tile", tile)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.model = channels_last(model.eval().to(self.device, self.dtype))
        self.entropy = entropy
        self.coder = SketchCoder(entropy)
        self.counter = SketchCoder(entropy.rough())

    @property
    def model_id(self) -> int:
        """16-bit id that streams of this codec carry."""
        return self.entropy.model_id

    @torch.inference_mode()
    def detect(self, pixels: Tensor) -> Tensor:
        """Boundary probability ``(1, 1, H, W)`` of ``(1, 3, H, W)``."""

        def network(piece: Tensor) -> Tensor:
            return self.model.boundary_detector(_channels_last(piece)).sigmoid()

        return run_tiled(network, [(pixels, 1)], 1, DETECTOR_MARGIN, self.tile)

    @torch.inference_mode()
    def latent(self, pixels: Tensor) -> Tensor:
        """Unscaled latent ``(1, C, ceil(H/16), ceil(W/16))``: what the rate search reuses."""
        pixels = pixels.to(self.device, self.dtype)
        cues = (pixels, self.detect(pixels))  # (1, 3, H, W), (1, 1, H, W)

        def network(*pieces: Tensor) -> Tensor:
            padded = (pad_to_multiple(_channels_last(piece), STRIDE)[0] for piece in pieces)
            return self.model.encoder(*padded)

        margin = self.model.encoder.margin
        y = run_tiled(network, [(cue, 1) for cue in cues], STRIDE, margin, self.tile)
        if not torch.isfinite(y).all():
            raise ImageError("the encoder returned non-finite values for this picture.")
        return y

    @torch.inference_mode()
    def quantise(
        self, y: Tensor, index: int, z: Tensor | None = None, coder: SketchCoder | None = None
    ) -> Symbols:
        """Symbols of a latent at a quality index, 0 to 255; ``z`` and ``coder`` in place of the usual ones."""
        scaled = y * self.gains(index)[0]
        z = self.model.entropy.hyper_latent(scaled) if z is None else z
        return (coder or self.coder).quantise(scaled, z, index)

    def pack(self, symbols: Symbols, header: bitstream.Header) -> bytes:
        """The ``.skf`` file of a photo's symbols: all sections coded, header and checksums around them."""
        return bitstream.pack(header, *self.coder.encode(symbols))

    @torch.inference_mode()
    def dequantise(self, stream: bitstream.Stream, name: str = "stream") -> tuple[Tensor, Tensor]:
        """``y_hat`` after inverse gain ``(1, C, h, w)`` and quality ``(1,)``."""
        header = stream.header
        height, width = -(-header.height // STRIDE), -(-header.width // STRIDE)
        index = header.quality_index
        units = self.coder.decode(stream.payload, index, height, width, stream.missing, name)
        y_hat = (units / UNITS_PER_Y).to(self.device, self.dtype) * self.gains(index)[1]
        return y_hat, self.quality_tensor(index)

    @torch.inference_mode()
    def render(self, y_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """Line drawing ``(1, 1, H, W)``, dark lines on white paper."""
        structure = y_hat[:, : self.model.config.structure_channels]
        lines = self.model.renderer(structure).float().sigmoid()  # (1, 1, 8h, 8w)
        lines = F.interpolate(lines, scale_factor=2, mode="bilinear")  # (1, 1, 16h, 16w)
        return 1 - crop(lines, size)

    @torch.inference_mode()
    def preview(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Preview ``(1, 3, 16h, 16w)`` in [0, 1]."""

        def network(piece: Tensor) -> Tensor:
            return self.model.preview(_channels_last(piece), quality)

        inputs = [(y_hat, STRIDE)]
        preview = run_tiled(network, inputs, 1, self.model.preview.margin, self.tile)
        return preview.float().clamp_(0, 1)

    def quality_tensor(self, index: int) -> Tensor:
        """Quality ``(1,)`` in [0, 5], as the networks take it."""
        value = bitstream.index_to_quality(index)
        return torch.tensor([value], device=self.device, dtype=self.dtype)

    def gains(self, index: int) -> tuple[Tensor, Tensor]:
        """Gain and inverse gain ``(1, C, 1, 1)`` of a quality index: by how much ``y`` is scaled before rounding."""
        return self.model.gain(self.quality_tensor(index))


def _channels_last(piece: Tensor) -> Tensor:
    """Of a piece, never of a large picture: its copy would be as large."""
    return piece.contiguous(memory_format=torch.channels_last)
