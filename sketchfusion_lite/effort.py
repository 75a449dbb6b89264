"""``effort``: another latent for a photo that is encoded already, kept where it is better within the same bytes.

Trial, Encoded --> latent_search --> symbols --> file --> fits, a lower objective, no further from the photo? --> it,
else the first one
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from . import bitstream
from .conditioning import Refiner
from .errors import ArgumentError
from .latent_objective import Objective, Picture, cached_lpips
from .latent_search import OnProgress, load_float_entropy, optimise_latent
from .rate_search import Trial
from .results import Encoded
from .sampler import FlowRefiner
from .signal_path import SignalPath

MAX_PIXELS = 2 << 20  # about 1.5 kB of memory per pixel


def better_file(
    trial: Trial,
    weights: Path | None,
    refiner: Refiner | None,
    pixels: Tensor,
    encoded: Encoded,
    budget: int | None,
    effort: int,
    on_progress: OnProgress | None,
) -> Encoded:
    """A better file of the same quality within the same budget, or ``encoded`` where none was found.

    Args:
        trial: of the photo.
        weights: file with the float entropy networks, where the model has none; None for the shipped one.
        refiner: of the codec; its picture is judged if it is one of ours, else the preview.
        pixels: the photo ``(1, 3, H, W)`` in [0, 1].
        encoded: what the encoder's own latent gave.
        budget: bytes; None for as many as ``encoded`` has.
        effort, on_progress: see :meth:`.SketchFusionCodec.encode`.

    Raises:
        ArgumentError: the picture is too large for a search.
        WeightsError: weights without float entropy networks.
    """
    path, size = trial.path, len(encoded.data)
    index = bitstream.quality_to_index(encoded.quality)
    if pixels[0, 0].numel() > MAX_PIXELS:
        raise ArgumentError(
            f"effort={effort}: the search of a {trial.width}x{trial.height} picture would take too much memory; at "
            f"most {MAX_PIXELS} pixels are searched. Encode it with effort=0, or downscale it."
        )
    trained = path.model.entropy
    entropy = trained if hasattr(trained, "synthesis") else load_float_entropy(weights)
    start_bits = sum(trial.symbols(index).bits)
    room = (budget or size) - size  # bytes that the rate search left
    found = optimise_latent(
        path,
        entropy,
        trial.y,
        pixels,
        index,
        effort,
        Objective(cached_lpips()),
        picture=_first_guess(path, refiner) if isinstance(refiner, FlowRefiner) else None,
        # Each of the three sections is rounded up to a word, which may cost 12 bytes at equal bits.
        target_bits=max(start_bits + 8 * (room - 3 * bitstream.WORD_BYTES), 1.0),
        on_progress=on_progress,
    )
    better = trial.encode(index, path.quantise(found.y.to(path.device), index, found.z))
    fits = len(better.data) <= (budget or size)
    # Saved bytes alone are no gain: the budget was there to be spent.
    gained = found.after.objective < found.before.objective
    nearer = found.after.distortion <= found.before.distortion
    return better if fits and gained and nearer else encoded


def _first_guess(path: SignalPath, refiner: FlowRefiner) -> Picture:
    """The refined picture, for the gradients of a search."""

    def picture(y_hat: Tensor, quality: Tensor) -> Tensor:
        with torch.no_grad():
            preview = path.model.preview(y_hat, quality).clamp_(0, 1)
        return refiner.first_guess(preview, y_hat, quality)

    return picture
