"""The notebook's view of a sweep: what it says while runs come and go, and what stays in a saved notebook."""

from __future__ import annotations

from sketchfusion_lite.sweeps import load_grid, plan
from sketchfusion_lite.sweeps.table import row_of
from sketchfusion_workbook.viz.sweeping import NotebookWatcher
from tests.sweep_notebooks import write_grid


def test_the_view_follows_the_sweep_and_stays_in_the_notebook(tmp_path):
    first, second, third = plan(load_grid(write_grid(tmp_path, grid={"x": [1, 2, 3]}))).runs
    watcher = NotebookWatcher(last=1)
    assert "not begun" in watcher._repr_mimebundle_()["text/plain"]
    watcher.begun(3, [], 3, 1)
    watcher.started(first)
    assert first.name in watcher.html() and "under way" in watcher.html()
    watcher.finished(first, row_of(first, {}, status="ok", seconds=2.0))
    watcher.started(second)
    error = "ValueError: <b>no</b>\nmore"
    watcher.finished(second, row_of(second, {}, status="failed", error=error, seconds=2.0))
    shown = watcher.html()
    assert "2 of 3 runs finished, 1 without a result, about 0:02 left" in shown
    assert "&lt;b&gt;no&lt;/b&gt;" in shown and "more" not in shown, "one line, and no markup"
    assert first.name not in shown, "only the last ones are listed"
    watcher.started(third)
    watcher.finished(third, row_of(third, {}, status="ok", seconds=2.0))
    watcher.closed()
    bundle = watcher._repr_mimebundle_()
    assert "3 of 3 runs finished" in bundle["text/html"] and "left" not in bundle["text/html"]
    assert any("widget-view" in kind for kind in bundle), "a live view where there are widgets"
