"""A thread that works on the newest item alone: what makes sliders answer at once, however slow the work is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Latest", "Superseded"]

T = TypeVar("T")


class Superseded(Exception):
    """Raised inside of work that nobody wants any more."""


class Latest(Generic[T]):
    """A thread that works on the newest item only; items that it did not come to are dropped.

    Args:
        work: called with each item, in the thread. It must not raise.
        name: of the thread.
    """

    def __init__(self, work: Callable[[T], None], name: str) -> None:
        self._work, self._name = work, name
        self._changed = threading.Condition()
        self._item: T | None = None
        self._busy = self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, item: T) -> None:
        """Replace whatever still waits. Returns at once."""
        with self._changed:
            self._item = item
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until there is nothing to do. False: not within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._item is None and not self._busy, timeout)

    def close(self) -> None:
        """End the thread after the item at hand. Returns at once."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._item is not None)
                if self._closed:
                    return
                item, self._item, self._busy = self._item, None, True
            assert item is not None  # what was waited for
            self._work(item)
