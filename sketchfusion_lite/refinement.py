"""RefinementPipeline: the second receiver stage as a diffusers pipeline, for other schedulers and diffusers' own tools.

    preview, y_hat, quality --> sampler.sample --> x0_hat --> v = (x_t - x0_hat) / t --> scheduler --> x_t'

The codec needs none of it: importing diffusers takes seconds, and :class:`.sampler.FlowRefiner` gives the same picture
without.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    ConfigMixin,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    SchedulerMixin,
)
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from . import checks
from .conditioning import DEFAULT_REALISM, DEFAULT_STEPS, one_at_a_time
from .refiner import RefinerConfig, RefinerUNet
from .refiner_io import load_refiner
from .sampler import Generators, flow_times, sample
from .tiling import DEFAULT_TILE

__all__ = ["RefinementPipeline", "RefinerModel", "load_refiner"]

Callback = Callable[[Any, int, Any, dict[str, Tensor]], dict]  # pipeline, step, timestep, tensors


class RefinerModel(RefinerUNet, ModelMixin, ConfigMixin):
    """The refiner as diffusers stores and loads it; its arguments are the fields of :class:`.RefinerConfig`."""

    config_name = "config.json"
    # diffusers keeps the configuration itself, with the same fields; what the network sets is the same again.
    config = property(lambda self: self._internal_dict, lambda self, config: None)

    @register_to_config
    def __init__(
        self,
        latent_channels: int = RefinerConfig.latent_channels,
        levels: int = RefinerConfig.levels,
        widths: tuple[int, int, int] = RefinerConfig.widths,
        depths: tuple[int, int, int] = RefinerConfig.depths,
        down_depths: tuple[int, int] = RefinerConfig.down_depths,
        noise: float = RefinerConfig.noise,
        codec_id: int = RefinerConfig.codec_id,
        activation: str = RefinerConfig.activation,
    ) -> None:
        super().__init__(RefinerConfig.from_dict(dict(self.config)))

    @classmethod
    def of(cls, unet: RefinerUNet) -> RefinerModel:
        """The same network; it shares the weights."""
        with torch.device("meta"):
            model = cls(**unet.config.to_dict())
        model.load_state_dict(unet.state_dict(), assign=True)
        return model.eval()


class RefinementPipeline(DiffusionPipeline):
    """Refine previews, one call at a time: a scheduler keeps its progress in itself, so further threads wait.

    Args:
        unet: predicts the photo.
        scheduler: any diffusers scheduler of flows (``FlowMatchEulerDiscreteScheduler``,
            ``FlowMatchHeunDiscreteScheduler``, ``DPMSolverMultistepScheduler(prediction_type="flow_prediction",
            use_flow_sigmas=True)`` ...).
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ("sample", "denoised")

    def __init__(self, unet: RefinerModel, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @classmethod
    def of(cls, unet: RefinerUNet) -> RefinementPipeline:
        """The pipeline with the scheduler that our networks are trained for: Euler steps along the flow."""
        return cls(RefinerModel.of(unet), FlowMatchEulerDiscreteScheduler(shift=1.0))

    @torch.no_grad()
    def __call__(
        self,
        preview: Tensor,
        y_hat: Tensor,
        quality: Tensor,
        num_inference_steps: int = DEFAULT_STEPS,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("denoised",),
        tile: int = DEFAULT_TILE,
        realism: float = DEFAULT_REALISM,
    ) -> ImagePipelineOutput | tuple:
        """Run the flow.

        Args:
            preview, y_hat, quality: see :func:`.sampler.sample`.
            num_inference_steps: 1 to 8 evaluations of the network (a scheduler of second order takes more).
            generator, tile, realism: see :func:`.sampler.sample`.
            output_type: ``"pil"``, ``"np"`` or ``"pt"``.
            return_dict: return an object with ``images``, else a tuple.
            callback_on_step_end: called as ``callback(pipeline, step, timestep, tensors)`` after each step; may
                return replacements, and stop early by setting ``pipeline._interrupt = True``.
            callback_on_step_end_tensor_inputs: which tensors it gets: ``"sample"`` (x_t), ``"denoised"``
                (the predicted photo), both ``(B, 3, H', W')`` in about [-1, 1], padded to multiples of 16.

        Raises:
            ArgumentError: an argument of another type, out of range, or of a shape that does not fit.
        """
        times = flow_times(num_inference_steps, "num_inference_steps")
        checks.one_of("output_type", output_type, _OUTPUT)
        checks.function("callback_on_step_end", callback_on_step_end)
        shown = callback_on_step_end_tensor_inputs
        checks.kind("callback_on_step_end_tensor_inputs", shown, (list, tuple), "a list of names")
        for name in shown:
            checks.one_of("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        watcher = callback_on_step_end

        def times_met() -> Iterator[float]:
            for step, timestep in enumerate(self.scheduler.timesteps):
                if self._interrupt:
                    return
                yield self._flow_time(step, timestep)

        def advance(step: int, x: Tensor, denoised: Tensor) -> Tensor:
            timestep = self.scheduler.timesteps[step]
            spare = None if watcher else denoised  # the velocity in its memory
            velocity = torch.sub(x, denoised, out=spare).div_(self._flow_time(step, timestep))
            x = self.scheduler.step(velocity, timestep, x, return_dict=False)[0]
            bar.update()
            if watcher is None:
                return x
            tensors = {"sample": x, "denoised": denoised}
            told = {name: tensors[name] for name in shown}
            return (watcher(self, step, timestep, told) or {}).get("sample", x)

        options: dict[str, Any] = {"generator": generator, "realism": realism, "tile": tile}
        with one_at_a_time(self.scheduler):
            self._set_timesteps(times)
            self._interrupt = False
            with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
                inputs = (self.unet, preview, y_hat, quality, times_met(), advance)
                refined = sample(*inputs, device=self._execution_device, **options)
        images = _OUTPUT[output_type](refined)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def _set_timesteps(self, times: list[float]) -> None:
        """Our times; a scheduler that takes none chooses its own."""
        device = self._execution_device
        if "sigmas" in inspect.signature(self.scheduler.set_timesteps).parameters:
            self.scheduler.set_timesteps(sigmas=np.array(times), device=device)
        else:
            self.scheduler.set_timesteps(len(times), device=device)

    def _flow_time(self, step: int, timestep: Tensor) -> float:
        """Time in (0, 1] of a step: the scheduler's sigma is the weight of the flow's starting point."""
        sigmas = getattr(self.scheduler, "sigmas", None)
        index = self.scheduler.step_index
        if sigmas is not None and len(sigmas) > step:
            return float(sigmas[step if index is None else index])
        return float(timestep) / self.scheduler.config.num_train_timesteps


_np, _pil = VaeImageProcessor.pt_to_numpy, VaeImageProcessor.numpy_to_pil
_OUTPUT = {"pil": lambda x: _pil(_np(x)), "np": _np, "pt": lambda x: x}

# DiffusionPipeline.from_pretrained looks a folder's class up among diffusers' own; there is no registry to enter it in.
diffusers.RefinementPipeline = RefinementPipeline
