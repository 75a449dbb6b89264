"""Tune the preview decoder alone: another objective, the same streams.

    photo --encode--> .skf --entropy decode--> y_hat --> PreviewDecoder (a copy; some parts train) --> preview
                                                 |                                                        |
                                                 +-----------> PatchDiscriminator <-----------------------+

    loss = w_mse * MSE(0..255) + w_lpips * LPIPS + w_adversarial * hinge

Encoder and entropy model stay as they are, so that no objective can change a rate, and every file that was ever
written decodes with the tuned decoder, too: the second stage of MS-ILLM [1]. Weights and losses are those of the
codec's recipe (:mod:`.codec_task`), on a smaller scale.

References
    [1] Muckley et al., "Improving Statistical Fidelity for Neural Image Compression with Implicit Local Likelihood
        Models", ICML 2023 (freeze the encoder, then train the decoder adversarially).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sketchfusion_lite import bitstream
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.images import ImageSource, load_image, pad_to_multiple
from sketchfusion_lite.preview import PreviewDecoder
from sketchfusion_lite.tiling import STRIDE
from sketchfusion_lite.training.adversarial import PatchDiscriminator, diff_augment, hinge_game
from sketchfusion_lite.training.objectives import PerceptualLoss

__all__ = ["LAST_LAYERS", "Objective", "Received", "Tuned", "draw_crops", "receive", "tune_decoder"]

LAST_LAYERS = ("stride4", "to_pixels")


@dataclass(frozen=True)
class Received:
    """A photo, and what a receiver knows of it.

    Attributes:
        data: the ``.skf`` file.
        image: the photo ``(1, 3, H', W')``, 8 bits, padded to multiples of 16.
        y_hat: decoded latent after inverse gain ``(1, C, H'/16, W'/16)``, on the CPU.
        quality: ``(1,)``.
        size: height and width of the photo.
    """

    data: bytes
    image: Tensor
    y_hat: Tensor
    quality: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class Objective:
    """Weights of the decoder's loss; the defaults are the recipe's.

    Attributes:
        mse: of the squared error of pixel values 0..255.
        lpips: of LPIPS-Alex.
        adversarial: of the hinge loss of a conditional PatchGAN; 0 for no discriminator.
        shifted: see LPIPS through the shifted, sometimes magnified views of :class:`.PerceptualLoss`; false: always
            aligned with the decoder's pixel lattice, which goes wrong.
        zoom: fraction of the crops that are magnified, rounded to whole crops.
    """

    mse: float = 0.002
    lpips: float = 0.0
    adversarial: float = 0.0
    shifted: bool = True
    zoom: float = 0.2


@dataclass(frozen=True)
class Tuned:
    """Result of :func:`tune_decoder`.

    Attributes:
        decoder: the tuned copy, frozen, in evaluation mode.
        history: of every step ``mse`` (0..255), and ``lpips``, ``generator`` and ``judge`` (losses of both players)
            where they were computed.
    """

    decoder: PreviewDecoder
    history: list[dict[str, float]]


def receive(codec: SketchFusionCodec, images: Iterable[ImageSource], bpp: float) -> list[Received]:
    """Encode photos and decode their latents.

    Args:
        codec: with its coder.
        images: photos, as :func:`.load_image` takes them.
        bpp: budget of each.

    Raises:
        BudgetTooSmall: a photo does not fit.
    """
    received = []
    for image in images:
        pixels = load_image(image)  # (1, 3, H, W)
        data = codec.encode(pixels, bpp=bpp).data
        y_hat, quality = codec.dequantise(bitstream.parse(data))
        padded, size = pad_to_multiple(pixels, STRIDE)
        padded = (padded * 255).round().byte()  # a folder of photos fits the memory
        # Cloned: tensors born in inference mode cannot take part in training.
        y_hat, quality = (x.float().cpu().clone() for x in (y_hat, quality))
        received.append(Received(data, padded, y_hat, quality, size))
    return received


def draw_crops(
    received: Sequence[Received], crop: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned random crops: photos ``(B, 3, c, c)`` in [0, 1], y_hat ``(B, C, c/16, c/16)``, quality ``(B,)``.

    Args:
        received: what to draw from.
        crop: side in pixels, a multiple of 16, at most the shortest side of the photos.
        batch: crops B.
        generator: of the choice of photo and place.

    Raises:
        ArgumentError: a crop that does not fit.
    """
    shortest = min(min(each.image.shape[-2:]) for each in received)
    if crop % STRIDE or not STRIDE <= crop <= shortest:
        raise ArgumentError(f"crop={crop}: give a multiple of 16 from 16 to {shortest}.")
    rows, cells = [], crop // STRIDE
    for _ in range(batch):
        each = received[int(torch.randint(len(received), (), generator=generator))]
        room = [side - cells + 1 for side in each.y_hat.shape[-2:]]
        top, left = (int(torch.randint(n, (), generator=generator)) for n in room)
        image = each.image[0, :, STRIDE * top :, STRIDE * left :][:, :crop, :crop]
        y_hat = each.y_hat[0, :, top : top + cells, left : left + cells]
        rows.append((image.float() / 255, y_hat, each.quality[0]))
    images, y_hats, qualities = (torch.stack(column) for column in zip(*rows, strict=True))
    return images, y_hats, qualities


