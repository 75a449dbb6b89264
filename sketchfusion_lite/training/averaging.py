"""The moving average of a run's weights: what is validated and exported.

References
    [1] Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from .graphed import Dials

__all__ = ["Average"]


class Average:
    """Averages of all parameters that train.

    Args:
        modules: ``(name, module)`` pairs, on their device.
        decay: per step, at most; while few steps are averaged it is shorter, ``(1 + n) / (10 + n)``.
    """

    def __init__(self, modules: Iterable[tuple[str, nn.Module]], decay: float) -> None:
        self.decay = decay
        named = [(n, p) for prefix, m in modules for n, p in m.named_parameters(prefix=prefix)]
        self.named = {n: p for n, p in named if p.requires_grad}
        self.means = [p.detach().clone() for p in self.named.values()]
        self.dials = Dials(pace=1.0).to(self.means[0].device)

    def pace(self, steps: int) -> None:
        """Set how fast the averages follow, after ``steps`` of them."""
        self.dials.turn(pace=1 - min(self.decay, (1 + steps) / (10 + steps)))

    @torch.no_grad()
    def update(self) -> None:
        away = torch._foreach_sub(list(self.named.values()), self.means)
        torch._foreach_mul_(away, self.dials.pace)
        torch._foreach_add_(self.means, away)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again from the weights as they are."""
        torch._foreach_copy_(self.means, list(self.named.values()))

    @torch.no_grad()
    def take(self) -> None:
        """Put the averages in the place of the weights."""
        torch._foreach_copy_(list(self.named.values()), self.means)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The networks with their averages, in place; afterwards they go on as before."""
        before = [p.detach().clone() for p in self.named.values()]
        self.take()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self.named.values()), before)
