"""A large pretrained prior as the second receiver stage: Stable Diffusion behind the Refiner protocol.

    preview --> VAE --> + noise (strength) --> UNet, steps times --> VAE --> refined picture
    sketch  --> inverted, 3 channels --> ControlNet --^

The picture starts from the preview [1], so colour and layout are those of the stream; a ControlNet [2] holds the
lines to the sketch. The noise is seeded by the stream: the same bytes give the same picture on the same machine.

diffusers and transformers are imported when a prior is made.

References
    [1] Meng et al., "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations", ICLR 2022.
    [2] Zhang et al., "Adding Conditional Control to Text-to-Image Diffusion Models", ICCV 2023.
    [3] Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022.
"""

from __future__ import annotations

import copy
import inspect
import math
import os
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import checks
from .conditioning import DEFAULT_REALISM, OnStep, RefinementCondition, one_at_a_time
from .errors import ArgumentError, DependencyMissing, WeightsError
from .hardware import choose_device
from .images import crop, pad_to_multiple

__all__ = ["PriorRefiner", "load_prior"]

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class PriorRefiner:
    """Stable Diffusion, started from the preview, as a :class:`.Refiner`.

    One picture is refined at a time by a pipeline and its scheduler; further threads wait.

    Args:
        pipeline: a diffusers ``StableDiffusionImg2ImgPipeline``, or ``StableDiffusionControlNetImg2ImgPipeline``
            with one ControlNet made for white lines on black (HED, soft edge, scribble).
        prompt, negative_prompt: what the picture shows, and what it must not. They are not in the stream: a
            receiver who needs a caption must have got it, and its bytes count.
        strength: how far the preview is noised before it is denoised, 0.05 (hardly) to 1 (entirely). The higher,
            the more detail is invented.
        guidance_scale: classifier-free guidance; 1 or less switches it off. It has no effect while the two prompts
            are equal, so half the UNet's work is saved then.
        control_scale: weight of the sketch, 0 or more; without a ControlNet it has no effect.

    Attributes:
        pipeline: as passed in, e.g. for ``pipeline.enable_model_cpu_offload()``; its progress bar is off unless it was
            configured.
        has_controlnet: whether the sketch takes part.

    Raises:
        ArgumentError: another pipeline or scheduler, or a number out of range.
        DependencyMissing: diffusers or transformers is not installed.
    """

    max_steps = 50

    def __init__(
        self,
        pipeline: Any,
        prompt: str = "",
        negative_prompt: str = "",
        strength: float = 0.5,
        guidance_scale: float = 5.0,
        control_scale: float = 1.0,
    ) -> None:
        diffusers = import_diffusers("refining with Stable Diffusion")
        controlled = diffusers.StableDiffusionControlNetImg2ImgPipeline
        require_pipeline(pipeline, diffusers.StableDiffusionImg2ImgPipeline, controlled)
        self.pipeline = pipeline
        self.has_controlnet = isinstance(pipeline, controlled)
        self.prompt = checks.text("prompt", prompt)
        self.negative_prompt = checks.text("negative_prompt", negative_prompt)
        self.strength = checks.number("strength", strength, 0.05, 1)
        self.guidance_scale = checks.number("guidance_scale", guidance_scale, -math.inf)
        self.control_scale = checks.number("control_scale", control_scale, 0)

    def refine(
        self,
        condition: RefinementCondition,
        steps: int,
        on_step: OnStep | None = None,
        realism: float = DEFAULT_REALISM,
    ) -> Tensor:
        """Restore detail with the prior.

        Args:
            condition: what the stream says; preview, sketch and seed are used.
            steps: denoising steps that run, 1 to ``max_steps``, whatever the strength.
            on_step: called after every step with the steps done and the picture so far ``(1, 3, H, W)`` in [0, 1],
                noise that is still there included. Each call costs a pass through the VAE decoder.
            realism: 0 is the preview, 1 the prior's picture; between them the two are mixed.

        Returns:
            Float32 ``(1, 3, H, W)`` in [0, 1], of the preview's size and on its device.

        Raises:
            ArgumentError: ``steps`` or ``realism`` out of range.
            WeightsError: values that are not finite (half precision overflowed).
        """
        checks.kind("condition", condition, RefinementCondition, "a RefinementCondition")
        steps = checks.whole("steps", steps, 1, self.max_steps)
        realism = checks.number("realism", realism, 0, 1)
        checks.function("on_step", on_step)
        preview = condition.preview.detach().float().clamp(0, 1)
        multiple, size = self.pipeline.vae_scale_factor, preview.shape[-2:]

        def to_picture(padded: Tensor) -> Tensor:
            picture = crop(padded, size).to(preview.device, torch.float32).clamp(0, 1)
            return torch.lerp(preview, picture, realism)

        def report(pipeline: Any, index: int, _time: Any, tensors: dict[str, Tensor]) -> dict:
            latents = tensors["latents"] / pipeline.vae.config.scaling_factor
            decoded = pipeline.vae.decode(latents, return_dict=False)[0]
            assert on_step is not None
            on_step(index + 1, to_picture(decoded.float() / 2 + 0.5))  # the VAE's range is [-1, 1]
            return {}

        options: dict[str, Any] = {"callback_on_step_end": report} if on_step else {}
        if self.has_controlnet:  # dark lines become white ones on black, in three channels
            lines = (1 - condition.sketch.detach().float().clamp(0, 1)).expand(-1, 3, -1, -1)
            options["control_image"] = pad_to_multiple(lines.contiguous(), multiple)[0]
            options["controlnet_conditioning_scale"] = self.control_scale
        with one_at_a_time(self.pipeline.scheduler):
            output = self.pipeline(
                prompt=self.prompt,
                negative_prompt=self.negative_prompt,
                image=pad_to_multiple(preview, multiple)[0],
                strength=self.strength,
                num_inference_steps=schedule_length(steps, self.strength),
                guidance_scale=self.guidance_scale if self.prompt != self.negative_prompt else 1.0,
                # On the CPU, so that a GPU starts from the same noise.
                generator=torch.Generator("cpu").manual_seed(condition.seed),
                output_type="pt",
                **options,
            )
        return to_picture(require_finite(output.images))


