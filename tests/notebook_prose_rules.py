"""Rules for the file and the prose of notebooks."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise

import nbformat

from tests.notebook_book import Book, rule, solutions, walk, without_code

MAX_BYTES, WORDS = 1_000_000, (900, 2600)
FIELDS = ("Goals", "Prerequisites", "Time", "Produces")
HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)
EXERCISE = re.compile(r"^\*\*(\d+) · ([^*]+)\.\*\*", re.MULTILINE)

# --------------------------------------------------------------------------------------------------
# The file


@rule
def file_format(book: Book) -> Iterator[str]:
    ids = [cell.get("id") for cell in book.raw["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        yield "every cell needs an id of its own, stored in the file"
    if (book.raw["nbformat"], book.raw["nbformat_minor"]) < (4, 5):
        yield "is older than format 4.5, which has cell ids"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it mends ids in place
            nbformat.validate(deepcopy(book.raw))
    except nbformat.ValidationError as error:
        yield f"is no valid notebook: {error.message}"
    if book.path.stat().st_size >= MAX_BYTES:
        yield f"has {book.path.stat().st_size:,} bytes, {MAX_BYTES:,} are allowed; shrink its figures"


@rule
def kernel(book: Book) -> Iterator[str]:
    spec = book.node.metadata.get("kernelspec", {})
    if spec.get("name") != "python3":
        yield f"its kernel is {spec.get('name')!r}, not 'python3'"
    if spec.get("language") != "python":
        yield "its kernelspec has no language 'python', which papermill needs"
    if "papermill" in book.node.metadata or any("papermill" in c.metadata for c in book.node.cells):
        yield "holds traces of a papermill run"
    if any("execution" in cell.metadata for cell in book.node.cells):
        yield "holds times of execution: execute with record_timing=False"


# --------------------------------------------------------------------------------------------------
# Prose


@rule
def opening(book: Book) -> Iterator[str]:
    cell = book.node.cells[0]
    title, _, rest = cell.source.partition("\n")
    if cell.cell_type != "markdown" or not title.startswith(f"# {book.path.stem[:2]} · "):
        yield f"begins with {title!r}, not with '# {book.path.stem[:2]} · Title'"
    purpose = rest.strip().partition("\n")[0]
    if purpose.startswith("**") or len(re.findall(r"[.!?](?:\s|$)", purpose)) != 1:
        yield "the title is not followed by its purpose in one sentence"
    names = "|".join(FIELDS)
    fields = dict(
        re.findall(rf"\*\*({names})\*\* - (.+?)(?=\s*\*\*(?:{names})\*\*|\n|$)", cell.source)
    )
    yield from (f"the opening lacks '**{name}** - ...'" for name in FIELDS if name not in fields)
    goals = [goal for goal in fields.get("Goals", "").split(";") if re.search(r"\*\w[^*]*\*", goal)]
    if not 3 <= len(goals) <= 5 or len(goals) != len(fields["Goals"].split(";")):
        yield f"{len(goals)} goals: write 3 to 5, each with its *verb*, divided by ';'"
    if not all(word in fields.get("Time", "") for word in ("CPU", "GPU")):
        yield "the time should say how long on CPU cores, and what a GPU is good for"


@rule
def headings(book: Book) -> Iterator[str]:
    levels = [(len(marks), text) for marks, text in HEADING.findall(without_code(book.prose))]
    if ((top := [text for level, text in levels if level == 1]) and len(top) != 1) or not top:
        yield f"needs exactly one heading of level 1, has {top}"
    for (before, _), (level, text) in pairwise(levels):
        if level > before + 1:
            yield f"heading {text!r} skips from level {before} to {level}"


@rule
def prose(book: Book) -> Iterator[str]:
    if not WORDS[0] <= (words := len(book.prose.split())) <= WORDS[1]:
        yield f"has {words} words of prose, {WORDS[0]} to {WORDS[1]} are wanted"
    if "$$" not in book.prose:
        yield "has no equation"
    if "**Predict" not in book.prose:
        yield "asks for no prediction"
    if not re.search(r"^#+ .*Summary$", book.prose, re.MULTILINE):
        yield "has no summary"
    if "**References**" not in book.node.cells[-1].source:
        yield "does not end with its references"


@rule
def checkpoints(book: Book) -> Iterator[str]:
    cells, found = book.node.cells, 0
    for i, cell in enumerate(cells):
        if cell.cell_type != "markdown" or "**Checkpoint" not in cell.source:
            continue
        found += 1
        following = [c for c in cells[i + 1 :] if c.cell_type == "code"][:2]
        if not any(isinstance(node, ast.Assert) for c in following for node in walk(c)):
            yield f"neither of the two cells after checkpoint {found} asserts anything"
    if found < 2:
        yield f"has {found} checkpoints, at least 2 are wanted"


@rule
def links(book: Book) -> Iterator[str]:
    """Every link inside the project leads to something that is there."""
    text = without_code(book.prose)
    anchors = {heading.replace(" ", "-") for _, heading in HEADING.findall(text)}
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    targets += re.findall(r"""\b(?:href|src)=["']([^"']+)""", text)
    for target in targets:
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        if (file and not (book.path.parent / file).exists()) or not (file or anchor in anchors):
            yield f"the link to {target!r} leads nowhere"


@rule
def exercises(book: Book) -> Iterator[str]:
    text = without_code(book.prose)
    begin = re.search(r"^## .*Exercises$", text, re.MULTILINE)
    if begin is None:
        yield "has no section 'Exercises'"
        return
    end = re.compile(r"^## ", re.MULTILINE).search(text, begin.end())
    span = slice(begin.end(), end.start() if end else None)
    marks = list(EXERCISE.finditer(text[span]))
    if not 3 <= len(marks) <= 4 or [int(m[1]) for m in marks] != list(range(1, len(marks) + 1)):
        yield f"has exercises {[m[1] for m in marks]}: number 3 or 4 of them, '**1 · Change.**'"
    if missing := {"Change", "Compare", "Explain"} - {m[2] for m in marks}:
        yield f"exercises are graded; none says {', '.join(sorted(missing))}"
    for mark, after in zip(marks, [*(m.start() for m in marks[1:]), None], strict=True):
        part = text[span][mark.end() : after]
        if not re.search(r"<details>\s*<summary>Solution</summary>.*</details>", part, re.DOTALL):
            yield f"the solution of exercise {mark[1]} is not folded away in <details>"
    blocks = solutions(book.prose)
    if not blocks:
        yield "no solution holds code"
    for block in blocks:
        ast.parse(block)
