"""Who watches a sweep: lines in a terminal or a log, a widget (in the workbook), or nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

from .plan import Run
from .table import OK, Row

__all__ = ["Lines", "Silent", "Tally", "clock", "describe", "settings"]


class Silent:
    """What a sweep tells about itself; says nothing, and is the base of watchers that say something."""

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        """The sweep begins.

        Args:
            total: runs of the grid.
            known: rows that are there.
            missing: runs to do.
            threads: runs that can be under way at a time.
        """

    def started(self, run: Run) -> None:
        """A run is given to the workers."""

    def finished(self, run: Run, row: Row) -> None:
        """A run has its row."""

    def closed(self) -> None:
        """The sweep is over, or was interrupted."""


class Tally(Silent):
    """Counts what there is, and guesses when it will be over."""

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        self.total, self.missing, self.threads = total, missing, threads
        self.known, self.done, self.bad = total - missing, 0, 0
        self.under_way: dict[str, tuple[Run, float]] = {}
        self._seconds = 0.0

    def started(self, run: Run) -> None:
        self.under_way[run.run_id] = run, time.monotonic()

    def finished(self, run: Run, row: Row) -> None:
        self.under_way.pop(run.run_id, None)
        self.done += 1
        self.bad += row["status"] != OK
        self._seconds += row["seconds"] or 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the end, if all runs take as long as those so far; None before the first."""
        if not self.done:
            return None
        mean, now = self._seconds / self.done, time.monotonic()
        begun = sum(min(mean, now - since) for _, since in self.under_way.values())
        return max(0.0, mean * (self.missing - self.done) - begun) / self.threads


class Lines(Tally):
    """One line per run.

    Args:
        write: receives the lines.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        super().begun(total, known, missing, threads)
        self._write(f"{total} runs, {self.known} of them finished before")

    def finished(self, run: Run, row: Row) -> None:
        super().finished(run, row)
        left = "" if self.left is None else f", {clock(self.left)} left"
        self._write(f"[{self.known + self.done}/{self.total}{left}] {describe(run, row)}")


def describe(run: Run, row: Row) -> str:
    """One line on a finished run."""
    seconds = "" if row["seconds"] is None else f" in {row['seconds']:.1f} s"
    error = f": {row['error'].splitlines()[0]}" if row["error"] else ""
    return f"{row['status']} {run.name}{seconds} ({settings(run)}){error}"


def settings(run: Run) -> str:
    """Those of its parameters that tell it from others, on one line."""
    own = {name: run.parameters[name] for name in run.varied if name in run.parameters}
    return ", ".join(f"{name}={value!r}" for name, value in own.items()) or "defaults"


def clock(seconds: float) -> str:
    """``65`` -> ``"1:05"``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
