"""What the rules of the notebooks' lint stand on: a notebook read once, and the list of rules.

    notebook.ipynb --read--> Book --each rule--> "rule: what is wrong and what to do"

``notebook_*_rules.py`` hold the rules; ``test_notebooks.py`` applies them to the real notebooks, and
``test_notebook_lint.py`` shows for each a notebook that breaks it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Book:
    """One notebook, read once."""

    path: Path

    @cached_property
    def raw(self) -> dict[str, Any]:
        return json.loads(self.path.read_text("utf-8"))

    @cached_property
    def node(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing ids are a rule of ours
            return nbformat.read(self.path, as_version=4)

    @cached_property
    def code(self) -> list[Any]:
        return [cell for cell in self.node.cells if cell.cell_type == "code"]

    @cached_property
    def outputs(self) -> list[Any]:
        return [output for cell in self.code for output in cell.outputs]

    @cached_property
    def prose(self) -> str:
        """All Markdown but the set-up note, with code blocks."""
        cells = [c for c in self.node.cells if c.cell_type == "markdown" and not tagged(c, "setup")]
        return "\n\n".join(cell.source for cell in cells)

    def tagged(self, tag: str) -> list[Any]:
        return [cell for cell in self.node.cells if tagged(cell, tag)]


Rule = Callable[[Book], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


def problems(path: Path, *names: str) -> list[str]:
    """What the rules (by default all of them) find wrong with a notebook."""
    found, book = [], Book(path)
    for name in names or RULES:
        try:
            found += [f"{name}: {message}" for message in RULES[name](book)]
        except SyntaxError as error:
            found.append(f"{name}: a code cell is no plain Python: {error}")
    return found


def tagged(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def walk(cell: Any) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(cell.source))


def without_code(text: str) -> str:
    """Markdown with its code blocks, code spans and formulas blanked, every position kept."""
    formula, span = re.compile(r"\$\$.*?\$\$", re.DOTALL), re.compile(r"`[^`\n]+`|\$[^$\n]+\$")
    for pattern in (FENCE, formula, span):
        text = pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    return text


def load_tool(name: str) -> Any:
    """A script of ``tools/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def solutions(text: str) -> list[str]:
    """The Python blocks of Markdown; they stand in solutions only."""
    return [code for language, code in FENCE.findall(text) if language == "python"]
