"""Each rule of the notebooks' lint can fail: a sound notebook is built here, and broken in one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import notebook_code_rules, notebook_output_rules, notebook_prose_rules  # noqa: F401
from tests.notebook_book import RULES, load_tool, problems

OPENING = """\
# 42 · Answers: what remains

Find the number that answers everything.

**Goals** - *find* it; *prove* it; *doubt* it.
**Prerequisites** - none. **Time** - 5 s on two CPU cores; no GPU. **Produces** - a number."""

PARAMETERS = """\
count: int = 6  # how many
weights: str = ""  # a file
refiner: str = ""  # a folder
device: str = "cpu"  # where
precision: str = "float32"  # which numbers
results_path: str = ""  # write one JSON row here; empty: do not"""

EXERCISES = """\
## 2 · Exercises

**1 · Change.** Double it.

<details><summary>Solution</summary>

```python
# a comment is no heading
print(2 * count)
```

</details>

**2 · Compare.** With what?

<details><summary>Solution</summary>

With nothing.

</details>

**3 · Explain.** Why?

<details><summary>Solution</summary>

It is so.

</details>

## 3 · Summary"""

ALT = "A figure that is described at length."
FOUR = "a = count\nb = a + 1\nc = b + 1\nd = c + 1"


def picture() -> Any:
    return new_output(
        "display_data", {"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": ALT}}
    )


def printed(text: str) -> Any:
    return new_output("stream", name="stdout", text=text)


def sound() -> Any:
    """A notebook that keeps every rule: cells 0 to 3 open it, 4 to 9 have names in ``place``."""
    tool = load_tool("notebook_setup")
    prose = "## 1 · Reading\n\n$$ 6 \\cdot 7 = 42 $$\n\n**Predict:** more? See [00](#1-·-Reading). "
    checkpoint = new_markdown_cell("**Checkpoint.** It is.")
    cells = [
        new_markdown_cell(OPENING),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_markdown_cell(tool.NOTE, metadata={"tags": ["setup"]}),
        new_code_cell(tool.CODE, metadata={"tags": ["setup"]}),
        new_code_cell(
            "import math\n\nx = math.pi\ny = weights, refiner\nz = device, precision",
            outputs=[picture()],
        ),
        new_markdown_cell(prose + "word " * 900),
        checkpoint,
        new_code_cell(f"{FOUR}\nassert d > a"),
        new_markdown_cell(checkpoint.source),
        new_code_cell(f"{FOUR}\nassert results_path is not None", outputs=[picture(), picture()]),
    ]
    checked = {"tags": ["nbval-check-output"]}
    for _ in range(2):
        cells.append(new_code_cell(f"{FOUR}\nprint(d)", metadata=checked, outputs=[printed("9\n")]))
    cells += [new_code_cell(FOUR) for _ in range(11)]
    cells += [new_markdown_cell(EXERCISES), new_markdown_cell("**References**\n\n1. Adams, 1979.")]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


def save(notebook: Any, folder: Path, number: bool = True) -> Path:
    if number:
        code = (cell for cell in notebook.cells if cell.cell_type == "code")
        for count, cell in enumerate(code, start=1):
            cell.execution_count = count
    path = folder / "42_answers.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")  # nbformat would mend some mistakes
    return path


