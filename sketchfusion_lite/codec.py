"""SketchFusionCodec: a photo becomes bytes, bytes become a sketch and a preview.

image --> boundaries --> y, once per image
                          |  quality (searched for bpp= / max_bytes=)
                          v
.skf <-- bitstream <-- rANS <-- symbols <-- integer entropy model
  |
  +--> symbols --> y_hat --+--> SketchRenderer  --> sketch
                           +--> PreviewDecoder  --> preview
"""

from __future__ import annotations

from math import ceil, log
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream
from .bitstream import WORD_BYTES
from .coding import FLUSH_BYTES, SketchCoder, Symbols
from .errors import ArgumentError, BudgetTooSmall, ImageError, ModelMismatch, WeightsError
from .images import DEFAULT_MAX_PIXELS, ImageSource, crop, load_image, pad_to_multiple, to_pil
from .integer import UNITS_PER_Y, IntegerEntropyModel, export_entropy_model
from .model import ModelConfig, SketchFusionModel
from .results import Decoded, Encoded, StreamInfo, describe, read_info
from .weights_io import load_weights, part, save_weights

__all__ = [
    "Decoded",
    "Encoded",
    "SketchFusionCodec",
    "StreamInfo",
    "export_weights",
    "load_codec",
    "read_info",
]

STAGES = ("sketch", "preview", "refined")
STRIDE = 16
DEFAULT_BPP = 0.045
_TRAINING_ONLY = tuple(
    f"entropy.{part}." for part in ("prior", "synthesis", "structure_context", "tone_context")
)
_CLOSE_ENOUGH = 0.985  # the rate search stops this near below the budget


