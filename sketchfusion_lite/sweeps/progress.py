"""Who watches a sweep: a live view in a terminal, plain lines in a log, or nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .plan import Run
from .table import OK, Row

__all__ = [
    "Lines",
    "Silent",
    "Tally",
    "TerminalWatcher",
    "Watcher",
    "clock",
    "describe",
    "settings",
]

_SHOWN = 12  # runs under way


class Watcher(Protocol):
    """What a sweep tells about itself. Never called by two threads at once, but by different ones."""

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        """The sweep begins.

        Args:
            total: runs of the grid.
            known: rows that are there.
            missing: runs to do.
            threads: runs that can be under way at a time.
        """

    def started(self, run: Run, where: str) -> None:
        """A run begins on a machine; a second time if its worker died."""

    def finished(self, run: Run, row: Row) -> None:
        """A run has its row."""

    def closed(self) -> None:
        """The sweep is over, or was interrupted."""


class Silent:
    """Says nothing; the base of watchers that need not hear all."""

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None: ...

    def started(self, run: Run, where: str) -> None: ...

    def finished(self, run: Run, row: Row) -> None: ...

    def closed(self) -> None: ...


class Tally(Silent):
    """Counts what there is, and guesses when it will be over."""

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        self.total, self.missing, self.threads = total, missing, threads
        self.known, self.done, self.bad = total - missing, 0, 0
        self.under_way: dict[str, tuple[Run, str, float]] = {}
        self._seconds = 0.0

    def started(self, run: Run, where: str) -> None:
        self.under_way[run.run_id] = run, where, time.monotonic()

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
        begun = sum(min(mean, now - since) for _, _, since in self.under_way.values())
        return max(0.0, mean * (self.missing - self.done) - begun) / self.threads


class Lines(Tally):
    """One line per run, for logs.

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


class TerminalWatcher(Tally):
    """A bar, the runs under way and a line for each that failed; vanishes at the end.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        super().begun(total, known, missing, threads)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        self._task = self._bar.add_task("sweep", total=total, completed=self.known, left="")
        self._live = Live(
            console=self._console, transient=True, refresh_per_second=4, get_renderable=self._render
        )
        self._live.start()

    def finished(self, run: Run, row: Row) -> None:
        super().finished(run, row)
        self._bar.update(self._task, completed=self.known + self.done)
        if row["status"] != OK:
            self._console.print(Text(describe(run, row), style="red"))

    def closed(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _render(self) -> Group:
        left = "" if self.left is None else f"{clock(self.left)} left"
        left += f"  {self.bad} failed" if self.bad else ""
        self._bar.update(self._task, left=left)
        runs = Table.grid(padding=(0, 2))
        under_way = list(self.under_way.values())
        for run, where, since in under_way[:_SHOWN]:
            runs.add_row(
                Text(f"  {clock(time.monotonic() - since)}"),
                Text(run.name),
                Text(where, style="dim"),
                Text(settings(run), style="dim", overflow="ellipsis", no_wrap=True),
            )
        if len(under_way) > _SHOWN:
            runs.add_row("", f"and {len(under_way) - _SHOWN} more")
        return Group(self._bar, runs)


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
