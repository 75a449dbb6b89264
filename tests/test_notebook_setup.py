"""The notebooks' set-up: nothing to do where the library is, installs on Colab, else says what to do."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.notebook_book import ROOT, Book, load_tool, tagged
from tests.test_packaging import declared, imported

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OPTIONAL = {"transformers"}  # notebook 06 shows how a large prior is plugged in
setup = load_tool("notebook_setup")


def execute(code: str, folder: Path, *, library: bool, environment: dict[str, str] | None = None):
    """Run code in a fresh Python that has our library, or has no package at all."""
    before = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" if library else ""
    command = [sys.executable, "-I", "-S", "-c", before + code]
    environment = {"PATH": "/usr/bin:/bin", **(environment or {})}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_it_does_nothing_where_the_library_is_and_else_says_what_to_do(tmp_path: Path):
    done = execute(setup.CODE + "\nprint(os.getcwd())", tmp_path, library=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == tmp_path.resolve() and not list(tmp_path.iterdir())
    done = execute(setup.CODE, tmp_path, library=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError: sketchfusion_lite is not installed" in done.stderr
    assert "make lab" in done.stderr and f".[{setup.EXTRAS}]" in done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("variable", [True, False], ids=["address given", "bundle uploaded"])
def test_on_colab_it_installs_the_pinned_version_once(variable: bool, tmp_path: Path):
    project, content = tmp_path / "project", tmp_path / "content"
    content.mkdir()
    for folder in ("notebooks", "sketchfusion_lite"):
        (project / folder).mkdir(parents=True)
        (project / folder / "which").write_text("the tagged one")
    bundle = tmp_path / "elsewhere.git" if variable else content / "sketchfusion.bundle"
    for command in (
        "init",
        "add .",
        "commit -m tagged",
        f"tag v{setup.VERSION}",
        "rm notebooks/which",
        "commit -m later",
        f"bundle create {bundle} --all",
    ):
        git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *command.split()]
        subprocess.run(git, cwd=project, check=True, capture_output=True)
    pip = tmp_path / "pip"  # stands for the Python that would install
    pip.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/installed\n')
    pip.chmod(0o755)
    environment = {"SKETCHFUSION_SOURCE": str(bundle)} if variable else {}
    colab = f"import sys; sys.modules['google.colab'] = sys; sys.executable = {str(pip)!r}\n"
    where = "\nprint(open('which').read())"

    for library in (False, True):  # the second time after a restart, when it is installed
        code = colab + setup.CODE + where
        done = execute(code, content, library=library, environment=environment)
        assert (done.stdout, done.returncode) == ("the tagged one\n", 0), done.stderr
    installed = (tmp_path / "installed").read_text().splitlines()
    assert installed == [f"-m pip install --quiet ./sketchfusion[{setup.EXTRAS}]"]
    again = execute(colab + setup.CODE, content / "sketchfusion" / "notebooks", library=True)
    assert (again.returncode, again.stderr) == (0, ""), (
        "in the folder of the notebooks: nothing to do"
    )


def test_the_cells_are_inserted_and_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By the tool that puts them in."""
    cells = [new_markdown_cell("# T"), new_code_cell("x: int = 1"), new_code_cell("print(x)")]
    with pytest.raises(ValueError, match="parameters"):
        setup.updated(new_notebook(cells=cells))
    cells[1].metadata["tags"] = ["parameters"]
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=cells), path)

    assert setup.main(["--check", str(path)]) == 1 and "out of date" in capsys.readouterr().out
    assert len(Book(path).node.cells) == 3, "a check must change nothing"
    assert setup.main([str(path)]) == 1 and setup.main([str(path)]) == 0
    notebook = Book(path).node
    sources = [cell.source for cell in notebook.cells]
    assert sources == ["# T", "x: int = 1", setup.NOTE, setup.CODE, "print(x)"]
    nbformat.validate(notebook)

    notebook.cells[3].source, notebook.cells[3].execution_count = "an old one", 2
    nbformat.write(notebook, path)
    assert setup.main([str(path)]) == 1
    after = Book(path).node.cells
    assert [cell.source for cell in after] == sources and after[3].execution_count == 2
    assert [tagged(cell, "setup") for cell in after] == [False, False, True, True, False]


# What must be installed ---------------------------------------------------------------------------


def of_ours(source: str, package: str = "") -> Iterator[str]:
    """Modules that Python code imports, anywhere in it but for types alone; ``package`` holds the code."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            name = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            yield from (name, *(f"{name}.{alias.name}" for alias in node.names))


def needs(source: str) -> set[str]:
    """Third-party packages that the modules of ours behind some code import, over any distance."""
    todo, seen, found = set(of_ours(source)), set(), set()
    while todo:
        seen.add(name := todo.pop())
        stem = ROOT / name.replace(".", "/")
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if name.startswith("sketchfusion_") and file.is_file():
                package = name if file.stem == "__init__" else name.rpartition(".")[0]
                found |= imported(file)
                todo |= set(of_ours(file.read_text("utf-8"), package)) - seen
    return found


def test_both_sets_of_extras_are_enough_and_documented(tmp_path: Path):
    """Those of the set-up cell, and those of environment.yml, which Binder and conda read."""
    assert "bjontegaard" in needs("from sketchfusion_lite.evaluation import curves")
    assert "bjontegaard" not in declared("workbook"), "a missing one would be found out"
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    (line,) = environment["dependencies"][-1]["pip"]
    sets, needed = (setup.EXTRAS, line.partition("[")[2].rstrip("]")), {}
    for path in NOTEBOOKS:
        source = "\n".join(cell.source for cell in Book(path).code)
        (tmp_path / "code.py").write_text(source)
        needed[path.stem] = needs(source) | imported(tmp_path / "code.py")
    text = (ROOT / "docs" / "hosted.md").read_text("utf-8")
    assert f"v{setup.VERSION}`" in text
    for extras in sets:
        allowed = OPTIONAL | declared(*extras.split(","))
        missing = {name: found - allowed for name, found in needed.items() if found - allowed}
        assert not missing, f"[{extras}] does not install {missing}"
        assert f"extras `{extras}`" in text
    # repo2docker reads nothing outside a folder of its own where there is one
    assert not any((ROOT / name).exists() for name in ("binder", ".binder"))
