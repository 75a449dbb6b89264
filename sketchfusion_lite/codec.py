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
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from . import bitstream, checks
from .conditioning import DEFAULT_REALISM, DEFAULT_STEPS, OnStep, RefinementCondition, Refiner
from .effort import better_file
from .errors import ArgumentError, ModelMismatch, WeightsError
from .hardware import describe_choice, refuse_fork
from .images import DEFAULT_MAX_PIXELS, ImageSource, crop, load_image, to_pil
from .integer import IntegerEntropyModel, export_entropy_model
from .latent_search import MAX_EFFORT, OnProgress
from .model import ModelConfig, SketchFusionModel, export_weights
from .rate_search import Trial, search_rate
from .refiner_io import load_refiner, refiner_config, shipped_refiner
from .releases import how_to_read
from .results import Decoded, Encoded, StreamInfo, StreamSource, describe, read_info, stream_of
from .signal_path import SignalPath
from .tiling import DEFAULT_TILE
from .weights_io import load_codec_weights, part

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
DEFAULT_BPP = 0.045
_MOST_BYTES = 1 << 62  # a budget above is none; as a float it would be no number
# What is loaded at its first use is loaded once; not in the codec, which is pickled.
_LOADING = threading.RLock()
_NOT_HERE = ("integer.", *(f"entropy.{net}" for net in ("prior", "synthesis", "structure", "tone")))


class SketchFusionCodec(SignalPath):
    """Encode photos to ``.skf`` bytes and decode them.

    Args:
        model, entropy, device, dtype, tile: see :class:`.SignalPath`.
        refiner: the second receiver stage, or the folder of one; None for the one that comes with the library. It
            is loaded when it is first needed.
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
        super().__init__(model, entropy, device, dtype, tile)
        given = refiner is None or (isinstance(refiner, Refiner) and not isinstance(refiner, type))
        self._refiner = refiner if given else checks.path("refiner", refiner)
        self._weights = None if weights is None else checks.path("weights", weights)

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
        on_progress: OnProgress | None = None,
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
        wishes = {"bpp": bpp, "max_bytes": max_bytes, "quality": quality}
        given = [name for name, wish in wishes.items() if wish is not None]
        if len(given) > 1:
            raise ArgumentError(f"{' and '.join(given)} exclude each other: pass one of them.")
        effort = checks.whole("effort", effort, 0, MAX_EFFORT)
        checks.function("on_progress", on_progress)
        index = None if quality is None else bitstream.quality_to_index(quality)
        rate = DEFAULT_BPP if bpp is None else checks.number("bpp", bpp, 0, above=True)
        most = None if max_bytes is None else checks.number("max_bytes", max_bytes, 0, above=True)
        trial, pixels = self._trial(image, max_pixels, name)
        if index is not None:
            encoded, budget = trial.encode(index), None
        else:
            area = trial.height * trial.width
            budget = int(min(rate * area / 8 if most is None else most, _MOST_BYTES))
            encoded = search_rate(trial, budget)
        if effort == 0:
            return encoded
        refiner = self.refiner if self.finest_stage == "refined" else None
        return better_file(
            trial, self._weights, refiner, pixels, encoded, budget, effort, on_progress
        )

    def trial(self, image: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS) -> Trial:
        """Run the encoder network once; files of this photo at many rates then come cheap.

        ``search_rate(codec.trial(photo), max_bytes)`` is what :meth:`encode` returns for that budget.

        Args:
            image, max_pixels: as for :meth:`encode`.

        Raises:
            ArgumentError: ``max_pixels`` is out of range.
            ImageError: no usable picture.
        """
        return self._trial(image, max_pixels)[0]

    def _trial(self, image: ImageSource, max_pixels: int, name: str = "") -> tuple[Trial, Tensor]:
        refuse_fork()
        pixels = load_image(image, max_pixels, name)  # (1, 3, H, W)
        return Trial(self, self.latent(pixels), *pixels.shape[-2:]), pixels

    # By these names programs of before 0.8 took single steps.
    _decode_latent, _preview = SignalPath.dequantise, SignalPath.preview

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
            realism: stage ``"refined"``: the dial in [0, 1], from the most faithful picture to the most realistic one.
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
        most = self.refiner.max_steps if stage == "refined" else None
        steps = checks.whole("steps", steps, 1, most)
        checks.function("on_step", on_step)
        data, name = stream_of(data, name, checks.whole("max_pixels", max_pixels, 1))
        refuse_fork()
        stream = bitstream.parse(data, max_pixels, name, keep_going)
        header, remedy = stream.header, how_to_read(stream.header.model_id)
        if header.model_id != self.model_id:
            raise ModelMismatch.between(header.model_id, self.model_id, remedy, name)
        y_hat, quality = self.dequantise(stream, name)
        size = (header.height, header.width)
        lines = self.render(y_hat, size)
        sketch, about = to_pil(lines), describe(stream, len(data))
        if stage == "sketch":
            return Decoded(sketch, sketch, None, None, about)
        preview = crop(self.preview(y_hat, quality), size)  # (1, 3, H, W)
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
        return self.detect(load_image(image).to(self.device, self.dtype)).float()


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
    refuse_fork()
    tensors, sizes, name = load_codec_weights(weights)
    entropy = IntegerEntropyModel(part(tensors, "integer", name))
    with torch.device("meta"):  # no time for an initialisation that is overwritten at once
        model = SketchFusionModel(ModelConfig.from_dict(sizes), trainable=False)
    floats = {key: t for key, t in tensors.items() if not key.startswith(_NOT_HERE)}
    try:
        model.requires_grad_(False).load_state_dict(floats, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{name}: does not fit its own configuration ({error})") from error
    return SketchFusionCodec(model, entropy, device, dtype, refiner, weights=weights)