def load_prior(
    model: str | Path,
    controlnet: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    **options: Any,
) -> PriorRefiner:
    """Load Stable Diffusion 1.x or 2.x, and a ControlNet made for it, from folders or the Hugging Face hub.

    Only ``.safetensors`` are read, never pickles. The scheduler becomes DDIM with the model's own noise schedule:
    one UNet evaluation a step and no randomness besides the seed. The safety checker is left out: the picture
    stays near the sender's photo, and a false alarm would black it out.

    Args:
        model: folder as ``save_pretrained`` or ``hf download`` leaves it, or hub id, e.g.
            ``"stable-diffusion-v1-5/stable-diffusion-v1-5"``, which is downloaded unless in the cache.
        controlnet: the same for a ControlNet that takes white lines on black; None to refine without the sketch.
        device: ``"auto"`` takes a GPU when there is one, else the CPU.
        dtype: of the networks; None for half precision on a GPU, single precision elsewhere.
        variant: ``"fp16"`` for files named ``*.fp16.safetensors``.
        options: arguments of :class:`PriorRefiner`, e.g. ``strength=0.4``.

    Raises:
        WeightsError: the weights cannot be had, are damaged, or exist as pickles only; says how to fetch them.
        ArgumentError: no such device or data type here, or an argument of :class:`PriorRefiner` is out of range.
        DependencyMissing: diffusers or transformers is not installed.
    """
    diffusers = import_diffusers("refining with Stable Diffusion")
    device = choose_device(device)
    if dtype is None:
        dtype = torch.float16 if device.type == "cuda" else torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise checks.refusal("dtype", dtype, "give a torch.dtype of floats, or None.")
    if variant is not None:
        checks.text("variant", variant)
    known = [*inspect.signature(PriorRefiner).parameters][1:]
    if unknown := sorted(set(options) - set(known)):
        raise ArgumentError(f"{', '.join(unknown)}: no option of load_prior; see PriorRefiner.")
    model = checks.path("model", model)
    common = {"dtype": dtype, "variant": variant, "use_safetensors": True}
    pipeline_class = diffusers.StableDiffusionImg2ImgPipeline
    parts: dict[str, Any] = {
        "safety_checker": None,
        "feature_extractor": None,  # serves the safety checker only
        "requires_safety_checker": False,
    }
    # transformers replaces torch.linspace while it loads, and torch notes the factory functions at the first use of a
    # device context, for good. Were that use inside transformers, load_codec after load_prior would fail.
    with torch.device("meta"):
        torch.linspace(0, 1, 2)
    if controlnet is not None:
        pipeline_class = diffusers.StableDiffusionControlNetImg2ImgPipeline
        control = checks.path("controlnet", controlnet)
        parts["controlnet"] = _load(diffusers.ControlNetModel, control, "config.json", **common)
    pipeline = _load(pipeline_class, model, "model_index.json", **common, **parts)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    return PriorRefiner(pipeline.to(device), **options)


