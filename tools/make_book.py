"""Build the book: the committed notebooks, the documents and the library's reference as pages for a browser.

    notebooks, docs, docstrings --book/_ext/book_sources--> SOURCES --Sphinx--> build/book/index.html

Nothing is executed and nothing fetched; the pages open from disk. Usage: ``python tools/make_book.py [-o FOLDER]``.
Exit status: 0 done, 1 Sphinx had an error or a warning.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT)]


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("build/book"), metavar="FOLDER")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what Sphinx does")
    options = parser.parse_args(argv)
    try:
        from sphinx.application import Sphinx
    except ImportError:
        print("error: the book needs Sphinx: pip install -e '.[workbook,book]'", file=sys.stderr)
        return 1
    from book_sources import stage

    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        sources = Path(folder) / "sources"
        app = Sphinx(
            sources, ROOT / "book", out, Path(folder) / "doctrees", "html",
            confoverrides={"alt_texts": stage(sources)},
            status=sys.stdout if options.verbose else None,
            warningiserror=True, freshenv=True,
        )  # fmt: skip
        app.build()
    if app.statuscode:
        print("error: Sphinx had complaints, see above", file=sys.stderr)
        return 1
    print(f"book      {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
