"""The rules that every notebook of the workbook keeps.

    notebook.ipynb --read--> Book --each rule--> "rule: what is wrong and what to do"

``test_notebooks.py`` applies them to the real notebooks, ``test_notebook_lint.py`` shows for each rule
a notebook that breaks it.
"""

from __future__ import annotations

from pathlib import Path

from tests import notebook_code_rules, notebook_output_rules, notebook_prose_rules
from tests.notebook_book import RULES, Book

__all__ = ["RULES", "problems"]

MODULES = (notebook_prose_rules, notebook_code_rules, notebook_output_rules)  # they fill RULES


def problems(path: Path, *names: str) -> list[str]:
    """What the rules (by default all of them) find wrong with a notebook."""
    found, book = [], Book(path)
    for name in names or RULES:
        try:
            found += [f"{name}: {message}" for message in RULES[name](book)]
        except SyntaxError as error:
            found.append(f"{name}: a code cell is no plain Python: {error}")
    return found
