"""A sweep, watched from a notebook: a bar, counts and the last runs, as a widget or, where there are none, as HTML.

    watcher = NotebookWatcher(); display(watcher); run(grid, watcher=watcher)

What the widget shows is also its static representation: an executed notebook keeps the last state.
"""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as widgets

from sketchfusion_lite.sweeps.plan import Run
from sketchfusion_lite.sweeps.progress import Tally, clock, settings
from sketchfusion_lite.sweeps.table import OK, Row

__all__ = ["NotebookWatcher"]

_LAST = 8  # runs shown


class NotebookWatcher(Tally):
    """Shows a sweep in a notebook.

    Args:
        last: number of finished runs that stay in view.
    """

    def __init__(self, last: int = _LAST) -> None:
        self._last = last
        self._lines: list[tuple[Run, Row]] = []
        self._over = False
        self._bar = widgets.IntProgress(min=0, max=1, layout={"width": "100%"})
        self._html = widgets.HTML("The sweep has not begun.")
        self.widget = widgets.VBox([self._bar, self._html])

    def begun(self, total: int, known: list[Row], missing: int, threads: int) -> None:
        super().begun(total, known, missing, threads)
        self._over, self._lines = False, []
        self._bar.max = max(1, total)
        self._update()

    def started(self, run: Run) -> None:
        super().started(run)
        self._update()

    def finished(self, run: Run, row: Row) -> None:
        super().finished(run, row)
        self._lines = [*self._lines, (run, row)][-self._last :]
        self._update()

    def closed(self) -> None:
        self._over = True
        self.under_way.clear()
        self._update()

    def html(self) -> str:
        """The state as HTML that needs nothing else."""
        return self._html.value

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = self.widget._repr_mimebundle_(**options) or {}
        return {**bundle, "text/html": self.html(), "text/plain": self._counts()}

    def _update(self) -> None:
        self._bar.value = self.known + self.done
        self._bar.bar_style = "danger" if self.bad else "success" if self._over else ""
        rows = "".join(map(_finished, self._lines))
        rows += "".join(_line(run, "under way") for run, _ in self.under_way.values())
        head = "<tr><th>run</th><th>parameters</th><th>state</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else ""
        self._html.value = f"<p>{escape(self._counts())}</p>{table}"

    def _counts(self) -> str:
        if not hasattr(self, "total"):
            return "The sweep has not begun."
        text = f"{self.known + self.done} of {self.total} runs finished"
        text += f", {self.bad} without a result" if self.bad else ""
        if self.left is not None and not self._over:
            text += f", about {clock(self.left)} left"
        return text


def _finished(entry: tuple[Run, Row]) -> str:
    run, row = entry
    if row["status"] == OK:
        state = f"ok, {row['seconds']:.1f} s"
    else:
        state = f"{row['status']}: {row['error'].splitlines()[0] if row['error'] else ''}"
    return _line(run, state)


def _line(run: Run, state: str) -> str:
    cells = (run.name, settings(run), state)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
