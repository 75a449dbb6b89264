"""The moving average of a run's weights: what is validated and exported.

torch's ``AveragedModel`` counts its updates on the device and looks at the count, which a captured step cannot.

References
    [1] Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from .graphed import Dials


class Average:
    """Averages of weights that train.

    Args:
        weights: name -> weight, on its device.
        decay: per step, at most; while few steps are averaged it is shorter, ``(1 + n) / (10 + n)``.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay, self.weights = decay, list[Tensor](weights.values())
        self.means = [p.detach().clone() for p in self.weights]
        self.dials = Dials(pace=1.0).to(self.means[0].device)

    def pace(self, steps: int) -> None:
        """Set how fast the averages follow, after ``steps`` of them."""
        self.dials.turn(pace=1 - min(self.decay, (1 + steps) / (10 + steps)))

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights by one step."""
        away = torch._foreach_sub(self.weights, self.means)
        torch._foreach_mul_(away, self.dials.pace)
        torch._foreach_add_(self.means, away)

    def restart(self) -> None:
        """Begin again from the weights as they are."""
        _copy(self.means, self.weights)

    def take(self) -> None:
        """Put the averages in the place of the weights."""
        _copy(self.weights, self.means)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The networks with their averages, in place; afterwards they go on as before."""
        before = [p.detach().clone() for p in self.weights]
        self.take()
        try:
            yield
        finally:
            _copy(self.weights, before)


@torch.no_grad()
def _copy(to: list[Tensor], those: list[Tensor]) -> None:
    torch._foreach_copy_(to, those)
