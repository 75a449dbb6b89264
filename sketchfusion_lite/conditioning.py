"""What the first receiver stage hands to the second: all that a refiner may know of the photo.

    bytes --> sketch, y_hat, preview --> RefinementCondition --> Refiner --> refined picture

Everything here comes out of the stream, the noise seed included, so a refiner can neither see the original nor
change the rate, and the same bytes give the same picture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from torch import Tensor

DEFAULT_STEPS = 1
DEFAULT_REALISM = 1.0
OnStep = Callable[[int, Tensor], None]  # (steps done, picture so far (1, 3, H, W) in [0, 1])


@dataclass(frozen=True)
class RefinementCondition:
    """The decoded stream, as tensors.

    Attributes:
        preview: ``(1, 3, H, W)`` in [0, 1], the picture's size.
        y_hat: decoded latent after inverse gain, ``(1, C, ceil(H/16), ceil(W/16))``.
        sketch: line drawing ``(1, 1, H, W)`` in [0, 1], dark lines on white.
        quality: ``(1,)`` in [0, 5].
        seed: 32-bit seed of the noise, a checksum of the stream.
    """

    preview: Tensor
    y_hat: Tensor
    sketch: Tensor
    quality: Tensor
    seed: int


@runtime_checkable
class Refiner(Protocol):
    """The second receiver stage: our own small one, or an adapter to a large pretrained prior."""

    max_steps: int

    def refine(
        self,
        condition: RefinementCondition,
        steps: int,
        on_step: OnStep | None = None,
        realism: float = DEFAULT_REALISM,
    ) -> Tensor:
        """Restore detail: a picture ``(1, 3, H, W)`` in [0, 1] of the preview's size.

        Args:
            condition: what the stream says.
            steps: sampling steps, 1 to ``max_steps``.
            on_step: called after every step, for progressive display.
            realism: the dial in [0, 1] from the most faithful picture to the most realistic one. A refiner that was
                not trained for both, such as a large prior, mixes the preview with its own picture.
        """
        ...


_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_FINDING = threading.Lock()


@contextmanager
def one_at_a_time(scheduler: Any) -> Iterator[None]:
    """Let one thread use a scheduler of diffusers, which keeps schedule and progress in itself; the others wait.

    The lock is the scheduler's, not its user's: several pipelines and adapters may share it.
    """
    with _FINDING:
        lock = _LOCKS.setdefault(scheduler, threading.Lock())
    with lock:
        yield
