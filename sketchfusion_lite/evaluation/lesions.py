"""Lesions: a trained codec with one of its cues covered, to see what it loses.

    with blinded(codec, "structural"):       boundaries --> empty map ---+
        codec.encode(photo, bpp=0.045)       image ----------------------+--> encoder --> y

A lesion is no ablation: the networks learned with both cues and cannot adapt, so that the damage bounds a cue's use
from above. The fair test trains again (``ModelConfig(cues=...)``, or the codec ``"lines"``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..codec import SketchFusionCodec
from ..errors import ArgumentError

__all__ = ["blinded"]

_CUES = ("structural", "perceptual")


class _Blinded(nn.Module):
    def __init__(self, encoder: nn.Module, covered: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.covered = encoder, covered

    def forward(self, image: Tensor, boundaries: Tensor) -> Tensor:
        if "structural" in self.covered:
            boundaries = torch.zeros_like(boundaries)
        if "perceptual" in self.covered:
            image = torch.full_like(image, 0.5)
        return self.encoder(image, boundaries)


@contextmanager
def blinded(codec: SketchFusionCodec, *covered: str) -> Iterator[SketchFusionCodec]:
    """Cover cues of the encoder while the context lasts; decoding is not touched.

    Args:
        codec: comes back as it was, whatever happens inside.
        covered: ``"structural"`` (the encoder gets an empty boundary map), ``"perceptual"`` (an evenly grey picture),
            both or none.

    Raises:
        ArgumentError: another cue.
    """
    if unknown := set(covered) - set(_CUES):
        raise ArgumentError(f"no cue {sorted(unknown)}; there are: {', '.join(_CUES)}.")
    encoder = codec.model.encoder
    codec.model.encoder = _Blinded(encoder, covered)
    try:
        yield codec
    finally:
        codec.model.encoder = encoder
