"""SketchFusionCodec: a photo becomes bytes, bytes become a sketch, a preview and a refined picture.

image --> boundaries --> y, once per image
                          |  quality (searched for bpp= / max_bytes=)
                          v
.skf <-- bitstream <-- rANS <-- symbols <-- integer entropy model
  |
  +--> symbols --> y_hat --+--> SketchRenderer  --> sketch
                           +--> PreviewDecoder  --> preview --> Refiner --> refined
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream
from .coding import SketchCoder, Symbols
from .conditioning import DEFAULT_REALISM, DEFAULT_STEPS, OnStep, RefinementCondition, Refiner
from .errors import ArgumentError, ImageError, ModelMismatch, WeightsError
from .hardware import choose_device, choose_dtype, describe_choice
from .images import DEFAULT_MAX_PIXELS, ImageSource, crop, load_image, pad_to_multiple, to_pil
from .integer import UNITS_PER_Y, IntegerEntropyModel, export_entropy_model
from .model import ModelConfig, SketchFusionModel
from .rate_search import Trial, search_rate
from .refiner_io import load_refiner, refiner_config, shipped_refiner
from .results import Decoded, Encoded, StreamInfo, describe, read_info
from .sampler import FlowRefiner
from .tiling import DEFAULT_TILE, run_tiled
from .weights_io import load_codec_weights, part, save_weights, stored, without_integers

if TYPE_CHECKING:
    from .entropy import EntropyModel

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
DETECTOR_MARGIN = 64  # radius of its receptive field in pixels, rounded up to a multiple of 16
_TRAINING_ONLY = tuple(
    f"entropy.{part}." for part in ("prior", "synthesis", "structure_context", "tone_context")
)


class SketchFusionCodec:
    """Encode photos to ``.skf`` bytes and decode them.

    Args:
        model: the trained networks.
        entropy: the integer entropy model exported from them.
        device: where the float networks run, see :func:`.choose_device`; entropy coding is always exact integer work
            on the CPU.
        dtype: of the float networks, see :func:`.choose_dtype`. It may change which symbols an encoder picks, never how
            they decode.
        refiner: the second receiver stage, or the folder of one; None for the one that comes with the library. It
            is loaded when it is first needed.
        tile: side in pixels above which a picture is worked on in pieces, to bound the memory.
        weights: the file that the networks came from, None for the shipped one; ``effort`` reads more of it.
    """

    def __init__(
        self,
        model: SketchFusionModel,
        entropy: IntegerEntropyModel,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = torch.float32,
        refiner: Refiner | str | Path | None = None,
        tile: int = DEFAULT_TILE,
        weights: str | Path | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.model = model.eval().to(self.device, self.dtype, memory_format=torch.channels_last)
        self.entropy = entropy
        self.coder = SketchCoder(entropy)
        self.counter = SketchCoder(entropy.rough())  # for trials of the rate search
        self.tile = tile
        self._refiner = refiner
        self._weights = weights
        self._searched: EntropyModel | None = None

    @classmethod
    def from_model(cls, model: SketchFusionModel) -> SketchFusionCodec:
        """A codec of a model in training; shares its parameters and leaves its mode to the caller."""
        entropy = IntegerEntropyModel(export_entropy_model(model.entropy))
        parameter = next(model.encoder.parameters())
        return cls(model, entropy, parameter.device, parameter.dtype)

    def __repr__(self) -> str:
        return (
            f"SketchFusionCodec({self.model_id:#06x} on {describe_choice(self.device, self.dtype)})"
        )

    @property
    def model_id(self) -> int:
        """16-bit id that streams of this codec carry."""
        return self.entropy.model_id

    @property
    def refiner(self) -> Refiner:
        """The second receiver stage.

        Raises:
            WeightsError: there is none, or it was trained for another codec.
        """
        if not isinstance(self._refiner, Refiner):
            refiner = load_refiner(self._refiner, self.device, self.dtype)
            if refiner.codec_id != self.model_id:
                raise WeightsError(
                    f"{self._refiner or 'the shipped refiner'}: trained for codec {refiner.codec_id:#06x}, "
                    f"but {self.model_id:#06x} is loaded. Train one for it with the recipe 'refiner', pass "
                    "load_codec(refiner=FOLDER), or decode with stage='preview'."
                )
            refiner.tile = self.tile
            self._refiner = refiner
        return self._refiner

    @property
    def finest_stage(self) -> str:
        """``"refined"`` where a refiner was given or the shipped one is for this codec, else ``"preview"``."""
        if self._refiner is not None:
            return "refined"
        folder = shipped_refiner()
        fits = folder.is_dir() and refiner_config(folder).codec_id == self.model_id
        return "refined" if fits else "preview"

    def encode(
        self,
        image: ImageSource,
        *,
        bpp: float | None = None,
        max_bytes: int | None = None,
        quality: float | None = None,
        effort: int = 0,
        on_progress: Callable[[int, int, dict[str, float]], None] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        name: str = "",
    ) -> Encoded:
        """Compress a photo.

        Args:
            image: path, bytes of a picture file, PIL image, array or tensor; see :func:`.load_image`.
            bpp: budget in bits per pixel of the whole file; never exceeded.
            max_bytes: budget in bytes; never exceeded.
            quality: 0 (smallest) to 5 (finest). At most one of the three; none means ``bpp=0.045``.
            effort: 0 takes the encoder's latent as it is; 1 to 10 search a better one for this photo at the same
                size, see :mod:`.latent_search`. The stream stays an ordinary one, and decoding costs nothing more.
            on_progress: called as ``on_progress(done, total, numbers)`` after every step of that search.
            max_pixels: refuse larger pictures.
            name: what error messages call a picture that is given as bytes.

        Raises:
            ArgumentError: more than one of the three, or one out of range.
            ImageError: no usable picture.
            BudgetTooSmall: not even quality 0 fits the budget; says the smallest size possible.
        """
        if effort not in range(11):
            raise ArgumentError(f"effort={effort!r}: give a whole number from 0 (none) to 10.")
        if sum(value is not None for value in (bpp, max_bytes, quality)) > 1:
            raise ArgumentError("bpp, max_bytes and quality exclude each other: pass one of them.")
        if quality is not None:
            index: int | None = bitstream.quality_to_index(quality)
        else:
            index = None
            for name, value in (("bpp", bpp), ("max_bytes", max_bytes)):
                if value is not None and not 0 < value < float("inf"):
                    raise ArgumentError(f"{name}={value!r}: give a number above 0.")
        pixels = load_image(image, max_pixels, name)  # (1, 3, H, W)
        size = pixels.shape[-2:]
        trial = Trial(self, self._latent(pixels), *size)
        if index is not None:
            encoded, budget = trial.encode(index), None
        else:
            area = size.numel()
            budget = int(max_bytes if max_bytes is not None else (bpp or DEFAULT_BPP) * area / 8)
            encoded = search_rate(trial, budget)
        if effort == 0:
            return encoded
        return self._search_latent(trial, pixels, encoded, budget, effort, on_progress)

    def trial(self, image: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> Trial:
        """Run the encoder network once; files of this photo at many rates then come cheap.

        ``search_rate(codec.trial(photo), max_bytes)`` is what :meth:`encode` returns for that budget.

        Args:
            image, max_pixels: as for :meth:`encode`.

        Raises:
            ImageError: no usable picture.
        """
        pixels = load_image(image, max_pixels)  # (1, 3, H, W)
        return Trial(self, self._latent(pixels), *pixels.shape[-2:])

    def _search_latent(
        self,
        trial: Trial,
        pixels: Tensor,
        encoded: Encoded,
        budget: int | None,
        effort: int,
        on_progress: Callable[[int, int, dict[str, float]], None] | None,
    ) -> Encoded:
        """A better file of the same quality within the same budget, or ``encoded`` where none was found."""
        from .latent_search import optimise_latent

        index = bitstream.quality_to_index(encoded.quality)
        padded, size = pad_to_multiple(pixels, STRIDE)
        start_bits = sum(trial.symbols(index).bits)
        room = (budget or len(encoded.data)) - len(encoded.data)  # bytes that the rate search left
        found = optimise_latent(
            self.model,
            self._float_entropy(),
            self.coder,
            trial.y,
            padded,
            index,
            effort=effort,
            size=size,
            picture=self._first_guess(),
            # Each of the three sections is rounded up to a word, which may cost 12 bytes at equal bits.
            target_bits=max(start_bits + 8 * (room - 3 * bitstream.WORD_BYTES), 1.0),
            on_progress=on_progress,
        )
        better = trial.encode(index, self._quantise(found.y.to(self.device), index, found.z))
        fits = len(better.data) <= (budget or len(encoded.data))
        return better if fits and found.after.objective < found.before.objective else encoded

    def _first_guess(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The picture by which a latent is searched: of the finest stage that gradients can pass."""
        refiner = self.refiner if self.finest_stage == "refined" else None
        if not isinstance(refiner, FlowRefiner):  # a large prior is no judge for a few dozen steps
            return self.model.preview

        def picture(y_hat: Tensor, quality: Tensor) -> Tensor:
            with torch.no_grad():
                preview = self.model.preview(y_hat, quality).clamp_(0, 1)
            return refiner.first_guess(preview, y_hat, quality)

        return picture

    def _float_entropy(self) -> EntropyModel:
        """The float entropy networks, which only training and ``effort`` need."""
        if not hasattr(self.model.entropy, "synthesis"):
            from .latent_search import load_float_entropy

            if self._searched is None:
                self._searched = load_float_entropy(self._weights)
            return self._searched
        return self.model.entropy

    def decode(
        self,
        data: bytes,
        stage: str | None = None,
        *,
        steps: int = DEFAULT_STEPS,
        realism: float = DEFAULT_REALISM,
        on_step: OnStep | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        keep_going: bool = False,
        name: str = "stream",
    ) -> Decoded:
        """Decompress a stream, or the start of one.

        Args:
            data: the ``.skf`` bytes; a truncated stream decodes to what arrived, see ``info.missing``.
            stage: ``"sketch"``, ``"preview"`` or ``"refined"``; None for the finest that this codec has, which is
                ``"preview"`` for one without a refiner, such as that of lines alone. ``stage`` of the result says it.
            steps: stage ``"refined"``: sampling steps, 1 to 8 with our refiner.
            realism: stage ``"refined"``: the dial in [0, 1], from the most faithful refined picture to the most
                realistic one.
            on_step: stage ``"refined"``: called as ``on_step(steps_done, picture)`` with the picture so far
                ``(1, 3, H, W)`` in [0, 1], for progressive display.
            max_pixels: refuse larger pictures.
            keep_going: decode without a damaged structure or tone section instead of raising.
            name: what error messages call the stream.

        Raises:
            ArgumentError: unknown stage, or a dial out of range.
            StreamError: not a stream, corrupt, too short, or of another model.
            WeightsError: stage ``"refined"`` without refiner weights.
        """
        stage = self.finest_stage if stage is None else stage
        if stage not in STAGES:
            raise ArgumentError(f"stage={stage!r}: choose one of {', '.join(STAGES)}.")
        if not 0 <= realism <= 1:
            raise ArgumentError(
                f"realism={realism!r}: give a number from 0 (faithful) to 1 (realistic)."
            )
        if stage == "refined" and not 1 <= steps <= self.refiner.max_steps:
            raise ArgumentError(f"steps={steps!r}: give 1 to {self.refiner.max_steps}.")
        stream = bitstream.parse(data, max_pixels, name, keep_going)
        header = stream.header
        if header.model_id != self.model_id:
            raise ModelMismatch.between(header.model_id, self.model_id, name)
        y_hat, quality = self._decode_latent(stream, name)
        size = (header.height, header.width)
        lines = self._render(y_hat, size)
        sketch, about = to_pil(lines), describe(stream, len(data))
        if stage == "sketch":
            return Decoded(sketch, sketch, None, None, about)
        preview = crop(self._preview(y_hat, quality), size)  # (1, 3, H, W)
        shown = to_pil(preview)
        if stage == "preview":
            return Decoded(shown, sketch, shown, None, about)
        condition = RefinementCondition(preview, y_hat, lines, quality, crc32(data))
        picture = to_pil(self.refiner.refine(condition, int(steps), on_step, realism).float())
        return Decoded(picture, sketch, shown, picture, about)

    @torch.inference_mode()
    def boundaries(self, image: ImageSource) -> Tensor:
        """Structural cue of an image: boundary probability ``(1, 1, H, W)`` in [0, 1]."""
        pixels = load_image(image)
        return self._detect(pixels.to(self.device, self.dtype)).float()

    def _detect(self, pixels: Tensor) -> Tensor:
        """Boundary probability ``(1, 1, H, W)`` of ``(1, 3, H, W)``."""

        def network(piece: Tensor) -> Tensor:
            return self.model.boundary_detector(_channels_last(piece)).sigmoid()

        return run_tiled(network, [(pixels, 1)], 1, DETECTOR_MARGIN, self.tile)

    @torch.inference_mode()
    def _latent(self, pixels: Tensor) -> Tensor:
        """Unscaled latent ``(1, C, ceil(H/16), ceil(W/16))``: what the rate search reuses."""
        pixels = pixels.to(self.device, self.dtype)
        cues = (pixels, self._detect(pixels))  # (1, 3, H, W), (1, 1, H, W)

        def network(*pieces: Tensor) -> Tensor:
            padded = (pad_to_multiple(_channels_last(piece), STRIDE)[0] for piece in pieces)
            return self.model.encoder(*padded)

        margin = self.model.encoder.margin
        y = run_tiled(network, [(cue, 1) for cue in cues], STRIDE, margin, self.tile)
        if not torch.isfinite(y).all():
            raise ImageError("the encoder returned non-finite values for this picture.")
        return y

    @torch.inference_mode()
    def _quantise(
        self, y: Tensor, index: int, z: Tensor | None = None, coder: SketchCoder | None = None
    ) -> Symbols:
        quality = self._quality_tensor(index)
        gain, _ = self.model.gain(quality)  # (1, C, 1, 1)
        scaled = y * gain
        z = self.model.entropy.hyper_latent(scaled) if z is None else z
        return (coder or self.coder).quantise(scaled, z, index)

    @torch.inference_mode()
    def _decode_latent(
        self, stream: bitstream.Stream, name: str = "stream"
    ) -> tuple[Tensor, Tensor]:
        """``y_hat`` after inverse gain ``(1, C, h, w)`` and quality ``(1,)``."""
        header = stream.header
        height, width = -(-header.height // STRIDE), -(-header.width // STRIDE)
        index = header.quality_index
        units = self.coder.decode(stream.payload, index, height, width, stream.missing, name)
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
        """Preview ``(1, 3, 16h, 16w)`` in [0, 1]."""

        def network(piece: Tensor) -> Tensor:
            return self.model.preview(_channels_last(piece), quality)

        inputs = [(y_hat, STRIDE)]
        preview = run_tiled(network, inputs, 1, self.model.preview.margin, self.tile)
        return preview.float().clamp_(0, 1)

    def _quality_tensor(self, index: int) -> Tensor:
        value = bitstream.index_to_quality(index)
        return torch.tensor([value], device=self.device, dtype=self.dtype)


def _channels_last(piece: Tensor) -> Tensor:
    """Of a piece, never of a large picture: its copy would be as large."""
    return piece.contiguous(memory_format=torch.channels_last)


def export_weights(model: SketchFusionModel, path: str | Path, training: dict) -> int:
    """Write a codec's weights file and return its model id.

    Args:
        model: the trained model.
        path: the ``.safetensors`` to write.
        training: what the model card should know (recipe, steps, minutes).

    Raises:
        WeightsError: a weight is no number, or too large for float16; nothing is written.
        OutputError: the file cannot be written.
    """
    tensors = stored(model.state_dict(), path)
    integers = export_entropy_model(model.entropy)
    tensors |= {f"integer.{name}": t for name, t in integers.items()}
    save_weights(path, tensors, {"model": model.config.to_dict(), "training": training})
    return IntegerEntropyModel(integers).model_id


def load_codec(
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    refiner: Refiner | str | Path | None = None,
) -> SketchFusionCodec:
    """Load a codec.

    Args:
        weights: a ``.safetensors`` of this library; None for the weights that come with it, ``"lines"`` for those of
            the baseline that sends lines alone.
        device: ``"auto"`` takes a GPU when there is one, else the CPU.
        dtype: of the float networks: ``"auto"`` takes bfloat16 where the device has units for it (a GPU, or a processor
            with AMX, or AMD's with AVX512-BF16), else float32; ``"float32"`` gives the same numbers on more machines.
        refiner: second receiver stage: a folder, an object such as
            :func:`~sketchfusion_lite.priors.load_prior` returns, or None for the one that comes with the library.

    Raises:
        ArgumentError: no such device or data type here.
        WeightsError: missing, damaged, or not a codec.
    """
    device = choose_device(device)
    tensors, sizes, name = load_codec_weights(weights)
    entropy = IntegerEntropyModel(part(tensors, "integer", name))
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        model = SketchFusionModel(ModelConfig.from_dict(sizes), trainable=False)
    floats = {
        key: tensor
        for key, tensor in without_integers(tensors).items()
        if not key.startswith(_TRAINING_ONLY)
    }
    try:
        model.load_state_dict(floats, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{name}: does not fit its own configuration ({error})") from error
    return SketchFusionCodec(
        model.requires_grad_(False), entropy, device, dtype, refiner, weights=weights
    )
