"""The flow's sampler: a few steps from the preview to the photo, for the codec and for the diffusers pipeline alike.

    x_1 = preview + noise --> x0_hat = unet(x_t, t, preview, y_hat) --> advance --> x_t'
              t = 1                        ^                               |
                                           +------------ t' < t ----------+
                                                                        t = 0: photo

A straight line ``x_t = (1 - t) x_0 + t x_1`` leads from the photo to the preview with a little noise; the network
predicts where it ends. Everything comes out of the stream, the noise seed too: a decode repeats.

References
    [1] Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", ICLR 2023.
    [2] Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023.
    [3] Ghouse et al., DIRAC, 2023: start late, from the decoded picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import checks
from .conditioning import DEFAULT_REALISM, OnStep, RefinementCondition
from .errors import ArgumentError
from .hardware import choose_device
from .images import crop, pad_to_multiple
from .refiner import RefinerUNet
from .tiling import DEFAULT_TILE, STRIDE, check_tile, run_tiled

if TYPE_CHECKING:
    from .refinement import RefinementPipeline

MAX_STEPS = 8
Generators = torch.Generator | list[torch.Generator] | tuple[torch.Generator, ...] | None
Advance = Callable[[int, Tensor, Tensor], Tensor]  # (step, x_t, x0_hat) -> x_t', all (B, 3, H', W')


def flow_times(steps: int, name: str = "steps") -> list[float]:
    """Evenly spaced times 1, 1 - 1/N, ..., 1/N of 1 to 8 steps, which the caller calls ``name``.

    Raises:
        ArgumentError: another number.
    """
    steps = checks.whole(name, steps, 1, MAX_STEPS)
    return [1 - k / steps for k in range(steps)]


@torch.no_grad()
def sample(
    unet: RefinerUNet,
    preview: Tensor,
    y_hat: Tensor,
    quality: Tensor,
    times: Iterable[float],
    advance: Advance,
    *,
    generator: Generators = None,
    realism: float = DEFAULT_REALISM,
    tile: int = DEFAULT_TILE,
    device: str | torch.device | None = None,
) -> Tensor:
    """Run the flow.

    Args:
        unet: predicts the photo.
        preview: ``(B, 3, H, W)`` in [0, 1], any size.
        y_hat: ``(B, C, ceil(H/16), ceil(W/16))``, the decoded latent after inverse gain.
        quality: ``(B,)``, see :class:`.RefinerUNet`.
        times: of the steps, in (0, 1], each asked for when the step before it is done.
        advance: called after each prediction; may work in the memory of the padded ``x_t``.
        generator: of the noise, or one for each picture, which then gets the noise that it gets alone; on the CPU, so
            that a GPU starts from the same noise.
        realism: the dial between the network's two ends, in [0, 1].
        tile: side in pixels above which pictures are refined in pieces, to bound the memory.
        device: where to work; None for where the network is.

    Returns:
        Float32 ``(B, 3, H, W)`` in [0, 1].

    Raises:
        ArgumentError: an argument of another type, out of range, or of another size than the preview's.
    """
    for name, tensor in (("preview", preview), ("y_hat", y_hat), ("quality", quality)):
        checks.kind(name, tensor, Tensor, "a tensor")
    if preview.ndim != 4 or preview.shape[1] != 3 or not preview.numel():
        raise ArgumentError(f"preview has shape {tuple(preview.shape)}; give (B, 3, H, W).")
    size = preview.shape[-2:]
    expected = (len(preview), unet.config.latent_channels, *(-(-s // STRIDE) for s in size))
    for name, tensor, shape in (("y_hat", y_hat, expected), ("quality", quality, expected[:1])):
        if (has := tuple(tensor.shape)) != shape:
            raise ArgumentError(f"{name} has shape {has}; this preview needs {shape}.")
    realism = checks.number("realism", realism, 0, 1)
    check_tile("tile", tile)
    weight = next(unet.parameters())
    device, dtype = weight.device if device is None else choose_device(device), weight.dtype
    # In place wherever nobody else looks: each of these tensors is 144 MB for 12 megapixels.
    start, _ = pad_to_multiple(preview.to(device, dtype).mul(2).sub_(1), STRIDE)  # (B, 3, H', W')
    y_hat, quality = y_hat.to(device, dtype), quality.to(device, dtype)
    x = _noise(start.shape, generator).to(device, dtype)
    x = x.mul_(unet.config.noise).add_(start)  # x_1, in the noise's memory
    for step, t in enumerate(times):
        time = torch.full((len(x),), t, device=device, dtype=dtype)

        def network(x: Tensor, *told: Tensor, time: Tensor = time) -> Tensor:
            return unet(x, time, *told, quality, realism)

        inputs = ((x, 1), (start, 1), (y_hat, STRIDE))
        x0_hat = run_tiled(network, inputs, out_stride=1, margin=unet.margin, tile=tile)
        x = advance(step, x, x0_hat)
        del x0_hat, inputs
    del start
    return _picture(x, size)


def _noise(shape: torch.Size, generator: Generators) -> Tensor:
    """Float32 noise ``(B, C, H, W)``; of a list of generators, each makes that of its picture."""
    if not isinstance(generator, list | tuple):
        kind = (torch.Generator, type(None))
        checks.kind("generator", generator, kind, "a torch.Generator, or a list of them")
        device = None if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    if len(generator) != shape[0] or any(g is None for g in generator):
        raise ArgumentError(
            f"generator: a list of {len(generator)} for {shape[0]} pictures. Give one for each, or a single one."
        )
    return torch.cat([_noise(torch.Size((1, *shape[1:])), each) for each in generator])


def _picture(x0_hat: Tensor, size: Sequence[int]) -> Tensor:
    """Padded and in [-1, 1] -> ``(B, 3, H, W)`` in [0, 1], a copy."""
    return crop(x0_hat.float() * 0.5, size).add_(0.5).clamp_(0, 1)


class FlowRefiner:
    """Our own :class:`~.conditioning.Refiner`: the sampler, fed from a decoded stream.

    Args:
        unet: a trained network.
        tile: see :func:`sample`.

    Raises:
        ArgumentError: no such network, or a tile that is no multiple of 16.
    """

    max_steps = MAX_STEPS

    def __init__(self, unet: RefinerUNet, tile: int = DEFAULT_TILE) -> None:
        self.unet = checks.kind("unet", unet, RefinerUNet, "a RefinerUNet")
        self.tile = check_tile("tile", tile)

    def __repr__(self) -> str:
        return f"FlowRefiner(of codec {self.codec_id:#06x})"

    @property
    def pipeline(self) -> RefinementPipeline:
        """A new ``diffusers`` pipeline of the same network, which shares its weights: see :mod:`.refinement`."""
        from .refinement import RefinementPipeline

        return RefinementPipeline.of(self.unet)

    @property
    def codec_id(self) -> int:
        """Model id of the codec that it was trained for."""
        return self.unet.config.codec_id

    def first_guess(self, preview: Tensor, y_hat: Tensor, quality: Tensor) -> Tensor:
        """The picture of one step, differentiable: what a search of the latent goes by.

        Its noise is always the same, since a stream that is still being searched seeds none.

        Shape:
            preview ``(B, 3, 16h, 16w)`` in [0, 1], y_hat ``(B, C, h, w)`` after inverse gain, quality ``(B,)`` ->
            ``(B, 3, 16h, 16w)`` in about [0, 1].
        """
        start = preview.to(y_hat.dtype) * 2 - 1
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).to(start)
        time = torch.ones_like(quality)
        x1 = start + self.unet.config.noise * noise
        return self.unet(x1, time, start, y_hat, quality) * 0.5 + 0.5

    def refine(
        self,
        condition: RefinementCondition,
        steps: int,
        on_step: OnStep | None = None,
        realism: float = DEFAULT_REALISM,
    ) -> Tensor:
        """See :meth:`.conditioning.Refiner.refine`."""
        given = checks.kind("condition", condition, RefinementCondition, "a RefinementCondition")
        checks.function("on_step", on_step)
        times = flow_times(steps)
        ends = [*times[1:], 0.0]

        def advance(step: int, x: Tensor, x0_hat: Tensor) -> Tensor:
            """Euler's rule along the line."""
            if on_step is not None:
                on_step(step + 1, _picture(x0_hat, given.preview.shape[-2:]))
            left = ends[step] / times[step]
            return torch.lerp(x0_hat, x, left, out=x) if left else x0_hat

        seeded = torch.Generator().manual_seed(given.seed)
        told = (given.preview, given.y_hat, given.quality)
        return sample(
            self.unet, *told, times, advance, generator=seeded, realism=realism, tile=self.tile
        )
