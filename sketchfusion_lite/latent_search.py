"""The search behind ``effort``: change one photo's latent by gradient steps, for a better picture at the same rate.

      +--------------- Adam on the symbols s (of y) and on z, the networks stay as they are --------------+
      v                                                                                                   |
    s, z --soft rounding--> entropy model --> bits --------------------------------> lambda * bpp  ---+   |
                                 |                                                                    +---+
                               y_hat --> picture --> MSE, LPIPS;  renderer --> lines  ----------------+

The encoder network guesses a latent that is good on average; for a single photo a few dozen gradient steps find a
better one [1]. The stream stays an ordinary one and decoding costs nothing more.

The symbols ``s = y - mean`` are the variables, not ``y``: nearly all are zero at these rates, the decoder mostly sees
predicted means, and only in ``s`` does the gradient reach those through ``z`` and the context. Rounding is soft and
hardens over the search [2]. (With the codec of 0.3, 60 steps of it lowered the objective by 10 to 12 %, Gumbel noise as
in [1] by 3 to 5 %, and straight-through rounding raised it.) Lambda is driven so that the bits meet a target.

References
    [1] Yang, Bamler, Mandt, "Improving Inference for Neural Image Compression", NeurIPS 2020.
    [2] Agustsson, Theis, "Universally Quantized Neural Compression", NeurIPS 2020 (soft rounding).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from .entropy import EntropyModel, Walked, scale_of_index, symbol_likelihood
from .latent_objective import RATE_WEIGHTS, VIEWS, Judge, Numbers, Objective, Picture
from .model import load_float_entropy
from .signal_path import SignalPath
from .tiling import STRIDE

__all__ = ["ITERATIONS", "MAX_EFFORT", "SearchResult", "load_float_entropy", "optimise_latent"]

ITERATIONS = (0, 14, 20, 26, 32, 40, 54, 72, 96, 128, 176)  # of effort 0 to 10
MAX_EFFORT = len(ITERATIONS) - 1

_LEARNING_RATE = 0.1  # symbols have unit bins
_WARMUP = 5  # steps to the full learning rate: Adam's first ones move every symbol alike
_TEMPERATURES = (0.12, 0.02)  # of the soft rounding, first and last; 0 is rounding
_HARDENED, _HARDENED_STEPS = 0.8, 80  # the last one is reached after this fraction or so many steps
_RATE_GAIN = 0.3  # change of log lambda per step and unit of relative error
# What a latent's bits will be once it is hard, over those of the soft one. Rounding it before its time tells worse:
# bits seem a third too many then, and lambda runs away.
_SOFT_BITS = 1.05
_RATE_AIM = 0.99  # of the target bits
_DEAD_ZONES = (0.5, 2.5)  # symbols below are dropped; as few as it takes to meet the target
_HALVINGS = 10
_FITTINGS = 3  # times that the integer model may say that the float one counted too little
_PATIENCE = 3  # trials by true rounding without a gain
_STEP_COST = 2.3  # seconds of a step over those of a measurement

OnProgress = Callable[[int, int, dict[str, float]], None]  # (steps done, steps at most, numbers)


class SearchResult(NamedTuple):
    """What the search found."""

    y: Tensor  # unscaled latent (1, C, h, w); at the index searched it lies on the centres of its bins
    z: Tensor  # hyper latent (1, Z, ceil(h/4), ceil(w/4)) to quantise it with; another may cost more bits
    before: Numbers
    after: Numbers
    iterations: int  # steps done; fewer than planned after an early stop


def optimise_latent(
    path: SignalPath,
    entropy: EntropyModel,
    y: Tensor,
    photo: Tensor,
    index: int,
    effort: int,
    objective: Objective,
    *,
    picture: Picture | None = None,
    target_bits: float | None = None,
    on_progress: OnProgress | None = None,
) -> SearchResult:
    """Search a better latent for one photo at one quality.

    The result is measured through the integer entropy model. It has no more bits than ``target_bits`` and no higher
    objective than the start; where nothing of the kind is found, the start comes back. Only where the start itself
    is over the target may the objective grow. No random numbers are drawn: on one machine and with one number of
    threads, the same call gives the same latent.

    Args:
        path: the codec's networks, left as they are.
        entropy: float entropy networks, from :func:`load_float_entropy` or of a model in training.
        y: unscaled latent of the encoder ``(1, C, h, w)``.
        photo: ``(1, 3, H, W)`` in [0, 1].
        index: quality index, 0 to 255.
        effort: 0 (returns the start) to 10; ``ITERATIONS`` has the number of steps.
        objective: by which results are judged.
        picture: what is made of a latent and judged: ``(y_hat (1, C, h, w) after inverse gain, quality (1,))`` -> about
            [0, 1], ``(1, 3, 16h, 16w)``; None for the preview.
        target_bits: code length to stay within; None for that of the start.
        on_progress: called as ``on_progress(done, total, numbers)``: once before the first step with an estimate of the
            ``seconds`` to come, then after every step with those that are left, and with ``objective``, ``bpp``,
            ``mse``, ``lpips`` of the soft latent and ``rate_weight``. An early stop ends the calls.
    """
    # A caller may be in inference mode, whose tensors cannot carry gradients.
    with torch.inference_mode(False), torch.enable_grad():
        judge = Judge(path, photo.clone(), objective, picture)
        search = _Search(entropy, judge, index)
        return search.run(y.clone(), ITERATIONS[effort], target_bits, on_progress)


class _Search:
    """The descent for one photo at one quality."""

    def __init__(self, entropy: EntropyModel, judge: Judge, index: int) -> None:
        self.entropy, self.judge, self.index = entropy.to(judge.path.device), judge, index

    def run(
        self, y: Tensor, steps: int, target_bits: float | None, on_progress: OnProgress | None
    ) -> SearchResult:
        judge, index, area = self.judge, self.index, self.judge.size.numel()
        gain = judge.gain(index)[0]
        start = y.float() * gain  # (1, C, h, w), scaled
        with torch.no_grad():
            z = judge.hyper(start)
            weight = judge.slope(y, index) if steps else RATE_WEIGHTS[0]
        started = perf_counter()
        before = after = judge.measure(start, z, index, weight)
        if on_progress and steps:
            seconds = _STEP_COST * (perf_counter() - started) * steps
            on_progress(0, steps, {"seconds": seconds})
        target = target_bits or before.bits
        found, best = (y, z), (before.bits > target, before.objective)
        symbols, hyper = (x.requires_grad_() for x in self._variables(start, z))
        adam = torch.optim.Adam([symbols, hyper], lr=_LEARNING_RATE, betas=(0.9, 0.99))
        lowest, highest = map(math.log, RATE_WEIGHTS)
        log_weight, done, fruitless, began = math.log(weight), 0, 0, perf_counter()
        for done in range(1, steps + 1):
            decay = 2 * (1 - done / steps) + 0.05
            adam.param_groups[0]["lr"] = _LEARNING_RATE * min(1.0, done / _WARMUP, decay)
            hardening = min(1.0, done / min(_HARDENED * steps, _HARDENED_STEPS))
            temperature = _TEMPERATURES[0] ** (1 - hardening) * _TEMPERATURES[1] ** hardening
            numbers = self._step(adam, temperature, math.exp(log_weight), done)
            bits = _SOFT_BITS * numbers["bpp"] * area
            if hardening == 1:
                with torch.no_grad():
                    bits = self.walk(symbols, hyper, 0.0)[2].item()
            log_weight += _RATE_GAIN * min(max(bits / (_RATE_AIM * target) - 1, -0.5), 0.5)
            log_weight = min(max(log_weight, lowest), highest)
            if on_progress:
                left = (perf_counter() - began) * (steps / done - 1)
                on_progress(done, steps, numbers | {"seconds": left})
            # Before it is hard, a trial by true rounding says little.
            if hardening < 1 or (done % max(3, steps // 16) and done != steps):
                continue
            (y_hat, z_hat), trial = self._fitting(symbols, hyper, target, weight)
            fruitless += 1
            if trial.bits <= target and (False, trial.objective) < best:
                best, after, fruitless = (False, trial.objective), trial, 0
                found = (y_hat / gain, z_hat)
            if fruitless >= _PATIENCE:
                break
        y_hat, z_hat = (x.to(y.dtype).detach() for x in found)
        return SearchResult(y_hat, z_hat, before, after, done)

    def _step(
        self, adam: torch.optim.Adam, temperature: float, rate_weight: float, count: int
    ) -> dict[str, float]:
        """One step of Adam; the numbers of the soft latent before it."""
        variables = symbols, hyper = adam.param_groups[0]["params"]
        y_hat, _, bits = self.walk(symbols, hyper, temperature)
        distortion, terms = self.judge.distortion(y_hat, self.index, VIEWS[count % len(VIEWS)])
        bpp = bits / self.judge.size.numel()
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
        walked = self._passes(z_hat, lambda own, _: rounded[:, own])
        bits = -self.entropy.hyper_likelihood(z_hat).log2().sum()
        bits = bits - symbol_likelihood(rounded, scale_of_index(walked.indices)).log2().sum()
        return rounded + walked.means, z_hat, bits

    def _passes(self, z_hat: Tensor, symbols_of: Callable[[slice, Tensor], Tensor]) -> Walked:
        height, width = (-(-side // STRIDE) for side in self.judge.size)
        psi = self.entropy.synthesis(z_hat, self.judge.quality(self.index))[..., :height, :width]
        return self.entropy.walk(psi, symbols_of)

    @torch.no_grad()
    def _variables(self, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Symbols and hyper latent to start from, of a scaled latent."""
        means = self._passes(z.round(), lambda own, means: (y[:, own] - means).round()).means
        # Off the edges of their bins, where soft rounding is no rounding.
        return tuple(x.clamp(x.round() - 0.45, x.round() + 0.45) for x in (y - means, z))

    def _fitting(
        self, symbols: Tensor, hyper: Tensor, target: float, rate_weight: float
    ) -> tuple[tuple[Tensor, Tensor], Numbers]:
        """The latent rounded such that the integer model, which codes, counts no more than ``target`` bits."""
        allowed = target
        for _ in range(_FITTINGS):
            candidate = self._within(symbols, hyper, allowed)
            trial = self.judge.measure(*candidate, self.index, rate_weight)
            if trial.bits <= target:
                break
            allowed *= 0.999 * target / trial.bits
        return candidate, trial

    @torch.no_grad()
    def _within(self, symbols: Tensor, hyper: Tensor, bits: float) -> tuple[Tensor, Tensor]:
        """Rounded ``y_hat`` and ``z_hat``; if over ``bits``, with the smallest dead zone that meets them."""

        def without(below: float) -> tuple[Tensor, Tensor, Tensor]:
            return self.walk(torch.where(symbols.abs() < below, 0.0, symbols), hyper, 0.0)

        low, high = _DEAD_ZONES
        found = without(low)
        for _ in range(_HALVINGS if found[2] > bits else 0):
            middle = low + (high - low) / 4  # the answer is near the low end
            trial = without(middle)
            if trial[2] > bits:
                low = middle
            else:
                high, found = middle, trial
        return found[:2]


def soft_round(x: Tensor, temperature: float) -> Tensor:
    """Round softly [2]: exactly for temperature 0, the identity in the limit of a high one."""
    if temperature == 0:
        return x.round()
    middle = x.floor() + 0.5
    step = torch.tanh((x - middle) / temperature) / math.tanh(0.5 / temperature)
    return middle + 0.5 * step
