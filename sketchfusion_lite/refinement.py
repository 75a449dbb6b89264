"""RefinementPipeline: the second receiver stage, a few steps of a conditional flow from preview to photo.

    x_1 = preview + noise --> x0_hat = unet(x_t, t, preview, y_hat) --> v = (x_t - x0_hat) / t --> scheduler --> x_t'
              t = 1                            ^                                                        |
                                               +--------------------------- t' < t --------------------+
                                                                                                  t = 0: photo

A straight line ``x_t = (1 - t) x_0 + t x_1`` leads from the photo to the preview with a little noise; the network
predicts where it ends. Everything comes out of the stream, the noise seed too: a decode repeats.

References
    [1] Liu et al., "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow", ICLR 2023.
    [2] Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023.
    [3] Ghouse et al., DIRAC, 2023: start late, from the decoded picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput, logging
from torch import Tensor

from .conditioning import DEFAULT_STEPS, OnStep, RefinementCondition
from .errors import ArgumentError, WeightsError
from .images import crop, pad_to_multiple
from .refiner import RefinerUNet
from .tiling import CELL, DEFAULT_TILE, run_tiled

MAX_STEPS = 8


@dataclass
class RefinementOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        images: list of PIL images, array ``(B, H, W, 3)`` or tensor ``(B, 3, H, W)`` in [0, 1].
    """

    images: Any


