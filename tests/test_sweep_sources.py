"""Notebooks as other programs write them, and the machine that runs need: met, or refused by name beforehand."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import nbformat
import pytest

from sketchfusion_lite.errors import OutputError, SweepError
from sketchfusion_lite.sweeps import load_grid, plan, run

PARAMETERS = "x: int = 1\nrate: float = 0.5\nresults_path: str = ''"
WRITE = "open(results_path, 'w').write('{\"product\": %f}' % (x * rate))"


def code(source, *tags, **keys):
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": []} | keys


def prose(source, *tags):
    return {"cell_type": "markdown", "source": source, "metadata": {"tags": list(tags)}}


def content(*cells, metadata=None, **keys):
    """A notebook as a program may write it: no ids, no execution counts."""
    cells = cells or (code(PARAMETERS, "parameters"), code(WRITE))
    return {
        "cells": list(cells),
        "metadata": metadata or {},
        "nbformat": 4,
        "nbformat_minor": 4,
    } | keys


def written(folder, notebook, encoding="utf-8", **grid):
    """A grid over a notebook."""
    (folder / "unit.ipynb").write_bytes(json.dumps(notebook, ensure_ascii=False).encode(encoding))
    return load_grid(
        {"notebook": folder / "unit.ipynb", "out": folder / "out", "fixed": {"x": 2}} | grid
    )


def code_to_run(notebook):
    """The code that papermill would run for x = 2."""
    from papermill.execute import execute_notebook

    injected = execute_notebook(
        notebook, None, {"x": 2}, prepare_only=True, kernel_name="python3", language="python"
    )
    return "\n".join(cell.source for cell in injected.cells if cell.cell_type == "code")


KERNELS = {
    "none": {},
    "no language": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "no kernelspec": {"language_info": {"name": "python", "version": "3.12.1"}},
    "null": {"kernelspec": None, "language_info": None},
    "of IPython 3": {"kernelspec": {"name": "python3"}, "language_info": {"name": "ipython"}},
    "conda": {"kernelspec": {"name": "conda-env-mine-py", "language": "python"}},
    "Python 2": {"kernelspec": {"name": "python2", "language": "python"}},
    "Colab": {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}, "accelerator": "GPU"},
    "widgets": {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": 3}}},
}


def old_notebook():
    cells = [
        {"cell_type": "code", "input": PARAMETERS, "metadata": {"tags": ["parameters"]}},
        {"cell_type": "code", "input": [WRITE], "metadata": {}},
    ]
    for cell in cells:
        cell |= {"language": "python", "outputs": [], "collapsed": False}
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


SOURCES = {f"kernel: {name}": content(metadata=metadata) for name, metadata in KERNELS.items()} | {
    "nbformat 3": old_notebook(),
    **{f"nbformat 4.{minor}": content(nbformat_minor=minor) for minor in (0, 2, 5, 9)},
    "one id twice": content(
        code(PARAMETERS, "parameters", id="a"), code(WRITE, id="a"), nbformat_minor=5
    ),
    "lines of source": content(code(PARAMETERS.splitlines(True), "parameters"), code([WRITE])),
    "a tag that is a text": content(
        {**code(PARAMETERS), "metadata": {"tags": "parameters"}}, code(WRITE)
    ),
    "tags that are null": content(
        prose("text"), code(PARAMETERS, "parameters"), {**code(WRITE), "metadata": {"tags": None}}
    ),
    "prose with the tag": content(
        prose("# Parameters", "parameters"), code(PARAMETERS, "parameters"), code(WRITE)
    ),
    "of an earlier papermill": content(
        code(PARAMETERS, "parameters"), code("x = 7", "injected-parameters"), code(WRITE)
    ),
    "a magic in the parameters": content(
        code(f"%config Completer.use_jedi = False\n{PARAMETERS}", "parameters"), code(WRITE)
    ),
    "broken outputs": content(
        code(PARAMETERS, "parameters", outputs=[{"output_type": "?", "text": 3}]), code(WRITE)
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_copy_that_runs_is_the_notebook_whoever_wrote_it(tmp_path, name, caplog):
    planned = plan(written(tmp_path, SOURCES[name]))
    assert planned.runs[0].parameters == {"x": 2}
    source = code_to_run(planned.notebook.node)
    assert source.count(WRITE) == 1
    assert source.rindex("x = 2") > source.index("x: int = 1") and "x = 7" not in source
    assert nbformat.validate(planned.notebook.node) is None and not caplog.records


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_that_say_what_they_are(tmp_path, encoding):
    notebook = content(prose("Größe"), code(PARAMETERS, "parameters"), code(WRITE))
    planned = plan(written(tmp_path, notebook, encoding))
    assert planned.notebook.node.cells[0].source == "Größe"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kernel: conda", ["conda-env-mine-py", "own Python"]),
        ("kernel: Python 2", ["python2", "own Python"]),
        ("of an earlier papermill", ["papermill"]),
        ("kernel: none", []),
    ],
)
def test_what_is_done_otherwise_than_the_notebook_asks_is_said(tmp_path, name, words):
    notes = []
    run(written(tmp_path, SOURCES[name]), dry_run=True, report=notes.append)
    assert len(notes) == bool(words) and all(word in notes[0] for word in words)


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "R"}}, "R"),
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, "ir"),
        ({"kernelspec": {"name": "julia-1.10", "display_name": "Julia 1.10"}}, "julia-1.10"),
        ({"language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {"name": ".net-csharp", "language": "C#"}}, "C#"),
        ({"kernelspec": {"name": "python3", "language": "sage"}}, "sage"),
    ],
)
def test_another_language_is_refused(tmp_path, metadata, language):
    with pytest.raises(SweepError, match=r"unit\.ipynb: is in .*Python kernel") as caught:
        plan(written(tmp_path, content(metadata=metadata)))
    assert f"is in {language}," in str(caught.value)


P = code(PARAMETERS, "parameters")


@pytest.mark.parametrize(
    ("notebook", "words"),
    [
        (content(prose("x = 1", "parameters")), ["0 code cells are tagged 'parameters'", "Tag"]),
        (content(P, P, code(WRITE)), ["2 code cells are tagged"]),
        (content(code(PARAMETERS, "my-parameters"), code(WRITE)), ["0 code cells"]),
        (
            content(code("x: int\n" + PARAMETERS, "parameters"), code(WRITE)),
            ["`x: int`", "default"],
        ),
        (content(code("(" * 9999, "parameters"), code(WRITE)), ["no Python"]),
        (content(P, code("pip install numpy"), code(WRITE)), ["pip install numpy", "with %"]),
        (
            content(P, code("1 / 0", "raises-exception"), code(WRITE)),
            ["cell 2", "raises-exception"],
        ),
        (content(P, code(WRITE, "skip-execution")), ["results_path", "no code reads it"]),
        (content(P, {"cell_type": "code"}), ["is no readable notebook", "Jupyter"]),
        (content(P, {**code(WRITE), "source": 3}), ["is no readable notebook"]),
        (content(nbformat=9), ["is no readable notebook"]),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_remedy(tmp_path, notebook, words):
    with pytest.raises(SweepError) as caught:
        plan(written(tmp_path, notebook))
    for word in ["unit.ipynb", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps(content(prose("Größe")), ensure_ascii=False).encode("latin-1"), "as UTF-8"),
        (json.dumps(content(code("'\ud800'"))).encode(), "readable notebook"),
        *((data, "readable notebook") for data in (b"", b"{}", b'{"cells": 3}', b"[]", b"\0")),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, data, words):
    path = tmp_path / "unit.ipynb"
    path.write_bytes(data)
    with pytest.raises(SweepError, match=rf"unit\.ipynb: is no .*{words}"):
        plan(load_grid({"notebook": path, "out": tmp_path / "o"}))


@pytest.mark.parametrize("name", [".", "\0", "n" * 300])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(SweepError, match=r"is a folder|no such notebook|cannot be read"):
        plan(load_grid({"notebook": tmp_path / name, "out": tmp_path / "o"}))


@pytest.mark.parametrize(
    "annotation", ["'int |'", "Literal[ONE]", "'\\0'", "a.b[c]", 'list["open(1)"]']
)
def test_an_annotation_that_nobody_understands_is_left_to_the_notebook(tmp_path, annotation):
    parameters = code(f"x: {annotation} = 1\nresults_path = ''", "parameters")
    grid = written(tmp_path, content(parameters, code("x"), code("open(results_path)")))
    assert plan(grid).runs[0].parameters == {"x": 2}


# the machine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "missing"),
    [
        ("import numpy, not_here", "not_here"),
        ("from not_here.part import thing", "not_here"),
        ("%matplotlib inline\nimport not_here as n", "not_here"),
        ("try:\n    import not_here\nexcept ImportError:\n    pass", ""),
        ("%pip install not_here\nimport not_here", ""),
        ("import sys\nsys.path.append('/elsewhere')\nimport not_here", ""),
        ("import beside, folder, __main__, os.path", ""),
        ("from . import not_here", ""),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_module_that_is_not_there_is_named_before_anything_runs(tmp_path, cell, missing, dry_run):
    (tmp_path / "beside.py").touch()
    (tmp_path / "folder").mkdir()
    grid = written(tmp_path, content(P, code(cell), code(WRITE)))
    if missing:
        with pytest.raises(SweepError, match=f"imports {missing}, not installed here"):
            run(grid, dry_run=dry_run)
        assert not (tmp_path / "out").exists()
    elif dry_run:
        run(grid, dry_run=True)


def test_modules_of_workers_elsewhere_are_asked_there(tmp_path, monkeypatch):
    class Client:
        def run(self, function, *arguments):
            return {"tcp://a": [], "tcp://b": function(*arguments)}

    monkeypatch.setattr(
        "sketchfusion_lite.sweeps.engine.open_client", lambda *_, **__: nullcontext(Client())
    )
    grid = written(tmp_path, content(P, code("import not_here"), code(WRITE)))
    with pytest.raises(SweepError, match="imports not_here, not installed on the worker tcp://b"):
        run(grid, scheduler="tcp://a")


@pytest.mark.parametrize("case", ["below a file", "no Unicode", "full", "read-only"])
def test_results_that_could_not_be_written_are_refused_beforehand(tmp_path, monkeypatch, case):
    (tmp_path / "file").touch()
    out, words = tmp_path / "out", case
    if case == "below a file":
        out, words = tmp_path / "file" / "deeper", "no folder"
    elif case == "no Unicode":
        out = tmp_path / "\udcff"
    elif case == "full":
        words, usage = "1 MB are free", shutil.disk_usage(tmp_path)._replace(free=1 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:
        words = "no right to write"
        monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match=f"{words}.*--out"):
        run(replace(written(tmp_path, content()), out=out), dry_run=True)
