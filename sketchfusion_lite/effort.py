"""``effort``: another latent for a photo that is encoded already, kept where it is better within the same bytes.

Trial, Encoded --> latent_search --> symbols --> file --> fits, and a lower objective? --> it, else the first one
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import bitstream
from .conditioning import Refiner
from .entropy import EntropyModel
from .errors import ArgumentError
from .images import pad_to_multiple
from .latent_search import MAX_PIXELS, OnProgress, Picture, optimise_latent
from .model import SketchFusionModel
from .rate_search import Trial
from .results import Encoded
from .sampler import FlowRefiner
from .tiling import STRIDE


def better_file(
    trial: Trial,
    entropy: EntropyModel,
    picture: Picture,
    pixels: Tensor,
    encoded: Encoded,
    budget: int | None,
    effort: int,
    on_progress: OnProgress | None,
) -> Encoded:
    """A better file of the same quality within the same budget, or ``encoded`` where none was found.

    Args:
        trial: of the photo.
        entropy: the float networks.
        picture: by which a latent is judged, see :func:`finest_picture`.
        pixels: the photo ``(1, 3, H, W)`` in [0, 1].
        encoded: what the encoder's own latent gave.
        budget: bytes; None for as many as ``encoded`` has.
        effort, on_progress: see :meth:`.SketchFusionCodec.encode`.

    Raises:
        ArgumentError: the picture is too large for a search.
        WeightsError: weights without float entropy networks.
    """
    path = trial.path
    index = bitstream.quality_to_index(encoded.quality)
    padded, size = pad_to_multiple(pixels, STRIDE)
    if padded.shape[-2] * padded.shape[-1] > MAX_PIXELS:
        raise ArgumentError(
            f"effort={effort}: the search of a {size[1]}x{size[0]} picture would take too much memory; at most "
            f"{MAX_PIXELS} pixels are searched. Encode it with effort=0, or downscale it."
        )
    start_bits = sum(trial.symbols(index).bits)
    room = (budget or len(encoded.data)) - len(encoded.data)  # bytes that the rate search left
    found = optimise_latent(
        path.model,
        entropy,
        path.coder,
        trial.y,
        padded,
        index,
        effort=effort,
        size=size,
        picture=picture,
        # Each of the three sections is rounded up to a word, which may cost 12 bytes at equal bits.
        target_bits=max(start_bits + 8 * (room - 3 * bitstream.WORD_BYTES), 1.0),
        on_progress=on_progress,
    )
    better = trial.encode(index, path.quantise(found.y.to(path.device), index, found.z))
    fits = len(better.data) <= (budget or len(encoded.data))
    return better if fits and found.after.objective < found.before.objective else encoded


def finest_picture(model: SketchFusionModel, refiner: Refiner | None) -> Picture:
    """The picture by which a latent is searched: of the finest stage that gradients can pass.

    Args:
        model: whose preview it is where ``refiner`` is none of ours: a large prior is no judge for a few dozen steps.
        refiner: of the codec; None where it has none.
    """
    if not isinstance(refiner, FlowRefiner):
        return model.preview

    def picture(y_hat: Tensor, quality: Tensor) -> Tensor:
        with torch.no_grad():
            preview = model.preview(y_hat, quality).clamp_(0, 1)
        return refiner.first_guess(preview, y_hat, quality)

    return picture
