"""A training step that a GPU replays as one CUDA graph, and a CPU runs as it is.

    dials.turn(...) --> step() --+--> the function            (CPU, several GPUs, the first few calls)
                                 +--> one launch of its graph  (CUDA, from then on)

A step launches some thousand kernels, and the host is slow at that: eager, a GPU waited for two thirds of the time. A
graph replays what was launched while it was captured, with the same memory and the same Python numbers. So whatever
changes from step to step must be a tensor that is filled before it (:class:`Dials`), and a step must neither read a
tensor (``.item()``) nor draw on the CPU. What Python decides, crop size or whether the adversary takes part, is of the
step's *variant*: each has a graph of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

WARM_UP = 3  # eager calls before the capture, in which optimiser states come into being

Capture = Callable[[Callable[[], None]], Callable[[], None]]


class Dials(nn.Module):
    """Named numbers on the device, filled in place between steps.

    Args:
        numbers: name -> first value; integers become int64, others float32.
    """

    def __init__(self, **numbers: float) -> None:
        super().__init__()
        for name, value in numbers.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> torch.Tensor: ...

    def turn(self, **numbers: float) -> None:
        """Set new values, by name."""
        for name, value in numbers.items():
            getattr(self, name).fill_(value)


class Step:
    """One variant of the training step.

    Args:
        function: a whole step; its results are what it leaves in tensors that live on.
        capture: what makes a replay of it, :func:`cuda_graph`; None to call the function every time.
        warm_up: calls of the function before.
    """

    def __init__(
        self, function: Callable[[], None], capture: Capture | None = None, warm_up: int = WARM_UP
    ) -> None:
        self._call, self._capture, self._warm_up = function, capture, warm_up

    def __call__(self) -> None:
        if self._capture is not None:
            if self._warm_up > 0:
                self._warm_up -= 1
                return _beside(self._call)
            try:
                self._call = self._capture(self._call)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                warnings.warn(
                    f"no CUDA graph of this step, which is slower: {reason}", stacklevel=2
                )
            self._capture = None
        return self._call()


def _beside(function: Callable[[], None]) -> None:
    """Call on a stream of its own, as a capture will."""
    if not torch.cuda.is_available():
        return function()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)


def cuda_graph() -> Capture:
    """A capture whose graphs share one memory pool: they never run at the same time."""
    pool = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=pool):
            function()
        return graph.replay

    return capture