def import_diffusers(purpose: str) -> ModuleType:
    """The module diffusers, if it and transformers are there.

    Raises:
        DependencyMissing: one of them is not.
    """
    for package in ("transformers", "diffusers"):
        try:
            module = import_module(package)
        except ImportError as error:
            raise DependencyMissing.for_extra(package, "priors", purpose) from error
    return module


def require_pipeline(pipeline: Any, *classes: type[Any]) -> None:
    """Refuse (:class:`.ArgumentError`) other pipelines, several ControlNets, multi-stage schedulers; quiet the rest."""
    if not isinstance(pipeline, classes):
        wanted = " or ".join(kind.__name__ for kind in classes)
        raise ArgumentError(f"pipeline of type {type(pipeline).__name__}: pass a {wanted}.")
    if hasattr(getattr(pipeline, "controlnet", None), "nets"):
        raise ArgumentError("pipeline with several ControlNets: pass one for white lines on black.")
    scheduler, probe = copy.deepcopy(pipeline.scheduler), 10  # another thread may be using it
    scheduler.set_timesteps(probe)
    if scheduler.order != 1 or len(scheduler.timesteps) != probe:
        raise ArgumentError(
            f"{type(scheduler).__name__} does not call the UNet once a step, so steps would not be counted right. "
            "Set pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)."
        )
    if not hasattr(pipeline, "_progress_bar_config"):  # else the caller has asked for something
        pipeline.set_progress_bar_config(disable=True)


def schedule_length(steps: int, strength: float) -> int:
    """Length of the schedule of which img2img runs ``steps``, namely ``int(length * strength)``."""
    length = math.ceil(steps / strength)
    while int(length * strength) < steps:  # the product may be rounded down
        length += 1
    return length


def require_finite(images: Tensor) -> Tensor:
    """The same tensor, or a :class:`.WeightsError` where it holds a NaN or an infinity."""
    if not torch.isfinite(images).all():
        raise WeightsError(
            "the prior returned values that are not finite. Load it with dtype=torch.float32."
        )
    return images


def _load(kind: Any, name: str | Path, index: str, **options: Any) -> Any:
    """``kind.from_pretrained`` with errors that say what to do; ``index`` is the file every folder has."""
    text = str(name)
    is_id = _HUB_ID.fullmatch(text) is not None
    hub_id = text if is_id else "OWNER/NAME"
    folder = hub_id.rsplit("/", 1)[-1]
    advice = (
        f"Fetch them with: hf download {hub_id} --local-dir {folder}, and pass {folder!r}. "
        "They must be .safetensors; pickles (.bin, .ckpt) are never loaded. docs/big-priors.md lists the files needed."
    )
    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, index)):
        raise WeightsError(f"{text}: folder without {index}. {advice}")
    if not os.path.isdir(name) and not is_id:
        raise WeightsError(f"{text}: no such folder, and no hub id. {advice}")
    try:
        return kind.from_pretrained(text, **options)
    except Exception as error:  # files, network and parsers of damaged weights: nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{text}: these weights cannot be had ({reason}). {advice}") from error
