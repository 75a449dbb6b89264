"""The moving average of a run's weights: what is validated and exported.

References
    [1] Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


class Average:
    """Averages of weights that train; they begin as the weights are.

    Args:
        weights: on their device.
        decay: per step, at most; while few steps are averaged it is shorter, ``(1 + n) / (10 + n)``.
    """

    def __init__(self, weights: Iterable[nn.Parameter], decay: float) -> None:
        self.decay, self.weights = decay, list[Tensor](weights)
        self.means = [p.detach().clone() for p in self.weights]
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights by one step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.means, self.weights, 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def take(self) -> None:
        """Put the averages in the place of the weights, for good."""
        torch._foreach_copy_(self.weights, self.means)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The networks with their averages, in place; afterwards they go on as before."""
        before = [p.detach().clone() for p in self.weights]
        self.take()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, before)