class SketchFusionCodec:
    """Encode photos to ``.skf`` bytes and decode them.

    Args:
        model: the trained networks.
        entropy: the integer entropy model exported from them.
        device: where the float networks run; entropy coding is always exact integer work on the CPU.
        dtype: of the float networks. It may change which symbols an encoder picks, never how they decode.
    """

    def __init__(
        self,
        model: SketchFusionModel,
        entropy: IntegerEntropyModel,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model.eval().to(device, dtype, memory_format=torch.channels_last)
        self.entropy = entropy
        self.coder = SketchCoder(entropy)
        self.device, self.dtype = torch.device(device), dtype

    @classmethod
    def from_model(cls, model: SketchFusionModel) -> SketchFusionCodec:
        """A codec of a model in training; shares its parameters and leaves its mode to the caller."""
        entropy = IntegerEntropyModel(export_entropy_model(model.entropy))
        parameter = next(model.encoder.parameters())
        return cls(model, entropy, parameter.device, parameter.dtype)

    @property
    def model_id(self) -> int:
        """16-bit id that streams of this codec carry."""
        return self.entropy.model_id

    def encode(
        self,
        image: ImageSource,
        *,
        bpp: float | None = None,
        max_bytes: int | None = None,
        quality: float | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> Encoded:
        """Compress a photo.

        Args:
            image: path, bytes of a picture file, PIL image, array or tensor; see :func:`.load_image`.
            bpp: budget in bits per pixel of the whole file; never exceeded.
            max_bytes: budget in bytes; never exceeded.
            quality: 0 (smallest) to 5 (finest). At most one of the three; none means ``bpp=0.045``.
            max_pixels: refuse larger pictures.

        Raises:
            ArgumentError: more than one of the three, or one out of range.
            ImageError: no usable picture.
            BudgetTooSmall: not even quality 0 fits the budget; says the smallest size possible.
        """
        if sum(value is not None for value in (bpp, max_bytes, quality)) > 1:
            raise ArgumentError("bpp, max_bytes and quality exclude each other: pass one of them.")
        if quality is not None:
            index: int | None = bitstream.quality_to_index(quality)
        else:
            index = None
            for name, value in (("bpp", bpp), ("max_bytes", max_bytes)):
                if value is not None and not 0 < value < float("inf"):
                    raise ArgumentError(f"{name}={value!r}: give a number above 0.")
        pixels = load_image(image, max_pixels)  # (1, 3, H, W)
        trial = _Trial(self, self._latent(pixels), *pixels.shape[-2:])
        if index is not None:
            return trial.encode(index)
        area = pixels.shape[-2] * pixels.shape[-1]
        budget = max_bytes if max_bytes is not None else int((bpp or DEFAULT_BPP) * area / 8)
        return _search_rate(trial, int(budget))

    def decode(
        self,
        data: bytes,
        stage: str = "preview",
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        keep_going: bool = False,
        name: str = "stream",
    ) -> Decoded:
        """Decompress a stream, or the start of one.

        Args:
            data: the ``.skf`` bytes; a truncated stream decodes to what arrived, see ``info.missing``.
            stage: ``"sketch"``, ``"preview"`` or ``"refined"``.
            max_pixels: refuse larger pictures.
            keep_going: decode without a damaged structure or tone section instead of raising.
            name: what error messages call the stream.

        Raises:
            ArgumentError: unknown stage.
            StreamError: not a stream, corrupt, too short, or of another model.
            WeightsError: stage ``"refined"`` without refiner weights.
        """
        if stage not in STAGES:
            raise ArgumentError(f"stage={stage!r}: choose one of {', '.join(STAGES)}.")
        if stage == "refined":
            raise WeightsError("these weights hold no refiner; decode with stage='preview'.")
        stream = bitstream.parse(data, max_pixels, name, keep_going)
        header = stream.header
        if header.model_id != self.model_id:
            raise ModelMismatch.between(header.model_id, self.model_id, name)
        y_hat, quality = self._decode_latent(stream)
        size = (header.height, header.width)
        sketch = to_pil(self._render(y_hat, size))
        preview = None
        if stage == "preview":
            preview = to_pil(crop(self._preview(y_hat, quality), size))
        image = preview if preview is not None else sketch
        return Decoded(image, sketch, preview, None, describe(stream, len(data)))

    @torch.inference_mode()
    def boundaries(self, image: ImageSource) -> Tensor:
        """Structural cue of an image: boundary probability ``(1, 1, H, W)`` in [0, 1]."""
        pixels = load_image(image).to(self.device, self.dtype)
        return self.model.boundary_detector(pixels).sigmoid().float()

    @torch.inference_mode()
    def _latent(self, pixels: Tensor) -> Tensor:
        """Unscaled latent ``(1, C, ceil(H/16), ceil(W/16))``: what the rate search reuses."""
        pixels = pixels.to(self.device, self.dtype, memory_format=torch.channels_last)
        boundaries = self.model.boundary_detector(pixels).sigmoid()
        padded, _ = pad_to_multiple(torch.cat([pixels, boundaries], dim=1), STRIDE)
        y = self.model.encoder(padded[:, :3], padded[:, 3:])
        if not torch.isfinite(y).all():
            raise ImageError("the encoder returned non-finite values for this picture.")
        return y

    @torch.inference_mode()
    def _quantise(self, y: Tensor, index: int) -> Symbols:
        quality = self._quality_tensor(index)
        gain, _ = self.model.gain(quality)  # (1, C, 1, 1)
        scaled = y * gain
        return self.coder.quantise(scaled, self.model.entropy.analysis(scaled), index)

    @torch.inference_mode()
    def _decode_latent(self, stream: bitstream.Stream) -> tuple[Tensor, Tensor]:
        """``y_hat`` after inverse gain ``(1, C, h, w)`` and quality ``(1,)``."""
        header = stream.header
        height, width = -(-header.height // STRIDE), -(-header.width // STRIDE)
        index = header.quality_index
        units = self.coder.decode(stream.payload, index, height, width, stream.missing)
        quality = self._quality_tensor(index)
        _, inverse_gain = self.model.gain(quality)
        y_hat = (units / UNITS_PER_Y).to(self.device, self.dtype) * inverse_gain
        return y_hat, quality

    @torch.inference_mode()
    def _render(self, y_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """Line drawing ``(1, 1, H, W)``, dark lines on white paper."""
        structure = y_hat[:, : self.model.config.structure_channels]
        lines = self.model.renderer(structure).float().sigmoid()  # (1, 1, 8h, 8w)
        lines = F.interpolate(lines, scale_factor=2, mode="bilinear")  # (1, 1, 16h, 16w)
        return 1 - crop(lines, size)

    @torch.inference_mode()
    def _preview(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Preview ``(1, 3, 16h, 16w)``, not clamped."""
        return self.model.preview(y_hat.to(memory_format=torch.channels_last), quality).float()

    def _quality_tensor(self, index: int) -> Tensor:
        value = bitstream.index_to_quality(index)
        return torch.tensor([value], device=self.device, dtype=self.dtype)


class _Trial:
    """One latent at different qualities: the encoder network ran before, once."""

    def __init__(self, codec: SketchFusionCodec, y: Tensor, height: int, width: int) -> None:
        self.codec, self.y, self.height, self.width = codec, y, height, width
        self._symbols: dict[int, Symbols] = {}

    def symbols(self, index: int) -> Symbols:
        if index not in self._symbols:
            self._symbols[index] = self.codec._quantise(self.y, index)
        return self._symbols[index]

    def size(self, index: int) -> float:
        """Size of the file in bytes to within a few: code length, coder's flush, header, checksums."""
        words = [ceil(bits / 32) for bits in self.symbols(index).bits]
        rounding = WORD_BYTES * sum(words) - sum(self.symbols(index).bits) / 8
        return bitstream.file_size(self.header(index), *words) - rounding + FLUSH_BYTES

    def header(self, index: int) -> bitstream.Header:
        return bitstream.Header(self.width, self.height, index, self.codec.model_id)

    def encode(self, index: int) -> Encoded:
        symbols, header = self.symbols(index), self.header(index)
        data = bitstream.pack(header, *self.codec.coder.encode(symbols))
        area = self.width * self.height
        return Encoded(data, len(data) * 8 / area, sum(symbols.bits) / area, header.quality)


def _search_rate(trial: _Trial, max_bytes: int) -> Encoded:
    """The finest quality whose file fits: secant on the logarithm of the size, kept inside a bracket.

    The search goes by code length, which is the size to within a few bytes; the last word has the file.

    Raises:
        BudgetTooSmall: quality 0 does not fit.
    """
    low, high = 0, 255
    sizes: dict[int, float] = {}
    index = 102  # quality 2
    while low <= high:
        sizes[index] = size = trial.size(index)
        if size <= max_bytes:
            low = index + 1
            if size >= _CLOSE_ENOUGH * max_bytes:
                break
        else:
            high = index - 1
        index = min(max(_guess(sizes, max_bytes), low), high)
    for fitting in range(max(low - 1, 0), -1, -1):
        encoded = trial.encode(fitting)
        if len(encoded.data) <= max_bytes:
            return encoded
    raise BudgetTooSmall.for_image(trial.width, trial.height, len(encoded.data), max_bytes)


def _guess(sizes: dict[int, float], max_bytes: int) -> int:
    """Index at which the size should meet the budget, from the two nearest trials."""
    target = log(max(max_bytes, 1) * (1 + _CLOSE_ENOUGH) / 2)
    logs = {index: log(size) for index, size in sizes.items()}
    first, *others = sorted(logs, key=lambda i: abs(logs[i] - target))
    slope = 0.01  # typical relative growth per index
    if others:
        slope = max((logs[first] - logs[others[0]]) / (first - others[0]), 0.001)
    return round(first + (target - logs[first]) / slope)


def export_weights(model: SketchFusionModel, path: str | Path, training: dict) -> int:
    """Write a codec's weights file and return its model id.

    Args:
        model: the trained model.
        path: the ``.safetensors`` to write.
        training: what the model card should know (recipe, steps, minutes).
    """
    tensors = dict(model.state_dict())
    integers = export_entropy_model(model.entropy)
    tensors |= {f"integer.{name}": t for name, t in integers.items()}
    save_weights(path, tensors, {"model": model.config.to_dict(), "training": training})
    return IntegerEntropyModel(integers).model_id


def load_codec(
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
) -> SketchFusionCodec:
    """Load a codec.

    Args:
        weights: a ``.safetensors`` of this library; None for the weights that come with it.
        device: ``"auto"`` takes a GPU when there is one, else the CPU.
        dtype: of the float networks, e.g. ``torch.bfloat16`` where the hardware has it.

    Raises:
        WeightsError: missing, damaged, or not a codec.
    """
    tensors, config = load_weights(weights)
    name = Path(weights).name if weights else "shipped weights"
    if "model" not in config:
        raise WeightsError(f"{name}: holds no codec; train one with the recipe 'codec'")
    entropy = IntegerEntropyModel(part(tensors, "integer", name))
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        model = SketchFusionModel(ModelConfig.from_dict(config["model"]), trainable=False)
    floats = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(("integer.", *_TRAINING_ONLY))
    }
    try:
        model.load_state_dict(floats, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{name}: does not fit its own configuration ({error})") from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return SketchFusionCodec(model.requires_grad_(False), entropy, device, dtype)
