"""Copy the results from ``data/results`` into the tables of README.md, three documents and the model card.

A table is a result file as it is, or one of :data:`.summaries.SUMMARIES`, computed from the rate-distortion file. Each
stands between ``<!-- table NAME -->`` and ``<!-- end -->``; running a benchmark renews it, and a test compares
the documents with the files, so that no number there can drift from what was measured.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from .common import RESULTS, markdown
from .summaries import SUMMARIES

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "docs" / "results.md",
    ROOT / "docs" / "speed.md",
    ROOT / "docs" / "reliability.md",
    ROOT / "sketchfusion_lite" / "weights" / "MODEL_CARD.md",
)
_BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """A summary, or the result file ``NAME.csv``, as Markdown, or a line that says how to make it."""
    if name in SUMMARIES:
        return markdown(SUMMARIES[name]())
    if not (RESULTS / f"{name}.csv").exists():
        return f"(not measured yet: `python -m benchmarks {name}`)"
    with (RESULTS / f"{name}.csv").open(encoding="utf-8") as file:
        return markdown(list(csv.DictReader(file)))


def renewed(text: str) -> str:
    """A document with all its tables as the result files have them."""
    return _BLOCK.sub(lambda m: f"{m[1]}{table(m[2])}\n{m[3]}", text)


def main() -> None:
    for document in DOCUMENTS:
        document.write_text(renewed(document.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"tables of {document.name} renewed")