def replace(cell: int, old: str, new: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        assert old in notebook.cells[cell].source, "the sound notebook has changed"
        notebook.cells[cell].source = notebook.cells[cell].source.replace(old, new, 1)

    return change


def show(cell: int, data: dict[str, str], **metadata: Any) -> Callable[[Any], None]:
    return lambda nb: nb.cells[cell].outputs.append(
        new_output("display_data", data, metadata=metadata)
    )


def tag(cell: int, *tags: str) -> Callable[[Any], None]:
    return lambda nb: nb.cells[cell].metadata.__setitem__("tags", list(tags))


def say(cell: int, name: str, text: str) -> Callable[[Any], None]:
    return lambda nb: nb.cells[cell].outputs.append(new_output("stream", name=name, text=text))


def source(cell: int, text: str) -> Callable[[Any], None]:
    return lambda nb: nb.cells[cell].__setitem__("source", text)


WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
EXERCISE_CELL, LAST = 23, 24
BROKEN = {
    # file
    "file_format: id of its own": lambda nb: nb.cells[7].__setitem__("id", nb.cells[8].id),
    "file_format: is no valid notebook": lambda nb: nb.cells[7].pop("outputs"),
    "kernel: 'julia'": lambda nb: nb.metadata.kernelspec.update(name="julia"),
    "kernel: papermill run": lambda nb: nb.metadata.__setitem__("papermill", {}),
    # prose
    "opening: begins with": replace(0, "# 42 · ", "# "),
    "opening: lacks '**Goals**": replace(0, "**Goals** - ", ""),
    "headings: skips from level 1 to 3": replace(5, "## 1 ·", "### 1 ·"),
    "prose: words of prose": replace(5, "word " * 900, ""),
    "prose: end with its references": replace(LAST, "**References**", "Notes"),
    "checkpoints: asserts anything": lambda nb: [
        replace(7, "assert d > a", "d > a")(nb),
        replace(9, "assert results", "results")(nb),
    ],
    "links: '07_nowhere.ipynb' leads nowhere": replace(5, "word", "[07](07_nowhere.ipynb)"),
    "exercises: number 3 or 4": replace(EXERCISE_CELL, "**3 · Explain.**", "Explain."),
    "exercises: 2 is not folded": replace(EXERCISE_CELL, "\n\nWith nothing.\n\n</details>", ""),
    "exercises: no plain Python": replace(EXERCISE_CELL, "print(2 *", "print 2 *"),
    # parameters
    "parameters: exactly one cell": tag(1),
    "parameters: is no literal": replace(1, "= 6", "= 2 * 3"),
    "parameters: write name": replace(1, "count: int", "count: int | None"),
    "parameters: no parameter weights": replace(1, "weights: str", "weight: str"),
    "parameters: no parameter device": replace(1, "device: str", "where: str"),
    "parameters: no parameter results_path": replace(1, "results_path", "results"),
    "parameters: wanted is never read": replace(1, "count", "wanted: int = 1  # x\ncount"),
    "papermill_sees: does not see results_path": replace(1, "empty: do not", '"" = do not'),
    # code
    "setup: not the common set-up": replace(3, "import os", "import os, math"),
    "cells: has 14 code cells": lambda nb: [
        source(i, "show(drawings.gate(config))")(nb) for i in (10, 11)
    ],
    "cells: an empty cell": lambda nb: nb.cells.insert(10, new_code_cell("")),
    "cells: has 1.0 statements": lambda nb: [source(i, "a = 1")(nb) for i in range(10, 23)],
    "imports: json": replace(4, "import math", "import json\nimport math"),
    # outputs
    "executed: shows an error or a warning": say(7, "stderr", "UserWarning"),
    "nothing_of_this_machine: absolute path: '/home": say(7, "stdout", "see /home/ann/x.png"),
    "nothing_of_this_machine: has an address": show(7, {"text/html": "<a href='https://a.org'>"}),
    "alt_texts: figure 2 is not described": show(7, {"image/png": "aGVsbG8="}),
    "alt_texts: <img> has no alt": show(7, {"text/html": "<p><img src='data:,'></p>"}),
    "alt_texts: 0 figures": lambda nb: [nb.cells[i].outputs.clear() for i in (4, 9)],
    "widgets: not followed by a static picture": show(10, WIDGET),
    "checked_outputs: 1 cells are tagged": tag(10),
    "checked_outputs: more than text": tag(4, "nbval-check-output"),
}


def test_a_sound_notebook_has_no_problems(tmp_path: Path):
    assert problems(save(sound(), tmp_path)) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_notebook_is_found_out(case: str, tmp_path: Path):
    notebook = sound()
    BROKEN[case](notebook)
    rule, _, words = case.partition(": ")
    found = problems(save(notebook, tmp_path), rule)
    assert any(words in message for message in found), found


def test_every_rule_is_shown_to_fail():
    assert {case.partition(":")[0] for case in BROKEN} == set(RULES)


def test_cells_run_in_another_order_are_found_out(tmp_path: Path):
    notebook = sound()
    save(notebook, tmp_path)
    notebook.cells[7].execution_count = 12
    assert "run all cells" in problems(save(notebook, tmp_path, number=False), "executed")[0]


def test_a_static_picture_may_follow_its_widget(tmp_path: Path):
    notebook = sound()
    show(10, WIDGET)(notebook)
    show(11, {"text/html": "<table></table>"})(notebook)
    assert problems(save(notebook, tmp_path), "widgets") == []