class RefinementPipeline(DiffusionPipeline):
    """Refine previews.

    Args:
        unet: predicts the photo, see :class:`.refiner.RefinerUNet`.
        scheduler: any diffusers scheduler of flows (``FlowMatchEulerDiscreteScheduler``,
            ``FlowMatchHeunDiscreteScheduler``, ``DPMSolverMultistepScheduler(prediction_type="flow_prediction",
            use_flow_sigmas=True)`` ...).
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ("sample", "denoised")

    def __init__(self, unet: RefinerUNet, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @classmethod
    def of(cls, unet: RefinerUNet) -> RefinementPipeline:
        """The pipeline with the scheduler that our networks are trained for: Euler steps along the flow."""
        return cls(unet, FlowMatchEulerDiscreteScheduler(shift=1.0))

    @torch.no_grad()
    def __call__(
        self,
        preview: Tensor,
        y_hat: Tensor,
        quality: Tensor,
        num_inference_steps: int = DEFAULT_STEPS,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict[str, Tensor]], dict] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("denoised",),
        tile: int = DEFAULT_TILE,
    ) -> RefinementOutput | tuple:
        """Run the flow.

        Args:
            preview: ``(B, 3, H, W)`` in [0, 1], any size.
            y_hat: ``(B, C, ceil(H/16), ceil(W/16))``, the decoded latent after inverse gain.
            quality: ``(B,)`` in [0, 5].
            num_inference_steps: 1 to 8 evaluations of the network (a scheduler of second order takes more).
            generator: of the noise; on the CPU, so that a GPU starts from the same noise.
            output_type: ``"pil"``, ``"np"`` or ``"pt"``.
            return_dict: return a :class:`RefinementOutput`, else a tuple.
            callback_on_step_end: called as ``callback(pipeline, step, timestep, tensors)`` after each step; may
                return replacements, and stop early by setting ``pipeline._interrupt = True``.
            callback_on_step_end_tensor_inputs: which tensors it gets: ``"sample"`` (x_t), ``"denoised"``
                (the predicted photo), both ``(B, 3, H', W')`` in about [-1, 1], padded to multiples of 16.
            tile: side in pixels above which pictures are refined in pieces, to bound the memory.

        Raises:
            ArgumentError: a number of steps or a shape that does not fit.
        """
        if not 1 <= num_inference_steps <= MAX_STEPS:
            raise ArgumentError(f"steps={num_inference_steps}: give 1 to {MAX_STEPS}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ArgumentError(
                f"callback_on_step_end_tensor_inputs: {sorted(unknown)} unknown; there are "
                f"{', '.join(self._callback_tensor_inputs)}."
            )
        size = preview.shape[-2:]
        expected = (len(preview), self.unet.config.latent_channels, *(-(-s // CELL) for s in size))
        if tuple(y_hat.shape) != expected:
            raise ArgumentError(
                f"y_hat has shape {tuple(y_hat.shape)}; this preview needs {expected}."
            )
        device, dtype = self._execution_device, self.unet.dtype
        # In place wherever nobody else looks: each of these tensors is 144 MB for 12 megapixels.
        start = preview.to(device, dtype).mul(2).sub_(1)
        start, _ = pad_to_multiple(start, CELL)  # (B, 3, H', W')
        y_hat, quality = y_hat.to(device, dtype), quality.to(device, dtype)
        noise = torch.randn(start.shape, generator=generator, dtype=torch.float32).to(device, dtype)
        sample = noise.mul_(self.unet.config.noise).add_(start)  # x_1, in the noise's memory
        del noise
        self._set_timesteps(num_inference_steps, device)
        timesteps = self.scheduler.timesteps
        self._interrupt = False
        with self.progress_bar(total=len(timesteps)) as bar:
            for step, timestep in enumerate(timesteps):
                t = self._flow_time(step, timestep)
                denoised = self._denoise(sample, t, start, y_hat, quality, tile)
                watched = callback_on_step_end is not None
                velocity = torch.sub(sample, denoised, out=None if watched else denoised).div_(t)
                sample = self.scheduler.step(velocity, timestep, sample, return_dict=False)[0]
                bar.update()
                if watched:
                    tensors = {"sample": sample, "denoised": denoised}
                    chosen = {k: tensors[k] for k in callback_on_step_end_tensor_inputs}
                    sample = (callback_on_step_end(self, step, timestep, chosen) or {}).get(
                        "sample", sample
                    )
                if self._interrupt:
                    break
        del start, denoised, velocity
        refined = crop(sample.float() * 0.5, size).add_(0.5).clamp_(0, 1)
        images = _OUTPUT[output_type](refined) if output_type in _OUTPUT else None
        if images is None:
            raise ArgumentError(f"output_type={output_type!r}: choose one of {', '.join(_OUTPUT)}.")
        return RefinementOutput(images) if return_dict else (images,)

    def _denoise(
        self, sample: Tensor, t: float, start: Tensor, y_hat: Tensor, quality: Tensor, tile: int
    ) -> Tensor:
        """x0_hat ``(B, 3, H', W')``, in pieces if the picture is large."""
        times = torch.full((len(sample),), t, device=sample.device, dtype=sample.dtype)

        def network(x: Tensor, preview: Tensor, latent: Tensor) -> Tensor:
            return self.unet(x, times, preview, latent, quality)

        inputs = ((sample, 1), (start, 1), (y_hat, CELL))
        return run_tiled(network, inputs, out_stride=1, margin=self.unet.margin, tile=tile)

    def _set_timesteps(self, steps: int, device: torch.device) -> None:
        """Evenly spaced times 1, 1 - 1/N, ..., 1/N; a scheduler that takes none chooses its own."""
        times = np.linspace(1.0, 1.0 / steps, steps)
        if "sigmas" in inspect.signature(self.scheduler.set_timesteps).parameters:
            self.scheduler.set_timesteps(sigmas=times, device=device)
        else:
            self.scheduler.set_timesteps(steps, device=device)

    def _flow_time(self, step: int, timestep: Tensor) -> float:
        """Time in (0, 1] of a step: the scheduler's sigma is the weight of the flow's starting point."""
        sigmas = getattr(self.scheduler, "sigmas", None)
        index = self.scheduler.step_index
        if sigmas is not None and len(sigmas) > step:
            return float(sigmas[step if index is None else index])
        return float(timestep) / self.scheduler.config.num_train_timesteps


def _to_pil(images: Tensor) -> list:
    return VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(images))


_OUTPUT: dict[str, Callable[[Tensor], Any]] = {
    "pil": _to_pil,
    "np": VaeImageProcessor.pt_to_numpy,
    "pt": lambda images: images,
}


class FlowRefiner:
    """Our own :class:`~.conditioning.Refiner`: the pipeline, fed from a decoded stream.

    Args:
        pipeline: a trained pipeline.
        tile: see :meth:`RefinementPipeline.__call__`.
    """

    max_steps = MAX_STEPS

    def __init__(self, pipeline: RefinementPipeline, tile: int = DEFAULT_TILE) -> None:
        self.pipeline, self.tile = pipeline, tile
        pipeline.set_progress_bar_config(disable=True)

    @property
    def codec_id(self) -> int:
        """Model id of the codec that it was trained for."""
        return self.pipeline.unet.config.codec_id

    def refine(
        self, condition: RefinementCondition, steps: int, on_step: OnStep | None = None
    ) -> Tensor:
        """See :meth:`.conditioning.Refiner.refine`."""
        size = condition.preview.shape[-2:]

        def callback(_: Any, step: int, __: Any, tensors: dict[str, Tensor]) -> dict:
            picture = crop(tensors["denoised"].float() * 0.5 + 0.5, size).clamp(0, 1)
            on_step(step + 1, picture)
            return {}

        return self.pipeline(
            condition.preview,
            condition.y_hat,
            condition.quality,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(condition.seed),
            output_type="pt",
            callback_on_step_end=callback if on_step is not None else None,
            tile=self.tile,
        ).images


def shipped_refiner() -> Path:
    """Folder of the refiner that comes with the library."""
    return Path(__file__).parent / "weights" / "sketchfusion-refiner"


@contextmanager
def _no_loading_bar() -> Iterator[None]:
    """Two small files need no bar; restored, since the setting is for all of diffusers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_refiner(
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> FlowRefiner:
    """Load a refiner that ``RefinementPipeline.save_pretrained`` wrote.

    Args:
        folder: None for the one that comes with the library.
        device, dtype: where and in what the network runs.

    Raises:
        WeightsError: missing or damaged; only safetensors are read, never pickles.
    """
    path = Path(folder) if folder is not None else shipped_refiner()
    if not (path / "model_index.json").is_file():
        raise WeightsError(
            f"{path}: holds no refiner (no model_index.json). Train one with the recipe 'refiner', "
            "or decode with stage='preview'."
        )
    try:
        unet = RefinerUNet.from_pretrained(
            path, subfolder="unet", use_safetensors=True, local_files_only=True, torch_dtype=dtype
        )
        with _no_loading_bar():
            pipeline = RefinementPipeline.from_pretrained(
                path, unet=unet, use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path}: damaged or not a refiner ({reason}). Fetch it again."
        ) from error
    pipeline.unet.requires_grad_(False).to(memory_format=torch.channels_last)
    return FlowRefiner(pipeline.to(device))
