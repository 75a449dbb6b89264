"""A run's log stays a table, whatever joins the training on the way."""

from __future__ import annotations

import csv

from sketchfusion_lite.training import logs


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_columns_that_come_later_leave_no_ragged_rows(tmp_path):
    path = tmp_path / "log.csv"
    logs.append(path, {"step": 50, "loss": "2.5"})
    logs.append(path, {"step": 100, "loss": "2.0", "generator": "0.7"})
    logs.append(path, {"step": 150, "loss": "1.5"})
    expected = ["step", "loss", "generator"], ["50", "2.5", ""], ["100", "2.0", "0.7"]
    assert read(path) == [*expected, ["150", "1.5", ""]]


def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path):
    path = tmp_path / "log.csv"
    logs.forget_after(path, 50)
    assert not path.exists()
    for step in (50, 100, 150):
        logs.append(path, {"step": step, "loss": str(step)})
    logs.forget_after(path, 100)
    logs.append(path, {"step": 150, "loss": "again"})
    assert [row[0] for row in read(path)] == ["step", "50", "100", "150"]
    assert read(path)[-1] == ["150", "again"]