def tune_decoder(
    decoder: PreviewDecoder,
    received: Sequence[Received],
    objective: Objective,
    lpips: nn.Module,
    *,
    steps: int,
    crop: int = 96,
    batch: int = 4,
    width: int = 32,
    learning_rate: float = 5e-4,
    parts: Sequence[str] = LAST_LAYERS,
    seed: int = 0,
) -> Tuned:
    """Train a copy of a decoder for one objective; equal seeds see equal crops.

    The learning rate falls linearly to zero. A discriminator gets a quarter of the steps alone with the decoder as it
    was, since gradients of an untrained judge are noise, then its weight rises over another quarter.

    Args:
        decoder: where to start; left as it is. The copy trains on the same device.
        received: photos and latents, see :func:`receive`.
        objective: weights of the losses.
        lpips: LPIPS network of images in [-1, 1], frozen, on the decoder's device.
        steps: optimiser steps.
        crop: side of the crops in pixels, a multiple of 16.
        batch: crops per step.
        width: of the discriminator.
        learning_rate: of AdamW at the start.
        parts: names of the decoder's parts that train; the rest stays.
        seed: of crops, views, augmentation and the discriminator's weights. The global generator is left alone.

    Raises:
        ArgumentError: a crop that does not fit.
    """
    device = next(decoder.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        tuned = copy.deepcopy(decoder).float().train().requires_grad_(False)
        trained = [p for part in parts for p in getattr(tuned, part).requires_grad_().parameters()]
        groups = [{"params": trained, "base": learning_rate}]
        judge = None
        if objective.adversarial:
            judge = PatchDiscriminator(tuned.stem.in_channels, width).to(device)
            groups.append({"params": list(judge.parameters()), "base": 4 * learning_rate})
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.5, 0.9), weight_decay=0.0)
        seen = PerceptualLoss(lpips, objective.zoom) if objective.shifted else _Aligned(lpips)
        crops, history = torch.Generator().manual_seed(seed), []
        for step in range(steps):
            batch_of = (x.to(device) for x in draw_crops(received, crop, batch, crops))
            ramp = min(max(4 * step / steps - 1, 0.0), 1.0)
            loss, numbers = _loss(tuned, judge, seen, objective, ramp, *batch_of)
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * (1 - step / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append({name: float(value) for name, value in numbers.items()})
    return Tuned(tuned.eval().requires_grad_(False), history)


def _loss(
    decoder: PreviewDecoder,
    judge: PatchDiscriminator | None,
    lpips: nn.Module,
    objective: Objective,
    ramp: float,
    images: Tensor,
    y_hat: Tensor,
    quality: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of both players on one batch, and numbers to log."""
    preview = decoder(y_hat, quality)  # (B, 3, c, c)
    mse = (preview - images).square().mean() * 255**2
    loss, numbers = objective.mse * mse, {"mse": mse.detach()}
    if objective.lpips:
        distance = lpips(preview, images).mean()
        loss = loss + objective.lpips * distance
        numbers["lpips"] = distance.detach()
    if judge is not None:
        real, fake = diff_augment(images, y_hat), diff_augment(preview, y_hat)
        generator_loss, discriminator_loss = hinge_game(judge, real, fake)
        loss = loss + ramp * objective.adversarial * generator_loss + discriminator_loss
        numbers |= {"generator": generator_loss.detach(), "judge": discriminator_loss.detach()}
    return loss, numbers


class _Aligned(nn.Module):
    """LPIPS of images ``(B, 3, H, W)`` in [0, 1] as they lie."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        return self.net(image * 2 - 1, reference * 2 - 1).flatten()
