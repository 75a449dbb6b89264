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

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError

__all__ = ["blinded"]

_CUES = ("structural", "perceptual")


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

    def cover(_: nn.Module, cues: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        image, boundaries = cues
        if "structural" in covered:
            boundaries = torch.zeros_like(boundaries)
        if "perceptual" in covered:
            image = torch.full_like(image, 0.5)
        return image, boundaries

    hook = codec.model.encoder.register_forward_pre_hook(cover)
    try:
        yield codec
    finally:
        hook.remove()
