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

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream, checks
from .coding import SketchCoder, Symbols
from .conditioning import DEFAULT_REALISM, DEFAULT_STEPS, OnStep, RefinementCondition, Refiner
from .errors import ArgumentError, ImageError, ModelMismatch, WeightsError
from .hardware import choose_device, choose_dtype, describe_choice, refuse_fork
from .images import DEFAULT_MAX_PIXELS, ImageSource, crop, load_image, pad_to_multiple, to_pil
from .integer import UNITS_PER_Y, IntegerEntropyModel, export_entropy_model
from .model import ModelConfig, SketchFusionModel
from .rate_search import Trial, search_rate
from .refiner_io import load_refiner, refiner_config, shipped_refiner
from .results import Decoded, Encoded, StreamInfo, StreamSource, describe, read_info, stream_of
from .tiling import DEFAULT_TILE, check_tile, run_tiled
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
MAX_EFFORT = 10  # of latent_search, which is imported only when it is asked for
_MOST_BYTES = 1 << 62  # a budget above is none; as a float it would be no number
_LOADING = (
    threading.RLock()
)  # what is loaded at its first use is loaded once; not in the codec, which is pickled
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

    Raises:
        ArgumentError: an argument of another type or out of range, or no such device or data type here.
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
        checks.kind("model", model, SketchFusionModel, "a SketchFusionModel")
        checks.kind("entropy", entropy, IntegerEntropyModel, "an IntegerEntropyModel")
        check_tile("tile", tile)
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.model = model.eval().to(self.device, self.dtype, memory_format=torch.channels_last)
        self.entropy = entropy
        self.coder = SketchCoder(entropy)
        self.counter = SketchCoder(entropy.rough())  # for trials of the rate search
        self.tile = tile
        self._refiner = _refiner_or_folder(refiner)
        self._weights = None if weights is None else checks.path("weights", weights)
        self._searched: EntropyModel | None = None

    @classmethod
    def from_model(cls, model: SketchFusionModel) -> SketchFusionCodec:
        """A codec of a model in training; shares its parameters and leaves its mode to the caller."""
        entropy = IntegerEntropyModel(export_entropy_model(model.entropy))
        parameter = next(model.encoder.parameters())
        return cls(model, entropy, parameter.device, parameter.dtype)

    def __repr__(self) -> str:
        where = describe_choice(self.device, self.dtype)
        return f"SketchFusionCodec({self._weights or 'shipped weights'}, model {self.model_id:#06x}, on {where})"

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
        with _LOADING:
            if not isinstance(self._refiner, Refiner):
                refiner = load_refiner(self._refiner, self.device, self.dtype)
                if refiner.codec_id != self.model_id:
                    raise WeightsError(
                        f"{self._refiner or 'the shipped refiner'}: trained for codec {refiner.codec_id:#06x}, "
                        f"but {self.model_id:#06x} is loaded. Train one for it with the recipe 'refiner', load the "
                        "codec with refiner=FOLDER, or decode with stage='preview'."
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
        given = [
            n
            for n, v in (("bpp", bpp), ("max_bytes", max_bytes), ("quality", quality))
            if v is not None
        ]
        if len(given) > 1:
            raise ArgumentError(f"{' and '.join(given)} exclude each other: pass one of them.")
        effort = checks.whole("effort", effort, 0, MAX_EFFORT)
        max_pixels = checks.whole("max_pixels", max_pixels, 1)
        checks.function("on_progress", on_progress)
        checks.text("name", name)
        index = None if quality is None else bitstream.quality_to_index(quality)
        rate = DEFAULT_BPP if bpp is None else checks.number("bpp", bpp, 0, above=True)
        most = None if max_bytes is None else checks.number("max_bytes", max_bytes, 0, above=True)
        refuse_fork()
        pixels = load_image(image, max_pixels, name)  # (1, 3, H, W)
        size = pixels.shape[-2:]
        trial = Trial(self, self._latent(pixels), *size)
        if index is not None:
            encoded, budget = trial.encode(index), None
        else:
            budget = int(min(rate * size.numel() / 8 if most is None else most, _MOST_BYTES))
            encoded = search_rate(trial, budget)
        if effort == 0:
            return encoded
        from .effort import better_file

        return better_file(trial, pixels, encoded, budget, effort, on_progress)

    def trial(self, image: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> Trial:
        """Run the encoder network once; files of this photo at many rates then come cheap.

        ``search_rate(codec.trial(photo), max_bytes)`` is what :meth:`encode` returns for that budget.

        Args:
            image, max_pixels: as for :meth:`encode`.

        Raises:
            ArgumentError: ``max_pixels`` is out of range.
            ImageError: no usable picture.
        """
        max_pixels = checks.whole("max_pixels", max_pixels, 1)
        refuse_fork()
        pixels = load_image(image, max_pixels)  # (1, 3, H, W)
        return Trial(self, self._latent(pixels), *pixels.shape[-2:])

    def decode(
        self,
        data: StreamSource,
        stage: str | None = None,
        *,
        steps: int = DEFAULT_STEPS,
        realism: float = DEFAULT_REALISM,
        on_step: OnStep | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        keep_going: bool = False,
        name: str = "",
    ) -> Decoded:
        """Decompress a stream, or the start of one.

        Args:
            data: the ``.skf`` bytes, the path of such a file, or what :meth:`encode` returned; a truncated stream
                decodes to what arrived, see ``info.missing``.
            stage: ``"sketch"``, ``"preview"`` or ``"refined"``; None for the finest that this codec has, which is
                ``"preview"`` for one without a refiner, such as that of lines alone. ``stage`` of the result says it.
            steps: stage ``"refined"``: sampling steps, 1 to 8 with our refiner.
            realism: stage ``"refined"``: the dial in [0, 1], from the most faithful refined picture to the most
                realistic one.
            on_step: stage ``"refined"``: called as ``on_step(steps_done, picture)`` with the picture so far
                ``(1, 3, H, W)`` in [0, 1], for progressive display.
            max_pixels: refuse larger pictures.
            keep_going: decode without a damaged structure or tone section instead of raising.
            name: what error messages call the stream; empty for its path, or "stream".

        Raises:
            ArgumentError: unknown stage, or an argument of the wrong type or out of range.
            StreamError: not a stream, corrupt, too short, or of another model; or no file to read.
            WeightsError: stage ``"refined"`` without refiner weights.
        """
        stage = self.finest_stage if stage is None else checks.one_of("stage", stage, STAGES)
        realism = checks.number("realism", realism, 0, 1)
        steps = checks.whole(
            "steps", steps, 1, self.refiner.max_steps if stage == "refined" else None
        )
        max_pixels = checks.whole("max_pixels", max_pixels, 1)
        checks.function("on_step", on_step)
        data, name = stream_of(data, name, max_pixels)
        refuse_fork()
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
        picture = to_pil(self.refiner.refine(condition, steps, on_step, realism).float())
        return Decoded(picture, sketch, shown, picture, about)

    @torch.inference_mode()
    def boundaries(self, image: ImageSource) -> Tensor:
        """Structural cue of an image: boundary probability ``(1, 1, H, W)`` in [0, 1].

        Raises:
            ImageError: no usable picture.
        """
        refuse_fork()
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


def _refiner_or_folder(refiner: Refiner | str | Path | None) -> Refiner | Path | None:
    """What a codec refines with, its type checked.

    Raises:
        ArgumentError: no refiner and no path.
    """
    if refiner is None or (isinstance(refiner, Refiner) and not isinstance(refiner, type)):
        return refiner
    return checks.path("refiner", refiner)


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
        ArgumentError: an argument of another type.
        WeightsError: a weight is no number, or too large for float16; nothing is written.
        OutputError: the file cannot be written.
    """
    checks.kind("model", model, SketchFusionModel, "a SketchFusionModel")
    checks.kind("training", training, dict, "a dict")
    path = checks.path("path", path)
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
        ArgumentError: no such device or data type here, or an argument of another type.
        WeightsError: missing, damaged, or not a codec.
    """
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    refiner = _refiner_or_folder(refiner)
    refuse_fork()
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
