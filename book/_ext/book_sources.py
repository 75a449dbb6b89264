"""Gathers what the book is made of into one folder, laid out like the repository, so that links hold.

book/*.md                            --> *.md, the list of notebooks filled in
notebooks/*.ipynb                    --> notebooks/, without what only a kernel can show
docs/, CHANGELOG.md, the model card  --> the same places
ARCHITECTURE's table of modules      --> api/NN-name.rst, one page for each room of the library
the command line's own help          --> api/NN-cli.md
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from binascii import a2b_base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("sketchfusion_lite", "sketchfusion_workbook")
DOCUMENTS = ("CHANGELOG.md", "README.md", "sketchfusion_lite/weights/MODEL_CARD.md")
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("image/png", "image/jpeg")
NOTEBOOKS, ROOMS = "<!-- list of notebooks -->", "<!-- list of rooms -->"


@dataclass(frozen=True)
class Room:
    """One page of the reference.

    Attributes:
        title: of the page.
        text: what happens there, in ARCHITECTURE's words.
        modules: full names, in order.
    """

    title: str
    text: str
    modules: tuple[str, ...]


def stage(target: Path, root: Path = ROOT) -> dict[str, str]:
    """Fill ``target``, which is emptied first.

    Returns:
        sha256 of each output's picture -> its alt text, for the extension.
    """
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("notebooks", "docs", "api"):
        (target / folder).mkdir(parents=True)
    alts: dict[str, str] = {}
    openings = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        alts |= alt_texts(notebook)
        openings.append((path.name, *opening(notebook)))
        write(target / "notebooks" / path.name, json.dumps(without_widgets(notebook)))
    for path in sorted((root / "docs").iterdir()):
        shutil.copy(path, target / "docs" / path.name)
    for name in DOCUMENTS:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target / name)
    notebooks = "\n".join(f"- [{title}](notebooks/{n}): {text}" for n, title, text in openings)
    listed = "\n".join(f"- [{r.title}]({name}): {r.text}" for name, r in named_rooms(root).items())
    for path in sorted((root / "book").rglob("*.md")):
        text = path.read_text("utf-8").replace(NOTEBOOKS, notebooks).replace(ROOMS, listed)
        write(target / path.relative_to(root / "book"), text)
    for name, room in named_rooms(root).items():
        text = commands(room) if name.endswith(".md") else page(room)
        write(target / "api" / name, text)
    return alts


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


# Notebooks ----------------------------------------------------------------------------------------


def alt_texts(notebook: dict[str, Any]) -> dict[str, str]:
    """sha256 of each picture among the outputs -> its alt text, where there is one."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for kind in PICTURES:
                if alt := output.get("metadata", {}).get(kind, {}).get("alt"):
                    data = a2b_base64("".join(output["data"][kind]))
                    found[hashlib.sha256(data).hexdigest()] = alt
    return found


def without_widgets(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook less outputs that need a kernel. By our rule the next cell shows the same as a picture."""
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            outputs = [o for o in cell["outputs"] if WIDGET not in o.get("data", {})]
            cell = cell | {"outputs": outputs}
        cells.append(cell)
    metadata = {k: v for k, v in notebook["metadata"].items() if k != "widgets"}
    return notebook | {"cells": cells, "metadata": metadata}


def opening(notebook: dict[str, Any]) -> tuple[str, str]:
    """Title and purpose: the first heading, and the paragraph below it."""
    blocks = "".join(notebook["cells"][0]["source"]).split("\n\n")
    return blocks[0].removeprefix("# ").strip(), " ".join(blocks[1].split())


# Reference ----------------------------------------------------------------------------------------


def named_rooms(root: Path = ROOT) -> dict[str, Room]:
    """File name of each page below ``api/`` -> what it is about."""
    named = {}
    for number, room in enumerate(rooms(root), start=1):
        suffix = "md" if room.modules == ("sketchfusion_lite.cli",) else "rst"
        name = f"{number:02}-{room.modules[0].rpartition('.')[2]}.{suffix}"
        named[name] = replace(room, title=f"{number} · {room.title}")
    return named


def rooms(root: Path = ROOT) -> list[Room]:
    """ARCHITECTURE's table of modules, one room a row; packages have rooms of their own; what is left comes last."""
    table = (
        (root / "docs" / "ARCHITECTURE.md")
        .read_text("utf-8")
        .partition("| module | what happens there |")[2]
    )
    found, listed = [], set()
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|$", table.partition("\n\n")[0], re.MULTILINE):
        names = re.findall(r"`(\w+)`", row[0])
        listed |= set(names)
        homes = {name: _home(root, name) for name in names}
        packages = [n for n in names if (root / homes[n] / n).is_dir()]
        plain = [n for n in names if n not in packages]
        if plain:
            found.append(_room(plain[0], row[1], [f"{homes[n]}.{n}" for n in plain]))
        texts = row[1].split("; ") if len(packages) > 1 else [row[1]] * len(packages)
        for name, text in zip(packages, texts, strict=True):
            whole, folder = f"{homes[name]}.{name}", root / homes[name] / name
            inside = sorted(p.stem for p in folder.glob("*.py") if p.stem[0] != "_")
            inside = [] if name == "cli" else inside  # its help says more than its functions
            found.append(_room(name, text, [whole, *(f"{whole}.{n}" for n in inside)]))
    codec = root / PACKAGES[0]
    left = sorted({p.stem for p in codec.glob("*.py") if p.stem[0] != "_"} - listed)
    if left:
        found.append(_room("others", "what the others share", [f"{PACKAGES[0]}.{n}" for n in left]))
    return found


def _home(root: Path, name: str) -> str:
    """The package that has a module or package of this name."""
    return next(
        p for p in PACKAGES if (root / p / name).is_dir() or (root / p / f"{name}.py").is_file()
    )


def _room(title: str, text: str, modules: list[str]) -> Room:
    return Room(title, text[0].upper() + text[1:] + ".", tuple(modules))


def page(room: Room) -> str:
    """reStructuredText that lets autodoc write the page."""
    lines = [room.title, "=" * len(room.title), "", _rst(room.text), ""]
    for name in room.modules:
        lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
    return "\n".join(lines)


def _rst(markdown: str) -> str:
    """Code in Markdown's manner -> in reStructuredText's."""
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", markdown)


def commands(room: Room) -> str:
    """The command line's help, of every command, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from sketchfusion_lite.cli import app

    group = typer.main.get_command(app)
    with group.make_context("sketchfusion", [], resilient_parsing=True) as context:
        body = get_docs_for_click(obj=group, ctx=context, name="sketchfusion", indent=1)
    return f"# {room.title}\n\n{room.text}\n\n{body}"
