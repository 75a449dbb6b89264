"""Encode-time refinement: search the latent of one photo for a better picture at the same rate.

      +--------------- Adam on the symbols s (of y) and on z, the networks stay as they are --------------+
      v                                                                                                   |
    s, z --soft rounding--> entropy model --> bits --------------------------------> lambda * bpp  ---+   |
                                 |                                                                    +---+
                               y_hat --> picture --> MSE, LPIPS;  renderer --> lines  ----------------+

The encoder network guesses a latent that is good on average; for a single photo a few dozen gradient steps find a
better one [1]. The stream stays an ordinary one and decoding costs nothing more.

The symbols ``s = y - mean`` are the variables, not ``y``: nearly all of them are zero at these rates, so that the
decoder mostly sees predicted means, and only in ``s`` does the gradient reach those through ``z`` and the context.
Rounding is soft and hardens over the search [2]. (With the codec of 0.3, 60 steps of it lowered the objective by 10 to
12 %, Gumbel noise as in [1] (SGA) by 3 to 5 %, and straight-through rounding raised it.) Lambda is driven so that the
bits meet a target, as in training.

References
    [1] Yang, Bamler, Mandt, "Improving Inference for Neural Image Compression", NeurIPS 2020.
    [2] Agustsson, Theis, "Universally Quantized Neural Compression", NeurIPS 2020 (soft rounding).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from . import bitstream, checks
from .coding import SketchCoder
from .entropy import EntropyModel, Walked, scale_of_index, symbol_likelihood
from .errors import ArgumentError, WeightsError
from .images import crop
from .integer import UNITS_PER_Y
from .latent_objective import MIN_LPIPS_SIDE, VIEWS, LpipsViews, Objective, View, cached_lpips
from .model import ModelConfig, SketchFusionModel, entropy_model
from .tiling import STRIDE
from .weights_io import load_codec_weights, part

__all__ = [
    "ITERATIONS",
    "MAX_EFFORT",
    "SearchNumbers",
    "SearchResult",
    "load_float_entropy",
    "optimise_latent",
]

ITERATIONS = (0, 14, 20, 26, 32, 40, 54, 72, 96, 128, 176)  # of effort 0 to 10
MAX_EFFORT = len(ITERATIONS) - 1
MAX_PIXELS = 2 << 20  # about 1.5 kB of memory per pixel

_LEARNING_RATE = 0.1  # symbols have unit bins
_WARMUP = 5  # steps to the full learning rate: Adam's first ones move every symbol alike
_TEMPERATURES = (0.12, 0.02)  # of the soft rounding, first and last; 0 is rounding
_HARDENED, _HARDENED_STEPS = 0.8, 80  # the last one is reached after this fraction or so many steps
_RATE_WEIGHTS = (2.0, 250.0)  # bounds of lambda
_RATE_GAIN = 0.3  # change of log lambda per step and unit of relative error
# What a latent's bits will be once it is hard, over those of the soft one. Rounding it before its time tells worse:
# bits seem a third too many then, and lambda runs away.
_SOFT_BITS = 1.05
_RATE_AIM = 0.99  # of the target bits
# Symbols below are dropped; as few as it takes for the bits to meet the target.
_DEAD_ZONES = (0.5, 2.5)
_HALVINGS = 10
_FITTINGS = 3  # times that the integer model may say that the float one counted too little
_PATIENCE = 3  # trials by true rounding without a gain
_STEP_COST = 2.3  # seconds of a step over those of a measurement

Picture = Callable[[Tensor, Tensor], Tensor]
OnProgress = Callable[[int, int, dict[str, float]], None]  # (steps done, steps at most, numbers)


@dataclass(frozen=True)
class SearchNumbers:
    """A latent measured as it would be sent: rounded and counted by the integer entropy model.

    Attributes:
        objective: ``rate_weight * bpp + distortion``.
        distortion: ``mse_weight * mse + lpips_weight * lpips + sketch_weight * sketch``.
        bits: ideal code length; the file is larger by header, checksums and the rounding to words.
        bpp: ``bits`` per pixel of the photo.
        mse: of the picture, pixel values 0..255.
        lpips: LPIPS with AlexNet; nan where it is not used.
        sketch: cross entropy of the drawn lines against the structural cue.
    """

    objective: float
    distortion: float
    bits: float
    bpp: float
    mse: float
    lpips: float
    sketch: float


@dataclass(frozen=True)
class SearchResult:
    """What the search found.

    Attributes:
        y: unscaled latent ``(1, C, h, w)``; at the index searched it lies on the centres of its bins.
        z: hyper latent ``(1, Z, ceil(h/4), ceil(w/4))`` to quantise it with; another may cost more bits.
        before, after: the start and the result.
        iterations: steps done; fewer than planned after an early stop.
        rate_weight: lambda of the two ``objective`` values.
        perceptual: whether LPIPS took part.
    """

    y: Tensor
    z: Tensor
    before: SearchNumbers
    after: SearchNumbers
    iterations: int
    rate_weight: float
    perceptual: bool


def load_float_entropy(weights: str | Path | None = None) -> EntropyModel:
    """The float entropy networks, which :func:`~sketchfusion_lite.load_codec` leaves out: frozen, on the CPU.

    Args:
        weights: a codec's ``.safetensors``; None for the weights that come with the library.

    Raises:
        WeightsError: missing, damaged, or no codec with float entropy networks.
    """
    tensors, fields, name = load_codec_weights(weights)
    entropy = entropy_model(ModelConfig.from_dict(fields))
    try:
        entropy.load_state_dict(part(tensors, "entropy", name))
    except RuntimeError as error:
        raise WeightsError(f"{name}: does not fit its own configuration ({error})") from error
    return entropy.eval().requires_grad_(False)


def optimise_latent(
    model: SketchFusionModel,
    entropy: EntropyModel,
    coder: SketchCoder,
    y: Tensor,
    photo: Tensor,
    index: int,
    *,
    effort: int = 5,
    size: tuple[int, int] | None = None,
    objective: Objective | None = None,
    picture: Picture | None = None,
    target_bits: float | None = None,
    rate_weight: float | None = None,
    max_pixels: int = MAX_PIXELS,
    on_progress: OnProgress | None = None,
) -> SearchResult:
    """Search a better latent for one photo at one quality.

    The result is measured through the integer entropy model. It has no more bits than ``target_bits`` and no higher
    objective than the start; where nothing of the kind is found, the start comes back. Only where the start itself
    is over the target may the objective grow. No random numbers are drawn: on one machine and with one number of
    threads, the same call gives the same latent.

    Args:
        model: encoder side, preview decoder and renderer; left as they are.
        entropy: float entropy networks, from :func:`load_float_entropy` or of a model in training.
        coder: with the integer entropy model that will code the latent.
        y: unscaled latent of the encoder ``(1, C, h, w)``.
        photo: ``(1, 3, 16h, 16w)`` in [0, 1], padded.
        index: quality index, 0 to 255.
        effort: 0 (returns the start) to 10; ``ITERATIONS`` has the number of steps.
        size: ``(H, W)`` of the photo before it was padded; None if it was not.
        objective: weights and LPIPS network; None loads the network from the cache, see :func:`.cached_lpips`.
        picture: what is made of a latent and judged: ``(y_hat (1, C, h, w) after inverse gain, quality (1,))`` -> about
            [0, 1], ``(1, 3, 16h, 16w)``; None for the preview.
        target_bits: code length to stay within; None for that of the start.
        rate_weight: lambda per bit per pixel at which results are compared and where the search starts; None takes
            the slope of this codec's own rate-distortion curve at ``index``.
        max_pixels: refuse larger pictures, since memory grows with them.
        on_progress: called as ``on_progress(done, total, numbers)``: once before the first step with an estimate of the
            ``seconds`` to come, then after every step with those that are left, and with ``objective``, ``bpp``,
            ``mse``, ``lpips`` of the soft latent and ``rate_weight``. An early stop ends the calls.

    Raises:
        ArgumentError: an argument out of range, shapes that do not fit, or a picture over ``max_pixels``.
    """
    effort = checks.whole("effort", effort, 0, MAX_EFFORT)
    index = checks.whole("index", index, 0, 255)
    checks.whole("max_pixels", max_pixels, 1)
    checks.function("picture", picture)
    checks.function("on_progress", on_progress)
    for name, tensor in (("y", y), ("photo", photo)):
        if checks.kind(name, tensor, Tensor, "a tensor").ndim != 4:
            raise ArgumentError(f"{name} has shape {tuple(tensor.shape)}; give one with four axes.")
    height, width = photo.shape[-2:]
    if photo.shape != (1, 3, STRIDE * y.shape[-2], STRIDE * y.shape[-1]) or len(y) != 1:
        raise ArgumentError(f"photo {tuple(photo.shape)} is not {STRIDE} times y {tuple(y.shape)}.")
    if height * width > max_pixels:
        raise ArgumentError(
            f"the search of a {width}x{height} picture would take too much memory: at most {max_pixels} pixels. "
            "Raise max_pixels, or downscale it."
        )
    for name, value in (("target_bits", target_bits), ("rate_weight", rate_weight)):
        if value is not None:
            checks.number(name, value, 0, above=True)
    if not hasattr(entropy, "synthesis"):
        raise ArgumentError("entropy has no float networks; take load_float_entropy(weights).")
    objective = objective or Objective(lpips=cached_lpips())
    # A caller may be in inference mode, whose tensors cannot carry gradients.
    with torch.inference_mode(False), torch.enable_grad():
        photo, start = photo.clone(), y.clone()
        size = size or (height, width)
        search = _Search(model, entropy, coder, photo, size, index, objective, picture)
        return search.run(start, ITERATIONS[effort], target_bits, rate_weight, on_progress)


class _Search:
    """One photo at one quality."""

    def __init__(
        self,
        model: SketchFusionModel,
        entropy: EntropyModel,
        coder: SketchCoder,
        photo: Tensor,
        size: tuple[int, int],
        index: int,
        objective: Objective,
        picture: Picture | None,
    ) -> None:
        self.picture = picture or model.preview
        parameter = next(model.preview.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.model, self.entropy, self.coder = model, entropy.to(self.device), coder
        self.size, self.index, self.weights = size, index, objective
        self.area = size[0] * size[1]
        photo = photo.to(self.device)
        self.photo = crop(photo, size).float()  # (1, 3, H, W)
        with torch.no_grad():
            lines = model.boundary_detector(photo.to(self.dtype)).sigmoid().float()
            self.lines = F.max_pool2d(lines, 2)  # (1, 1, 8h, 8w), as training's sketch_loss
        self.lpips = None
        if objective.lpips is not None and min(size) >= MIN_LPIPS_SIDE:
            self.lpips = LpipsViews(objective.lpips.to(self.device), self.photo)

    def run(
        self,
        y: Tensor,
        iterations: int,
        target_bits: float | None,
        rate_weight: float | None,
        on_progress: OnProgress | None,
    ) -> SearchResult:
        start = y.float() * self._gain(self.index)[0]  # (1, C, h, w), scaled
        with torch.no_grad():
            z = self._hyper(start)
            weight = rate_weight or (self._slope(y) if iterations else _RATE_WEIGHTS[0])
        started = perf_counter()
        before = self.measure(start, z, self.index, weight)
        measured = perf_counter() - started
        target = target_bits or before.bits
        best = (before.bits > target, before.objective)
        found, after, done = (y, z), before, 0
        every, fruitless = max(3, iterations // 16), 0
        symbols, hyper = (x.requires_grad_() for x in self._symbols(start, z))
        adam = torch.optim.Adam([symbols, hyper], lr=_LEARNING_RATE, betas=(0.9, 0.99))
        lowest, highest = map(math.log, _RATE_WEIGHTS)
        log_weight = math.log(weight)
        if on_progress and iterations:
            on_progress(0, iterations, {"seconds": _STEP_COST * measured * iterations})
        began = perf_counter()
        for done in range(1, iterations + 1):
            progress = done / iterations
            adam.param_groups[0]["lr"] = _LEARNING_RATE * min(
                1.0, done / _WARMUP, 2 * (1 - progress) + 0.05
            )
            hardening = min(1.0, done / min(_HARDENED * iterations, _HARDENED_STEPS))
            temperature = _TEMPERATURES[0] ** (1 - hardening) * _TEMPERATURES[1] ** hardening
            numbers = self._step(adam, temperature, math.exp(log_weight), done)
            bits = _SOFT_BITS * numbers["bpp"] * self.area
            if hardening == 1:
                with torch.no_grad():
                    bits = self.walk(symbols, hyper, 0.0)[2].item()
            log_weight += _RATE_GAIN * min(max(bits / (_RATE_AIM * target) - 1, -0.5), 0.5)
            log_weight = min(max(log_weight, lowest), highest)
            if on_progress:
                left = (perf_counter() - began) * (iterations / done - 1)
                on_progress(done, iterations, numbers | {"seconds": left})
            # Before it is hard, a trial by true rounding says little.
            if hardening < 1 or (done % every and done != iterations):
                continue
            candidate, trial = self._fitting(symbols, hyper, target, weight)
            rank = (trial.bits > target, trial.objective)
            better = rank < best and trial.bits <= target
            fruitless = 0 if better else fruitless + 1
            if better:
                best, after = rank, trial
                found = (candidate[0] / self._gain(self.index)[0], candidate[1])
            if fruitless >= _PATIENCE:
                break
        found_y, found_z = found
        result = found_y.to(y.dtype).detach(), found_z.to(y.dtype).detach()
        return SearchResult(*result, before, after, done, weight, self.lpips is not None)

    def _step(
        self, adam: torch.optim.Adam, temperature: float, rate_weight: float, count: int
    ) -> dict[str, float]:
        """One step of Adam; the numbers of the soft latent before it."""
        variables = adam.param_groups[0]["params"]
        y_hat, _, bits = self.walk(*variables, temperature)
        distortion, terms = self.distortion(y_hat, self.index, VIEWS[count % len(VIEWS)])
        bpp = bits / self.area
        loss = rate_weight * bpp + distortion
        for variable, gradient in zip(variables, torch.autograd.grad(loss, variables), strict=True):
            variable.grad = gradient
        adam.step()
        numbers = {"objective": loss, "bpp": bpp, "mse": terms["mse"], "lpips": terms["lpips"]}
        return {name: v.item() for name, v in numbers.items()} | {"rate_weight": rate_weight}

    def walk(
        self, symbols: Tensor, hyper: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The entropy model with symbols given: scaled ``y_hat``, ``z_hat`` and bits ``()``."""
        rounded, z_hat = soft_round(symbols, temperature), soft_round(hyper, temperature)
        walked = self._walk(z_hat, lambda own, _: rounded[:, own])
        bits = -self.entropy.hyper_likelihood(z_hat).log2().sum()
        bits = bits - symbol_likelihood(rounded, scale_of_index(walked.indices)).log2().sum()
        return rounded + walked.means, z_hat, bits

    def _fitting(
        self, symbols: Tensor, hyper: Tensor, target: float, rate_weight: float
    ) -> tuple[tuple[Tensor, Tensor], SearchNumbers]:
        """The latent rounded such that the integer model, which codes, counts no more than ``target`` bits."""
        allowed = target
        for _ in range(_FITTINGS):
            candidate = self._within(symbols, hyper, allowed)
            trial = self.measure(*candidate, self.index, rate_weight)
            if trial.bits <= target:
                break
            allowed *= 0.999 * target / trial.bits
        return candidate, trial

    @torch.no_grad()
    def _within(self, symbols: Tensor, hyper: Tensor, bits: float) -> tuple[Tensor, Tensor]:
        """Rounded ``y_hat`` and ``z_hat``; if over ``bits``, with the smallest dead zone that meets them."""
        low, high = _DEAD_ZONES
        found = self._dropped(symbols, hyper, low)
        for _ in range(_HALVINGS if found[2] > bits else 0):
            middle = low + (high - low) / 4  # the answer is near the low end
            trial = self._dropped(symbols, hyper, middle)
            if trial[2] > bits:
                low = middle
            else:
                high, found = middle, trial
        return found[:2]

    def _dropped(
        self, symbols: Tensor, hyper: Tensor, dead_zone: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`walk` without the symbols below ``dead_zone``."""
        return self.walk(torch.where(symbols.abs() < dead_zone, 0.0, symbols), hyper, 0.0)

    @torch.no_grad()
    def _symbols(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Variables to start from, of a scaled latent and its hyper latent."""
        means = self._walk(z.round(), lambda own, means: (y[:, own] - means).round()).means
        # Off the edges of their bins, where soft rounding is no rounding.
        return tuple(x.clamp(x.round() - 0.45, x.round() + 0.45) for x in (y - means, z))

    def _walk(self, z_hat: Tensor, symbols_of: Callable[[slice, Tensor], Tensor]) -> Walked:
        """The four passes with symbols given, see :meth:`.EntropyModel.walk`."""
        height, width = (side // 8 for side in self.lines.shape[-2:])
        psi = self.entropy.synthesis(z_hat, self._quality(self.index))[..., :height, :width]
        return self.entropy.walk(psi, symbols_of)

    def distortion(
        self, y_hat: Tensor, index: int, view: View = (0, 0, 1), clamp: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted distortion ``()`` of a scaled ``y_hat`` and its terms."""
        y_hat = (y_hat * self._gain(index)[1]).to(self.dtype)
        picture = crop(self.picture(y_hat, self._quality(index).to(self.dtype)), self.size)
        picture = picture.float().clamp(0, 1) if clamp else picture.float()
        logits = self.model.renderer(y_hat[:, : self.entropy.structure_channels]).float()
        mse = (picture - self.photo).square().mean() * 255**2
        sketch = F.binary_cross_entropy_with_logits(logits, self.lines)
        total = self.weights.mse_weight * mse + self.weights.sketch_weight * sketch
        lpips = mse.new_tensor(math.nan)
        if self.lpips is not None:
            lpips = self.lpips(picture, view)
            total = total + self.weights.lpips_weight * lpips
        return total, {"mse": mse, "lpips": lpips, "sketch": sketch}

    @torch.no_grad()
    def measure(self, y: Tensor, z: Tensor, index: int, rate_weight: float) -> SearchNumbers:
        """Numbers of a scaled latent as the codec would send it."""
        sent = self.coder.quantise(y, z, index)
        y_hat = (sent.y_hat / UNITS_PER_Y).float().to(self.device)
        distortion, terms = self.distortion(y_hat, index, clamp=True)
        bits, total = sum(sent.bits), distortion.item()
        values = {name: value.item() for name, value in terms.items()}
        return SearchNumbers(
            rate_weight * bits / self.area + total, total, bits, bits / self.area, **values
        )

    def _slope(self, y: Tensor) -> float:
        """Lambda at which this photo's rate-distortion curve has its tangent: distortion saved per bpp."""
        ends = []
        for index in (max(self.index - 12, 0), min(self.index + 12, 255)):
            scaled = y.float() * self._gain(index)[0]
            ends.append(self.measure(scaled, self._hyper(scaled), index, 0.0))
        saved, paid = ends[0].distortion - ends[1].distortion, ends[1].bpp - ends[0].bpp
        slope = saved / paid if paid > 0 else 0.0
        return min(max(slope, _RATE_WEIGHTS[0]), _RATE_WEIGHTS[1])

    def _hyper(self, scaled: Tensor) -> Tensor:
        """The hyper latent that the codec would derive from a scaled latent."""
        return self.model.entropy.hyper_latent(scaled.to(self.dtype)).float()

    @torch.no_grad()
    def _gain(self, index: int) -> tuple[Tensor, Tensor]:
        return tuple(g.float() for g in self.model.gain(self._quality(index).to(self.dtype)))

    def _quality(self, index: int) -> Tensor:
        return torch.tensor([bitstream.index_to_quality(index)], device=self.device)


def soft_round(x: Tensor, temperature: float) -> Tensor:
    """Round softly [2]: exactly for temperature 0, the identity in the limit of a high one."""
    if temperature == 0:
        return x.round()
    middle = x.floor() + 0.5
    step = torch.tanh((x - middle) / temperature) / math.tanh(0.5 / temperature)
    return middle + 0.5 * step
