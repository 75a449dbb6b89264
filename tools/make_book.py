"""Build the book: the committed notebooks, the documents and the library's reference as pages for a browser.

    book/*.md, notebooks, documents --sources--> one folder, laid out like the repository, so that links hold
                                                   |
    docstrings --apidoc, autodoc-----------------> Sphinx --> build/book/index.html

Nothing is executed and nothing fetched; the pages open from disk. Usage: ``python tools/make_book.py [-o FOLDER]``.
Exit status: 0 done, 1 Sphinx had an error or a warning.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("CHANGELOG.md", "README.md", "sketchfusion_lite/weights/MODEL_CARD.md")
LIST = "<!-- list of notebooks -->"
WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def gather(target: Path) -> None:
    """Fill ``target``, which must not exist, with all that Sphinx reads."""
    shutil.copytree(ROOT / "book", target, ignore=shutil.ignore_patterns("*.py", "_static"))
    shutil.copytree(ROOT / "docs", target / "docs")
    for name in DOCUMENTS:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    openings = []
    (target / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        title, text, *_ = "".join(notebook["cells"][0]["source"]).split("\n\n")
        title, text = title.removeprefix("# ").strip(), " ".join(text.split())
        openings.append(f"- [{title}](notebooks/{path.name}): {text}")
        (target / "notebooks" / path.name).write_text(json.dumps(for_pages(notebook)), "utf-8")
    (target / "api" / "commands.md").write_text(commands(), "utf-8")
    index = (target / "index.md").read_text("utf-8")
    (target / "index.md").write_text(index.replace(LIST, "\n".join(openings)), "utf-8")


def for_pages(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook less outputs that need a kernel, with pictures in HTML, as MyST-NB drops their alt texts."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        outputs = [o for o in cell.get("outputs", ()) if WIDGET not in o.get("data", {})]
        for output in outputs:
            for kind in PICTURES:
                if alt := output.get("metadata", {}).get(kind, {}).get("alt"):
                    data = "".join(output["data"][kind])
                    if kind == "image/svg+xml":  # the others are in base64 already
                        data = b64encode(data.encode()).decode()
                    source = f"data:{kind};base64,{''.join(data.split())}"
                    look = ' class="drawing"' if kind == "image/svg+xml" else ""
                    html = f'<img{look} src="{source}" alt="{escape(alt)}">'
                    output["data"] = {"text/html": html}
        if "outputs" in cell:
            cell["outputs"] = outputs
    return notebook


def commands() -> str:
    """The command line's help, of every command, as Markdown."""
    import typer
    from typer.cli import get_docs_for_click

    from sketchfusion_lite.cli import app

    group = typer.main.get_command(app)
    with group.make_context("sketchfusion", [], resilient_parsing=True) as context:
        body = get_docs_for_click(obj=group, ctx=context, name="sketchfusion", indent=1)
    return f"# Commands\n\n{body}"


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("build/book"), metavar="FOLDER")
    web = {"type": Path, "default": ROOT / "build" / "web", "metavar": "FOLDER"}
    parser.add_argument("--web", help="page of make_web.py, taken along where it is", **web)
    parser.add_argument("-v", "--verbose", action="store_true", help="say what Sphinx does")
    options = parser.parse_args(argv)
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        print("error: the book needs Sphinx: pip install -e '.[workbook,book]'", file=sys.stderr)
        return 1
    sys.path.insert(0, str(ROOT))
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        sources = Path(folder) / "sources"
        gather(sources)
        how = ["--fail-on-warning", "--jobs=auto", *([] if options.verbose else ["--quiet"])]
        where = ["--conf-dir", ROOT / "book", "--doctree-dir", f"{folder}/doctrees", sources, out]
        if build_main([*how, *map(str, where)]):
            print("error: Sphinx had complaints, see above", file=sys.stderr)
            return 1
    print(f"book      {out / 'index.html'}")
    if options.web.is_dir():
        shutil.copytree(options.web, out / "web")
        print(f"page      {out / 'web'}  (on a host; browsers load no modules from disk)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
