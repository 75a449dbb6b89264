"""Damages of one photo, to see what a metric notices; and a picture that is made to please one metric.

    photo --> distortions  --> blur, noise, shift, colour cast, JPEG blocks
    photo, bad picture --> please --> a picture as bad as before that one LPIPS network likes better

References
    [1] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [2] Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018 (projected gradient).
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageFilter

from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.images import ImageSource, load_image, to_pil
from sketchfusion_lite.perception import load_lpips

__all__ = ["distortions", "please"]


def distortions(photo: ImageSource, seed: int = 0) -> dict[str, Image.Image]:
    """Copies of a photo, each damaged in one way.

    Args:
        photo: as :func:`sketchfusion_lite.images.load_image` takes it.
        seed: of the noise.

    Returns:
        name -> RGB picture of the same size: ``"blur"`` (Gaussian, 2 pixels), ``"noise"`` (standard deviation 14 of
        255), ``"shift"`` (one pixel to the right and down), ``"colour cast"`` (red up, blue down by 20 of 255) and
        ``"JPEG blocks"`` (quality 9).
    """
    image = to_pil(load_image(photo))
    pixels = np.asarray(image, dtype=np.float64)  # (H, W, 3)
    noise = np.random.default_rng(seed).normal(0, 14, pixels.shape)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=9)
    return {
        "blur": image.filter(ImageFilter.GaussianBlur(2)),
        "noise": _eight_bit(pixels + noise),
        "shift": _eight_bit(np.pad(pixels, ((1, 0), (1, 0), (0, 0)), "edge")[:-1, :-1]),
        "colour cast": _eight_bit(pixels + np.array((20, 0, -20))),
        "JPEG blocks": Image.open(buffer).convert("RGB"),
    }


def please(
    photo: ImageSource,
    picture: ImageSource,
    net: str = "alex",
    steps: int = 12,
    reach: float = 6.0,
) -> Image.Image:
    """Change a picture a little so that one LPIPS network finds it nearer to the photo.

    Projected gradient descent on the pixels [2]: steps along the sign of the gradient, no pixel value further than
    ``reach`` from where it was. Nothing is restored on purpose; only the number is lowered.

    Args:
        photo: the original.
        picture: a bad version of it, of the same size.
        net: network to please, ``"alex"`` or ``"vgg"``.
        steps: gradient steps, at least 1.
        reach: largest change of a pixel value, of 255.

    Raises:
        ArgumentError: another net, no step, a reach out of (0, 255], or other sizes.
        DownloadError: the trunk is neither in the cache nor to be had.
    """
    if steps < 1 or not 0 < reach <= 255:
        raise ArgumentError(
            f"steps={steps}, reach={reach}: at least one step, a reach in (0, 255]."
        )
    target, start = (
        load_image(photo) * 2 - 1,
        load_image(picture) * 2 - 1,
    )  # (1, 3, H, W) in [-1, 1]
    if target.shape != start.shape:
        raise ArgumentError(f"sizes {tuple(target.shape[2:])} and {tuple(start.shape[2:])} differ.")
    network = load_lpips(net)
    radius = reach / 127.5  # 255 levels span 2
    low, high = (start - radius).clamp_min(-1), (start + radius).clamp_max(1)
    image = start.clone()
    for step in range(steps):
        image.requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(target, image).sum(), image)
        size = 4 * radius / steps * (1 - step / steps)  # twice the reach in all, ever finer
        image = (image.detach() - size * gradient.sign()).clamp(low, high)
    return to_pil(image * 0.5 + 0.5)


def _eight_bit(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
