"""Grids and notebooks, whoever wrote them: what would fail or mislead later is refused before anything starts."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import pytest

from sketchfusion_lite.errors import OutputError, SweepError
from sketchfusion_lite.sweeps import load_grid, plan, run
from sketchfusion_lite.sweeps.grid import MAX_RUNS
from tests.sweep_notebooks import PARAMETERS, code, content, prose, write_grid, write_notebook

SAVE = "open(results_path, 'w').write('{}')"
WRITE = "open(results_path, 'w').write('{\"product\": %f}' % (x * rate))"
P = code("x: int = 1\nrate: float = 0.5\nresults_path: str = ''", "parameters")


def runs_of(folder, **keys):
    return plan(load_grid(write_grid(folder, **keys))).runs


def over(folder, notebook, encoding="utf-8", **grid):
    """A grid over a notebook that is given as its JSON."""
    (folder / "unit.ipynb").write_bytes(json.dumps(notebook, ensure_ascii=False).encode(encoding))
    given = {"notebook": folder / "unit.ipynb", "out": folder / "out", "fixed": {"x": 2}}
    return load_grid(given | grid)


def refused(grid, *words):
    """Planning refuses the grid, with these words; a grid that cannot even be loaded comes as a path."""
    with pytest.raises(SweepError) as caught:
        plan(load_grid(grid) if not hasattr(grid, "axes") else grid)
    for word in words:
        assert word in str(caught.value)


# grids --------------------------------------------------------------------------------------------


def test_every_variant_meets_every_combination_and_seed(tmp_path):
    keys = {"variants": {"full": {}, "fast": {"rate": 2}}, "grid": {"x": [1, 2, 3]}}
    runs = runs_of(tmp_path, **keys, seeds=[0, 7])
    assert len(runs) == len({run.run_id for run in runs}) == 2 * 3 * 2
    found = {(r.variant, r.parameters["x"], r.parameters["seed"]) for r in runs}
    assert found == {(v, x, s) for v in ("full", "fast") for x in (1, 2, 3) for s in (0, 7)}
    assert {r.parameters["rate"] for r in runs if r.variant == "fast"} == {2.0}
    assert all(r.defaults["rate"] == 0.5 for r in runs if r.variant == "full")
    assert [r.parameters["seed"] for r in runs] == [0] * 6 + [7] * 6, "first a seed of everything"


def test_paths_start_at_the_grid(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    path = write_grid(tmp_path / "sub", out="../runs/a")
    monkeypatch.chdir(tmp_path)
    grid = load_grid("sub/grid.yaml")
    assert grid.notebook == tmp_path / "sub" / "unit.ipynb" and grid.out == tmp_path / "runs" / "a"
    assert load_grid(path, out="here").out == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out: o\nmode: fast\n", ["unknown key 'mode'", "variants"]),
        ("out: o\nname: mine\n", ["unknown key 'name'"]),
        ("", ["out is None", "path"]),
        ("out: [o]\n", ["out is ['o']", "path"]),
        ("out: o\ngrid: {x: 3}\n", ["'x': 3", "list"]),
        ("out: o\nfixed: 0\n", ["fixed is 0", "parameters"]),
        ("out: o\nseeds: [0.5]\n", ["seeds", "whole numbers"]),
        ("out: o\nvariants: {a/b: {}}\n", ["a/b", "folder"]),
        ("out: o\ntable: xlsx\n", ["xlsx", "parquet or csv"]),
        ("out: o\ntimeout: 10m\n", ["timeout is '10m'", "seconds"]),
        ("out: o\ntimeout: 0\n", ["timeout is 0", "seconds"]),
        ("out: o\ntimeout: .inf\n", ["timeout is inf", "seconds"]),
        ("out: ~nobody-here/o\n", ["~nobody-here/o", "whole path"]),
        ('out: o\nfixed: {marks: "\\ud800"}\n', ["no Unicode"]),
        ("out: o\nfixed: {x: 1}\ngrid: {x: [2]}\n", ["x", "fixed", "grid"]),
        ("out: o\nseeds: [1]\nfixed: {seed: 1}\n", ["seed", "fixed"]),
        ("out: o\nfixed: {x: 1, x: 2}\n", ["'x'", "twice"]),
        ("out: o\nfixed: {x: 2024-01-01}\n", ["date", "quote"]),
        ("out: o\nfixed: {on: 1}\n", ["True", "quote"]),
        ("out: [o\n", ["not readable as YAML"]),
        ("out: !!python/object/apply:os.system ['true']\n", ["not readable as YAML"]),
        ("out: o\ngrid: {x: [1, 2, 1]}\n", ["same run twice", "default"]),
        ("out: o\nvariants: {a: {}, b: }\n", ["'a'", "'b'", "twice"]),
        ("out: o\nfixed: {rat: 1}\n", ["'rat'", "x: int = 1", "rate: float", "variant 'default'"]),
        ("out: o\nvariants: {a: {results_path: r}}\n", ["results_path is set by the sweep"]),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(tmp_path, text, words):
    write_notebook(tmp_path / "unit.ipynb", "x, rate, seed", SAVE)
    path = tmp_path / "grid.yaml"
    path.write_text(f"notebook: unit.ipynb\n{text}")
    refused(path, str(path), *words)


def test_a_grid_without_end_is_refused(tmp_path):
    axes = {name: list(range(200)) for name in ("x", "seed")}
    refused(write_grid(tmp_path, grid=axes), f"40000 runs; at most {MAX_RUNS}")
    lines = ["fixed:", "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("notebook: n\nout: o\n" + "\n".join(lines))
    refused(tmp_path / "bomb.yaml", "values")


# parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "fitting", "wrong"),
    [
        ("p: int = 1", [2], [2.0, True, None]),
        ("p: float = 1.0", [2], ["1e-4"]),
        ("p: bool = True", [False], [1]),
        ("p = 1.5", [2], ["2"]),
        ("p = None", [2, "2"], []),
        ("p: int | None = None", [None, 2], [2.5]),
        ("p: Optional[float] = None", [2], ["2"]),
        ("p: list[int] = [1]", [[2, 3]], [[2, "3"]]),
        ("p: dict[str, float] = {}", [{"a": 1}], [{"a": "b"}]),
        ("p: Literal['a', 'b'] = 'a'", ["b"], ["c"]),
        # What nobody here understands is left to the notebook to judge, and never run.
        ("p: 'int |' = 1", [2], []),
        ("p: Literal[ONE] = 1", [2], []),
        ('p: list["open(1)"] = 1', [2], []),
        ("p: a.b[c] = 1", [2], []),
    ],
)
def test_types_are_those_of_the_notebook(tmp_path, declared, fitting, wrong):
    parameters = f"{declared}\nresults_path: str = ''"
    path = write_notebook(tmp_path / "n.ipynb", "p", SAVE, parameters=parameters)
    grid = {"notebook": path, "out": tmp_path / "o"}
    for value in fitting:
        assert plan(load_grid(grid | {"fixed": {"p": value}})).runs[0].parameters["p"] == value
    for value in wrong:
        refused(grid | {"fixed": {"p": value}}, f"p is {value!r}", declared.split(" =")[0])


def test_whole_numbers_for_a_float_are_the_same_run_and_text_is_explained(tmp_path):
    (one,), (other,) = (runs_of(tmp_path, grid={"rate": [value]}) for value in (1, 1.0))
    assert one == other and type(one.parameters["rate"]) is float
    refused(write_grid(tmp_path, grid={"rate": ["1e-4"]}), "with a decimal point")


@pytest.mark.parametrize(
    ("cells", "is_read"),
    [
        *((cell, True) for cell in (["print(p)"], ["def f():\n    return p"], ["f'{p}'"])),
        *((cell, True) for cell in (["p += 1"], ["p = p + 1"], ["%%time\nprint(p)"])),
        *((cell, True) for cell in (["%run other.py $p"], ["!echo {p}"], ["globals()['p']"])),
        *((cell, False) for cell in (["q = 1"], ["'p'  # p"], ["x.p, f(p=1)"])),
        *((cell, False) for cell in (["p = 5\nprint(p)"], ["p = 5", "print(p)"])),
    ],
)
def test_a_parameter_that_no_code_reads_is_refused(tmp_path, cells, is_read):
    parameters = "p: int = 1\nresults_path: str = ''"
    path = write_notebook(tmp_path / "n.ipynb", *cells, SAVE, parameters=parameters)
    grid = {"notebook": path, "out": tmp_path / "o"}
    assert plan(load_grid(grid)).runs, "a default that nobody reads does no harm"
    if is_read:
        assert len(plan(load_grid(grid | {"grid": {"p": [2, 3]}})).runs) == 2
    else:
        refused(grid | {"grid": {"p": [2, 3]}}, "'p', but no later code reads it")


def test_a_run_is_its_code_and_its_parameters(tmp_path):
    def run_id(*cells, x=2, **keys):
        return plan(over(tmp_path, content(*cells), fixed={"x": x}, **keys)).runs[0].run_id

    before = run_id(P, code(WRITE))
    output = {"output_type": "stream", "name": "stdout", "text": "1"}
    assert run_id(prose("# Other prose"), P, code(WRITE, outputs=[output])) == before
    assert run_id(P, code(WRITE), variants={"another": {}}) == before
    others = {run_id(P, code(WRITE + "\n1")), run_id(P, code(WRITE), x=4), before}
    assert len(others) == 3


# notebooks of other programs ----------------------------------------------------------------------


def code_to_run(notebook):
    """The code that papermill would run for x = 2."""
    from papermill.execute import execute_notebook

    options = {"prepare_only": True, "kernel_name": "python3", "language": "python"}
    injected = execute_notebook(notebook, None, {"x": 2}, **options)
    return "\n".join(cell.source for cell in injected.cells if cell.cell_type == "code")


def old_notebook():
    old = {"cell_type": "code", "language": "python", "outputs": [], "collapsed": False}
    cells = [
        {**old, "input": P["source"], "metadata": {"tags": ["parameters"]}},
        {**old, "input": [WRITE], "metadata": {}},
    ]
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


W = code(WRITE)
KERNELS = {
    "none": {},
    "no language": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "no kernelspec": {"language_info": {"name": "python", "version": "3.12.1"}},
    "null": {"kernelspec": None, "language_info": None},
    "of IPython 3": {"kernelspec": {"name": "python3"}, "language_info": {"name": "ipython"}},
    "conda": {"kernelspec": {"name": "conda-env-mine-py", "language": "python"}},
    "Python 2": {"kernelspec": {"name": "python2", "language": "python"}},
    "widgets": {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": 3}}},
}
SOURCES = {f"kernel: {name}": content(P, W, metadata=kept) for name, kept in KERNELS.items()} | {
    "nbformat 3": old_notebook(),
    **{f"nbformat 4.{minor}": content(P, W, nbformat_minor=minor) for minor in (0, 2, 5, 9)},
    "one id twice": content(P | {"id": "a"}, W | {"id": "a"}, nbformat_minor=5),
    "lines of source": content(code(P["source"].splitlines(True), "parameters"), code([WRITE])),
    "a tag that is a text": content({**P, "metadata": {"tags": "parameters"}}, W),
    "tags that are null": content(prose("text"), P, {**W, "metadata": {"tags": None}}),
    "prose with the tag": content(prose("# Parameters", "parameters"), P, W),
    "of an earlier papermill": content(P, code("x = 7", "injected-parameters"), W),
    "a magic in the parameters": content(code(f"%config A.b = 1\n{P['source']}", "parameters"), W),
    "broken outputs": content(P | {"outputs": [{"output_type": "?", "text": 3}]}, W),
}
SAID = {"kernel: conda": "conda-env-mine-py", "kernel: Python 2": "python2"}
SAID |= {"of an earlier papermill": "papermill"}


@pytest.mark.parametrize("name", SOURCES)
def test_the_copy_that_runs_is_the_notebook_whoever_wrote_it(tmp_path, name, caplog):
    import nbformat

    grid, notes = over(tmp_path, SOURCES[name]), []
    planned = plan(grid)
    assert planned.runs[0].parameters == {"x": 2}
    source = code_to_run(planned.notebook.node)
    assert source.count(WRITE) == 1
    assert source.rindex("x = 2") > source.index("x: int = 1") and "x = 7" not in source
    assert nbformat.validate(planned.notebook.node) is None and not caplog.records
    run(grid, dry_run=True, report=notes.append)
    assert len(notes) == (name in SAID), "what is done otherwise than the notebook asks is said"
    assert all(SAID[name] in note for note in notes)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_that_say_what_they_are(tmp_path, encoding):
    planned = plan(over(tmp_path, content(prose("Größe"), P, W), encoding))
    assert planned.notebook.node.cells[0].source == "Größe"


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}, "language_info": {"name": "R"}}, "R"),
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, "ir"),
        ({"kernelspec": {"name": "julia-1.10", "display_name": "Julia 1.10"}}, "julia-1.10"),
        ({"language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {"name": "python3", "language": "sage"}}, "sage"),
    ],
)
def test_another_language_is_refused(tmp_path, metadata, language):
    words = ("unit.ipynb", f"is in {language},", "Python kernel")
    refused(over(tmp_path, content(P, W, metadata=metadata)), *words)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([prose("x = 1", "parameters")], ["0 code cells are tagged 'parameters'", "Tag"]),
        ([P, P, W], ["2 code cells are tagged"]),
        ([code(PARAMETERS, "my-parameters"), W], ["0 code cells"]),
        ([code(f"x: int\n{P['source']}", "parameters"), W], ["`x: int`", "default"]),
        ([code("x = 1", "parameters"), W], ["results_path", "not there", "x = 1"]),
        ([P, code("1")], ["results_path", "no code reads it"]),
        ([P, code(WRITE, "skip-execution")], ["results_path", "no code reads it"]),
        ([code(f"{P['source']}\ny = x * 2", "parameters"), W], ["y = x * 2", "literal"]),
        ([code("x =", "parameters"), W], ["no Python"]),
        ([code("(" * 9999, "parameters"), W], ["no Python"]),
        ([P, code("x +"), W], ["no Python"]),
        ([P, code("pip install numpy"), W], ["pip install numpy", "with %"]),
        ([P, code("1 / 0", "raises-exception"), W], ["cell 2", "raises-exception"]),
        ([P, {"cell_type": "code"}], ["is no readable notebook", "Jupyter"]),
        ([P, {**W, "source": 3}], ["is no readable notebook"]),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_remedy(tmp_path, cells, words):
    refused(over(tmp_path, content(*cells)), "unit.ipynb", *words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (json.dumps(content(prose("Größe")), ensure_ascii=False).encode("latin-1"), "as UTF-8"),
        (json.dumps(content(code("'\ud800'"))).encode(), "readable notebook"),
        (json.dumps(content(P, W, nbformat=9)).encode(), "readable notebook"),
        *((data, "readable notebook") for data in (b"", b"{}", b'{"cells": 3}', b"[]", b"\0")),
        *((name, "") for name in (".", "\0", "n" * 300)),  # names of what is no file
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, data, words):
    path = tmp_path / (data if isinstance(data, str) else "unit.ipynb")
    if isinstance(data, bytes):
        path.write_bytes(data)
    with pytest.raises(
        SweepError, match=r"is no |is a folder|no such notebook|cannot be read"
    ) as e:
        plan(load_grid({"notebook": path, "out": tmp_path / "o"}))
    assert words in str(e.value)


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
def test_a_module_that_is_not_there_is_named_before_anything_runs(tmp_path, cell, missing):
    (tmp_path / "beside.py").touch()
    (tmp_path / "folder").mkdir()
    grid = over(tmp_path, content(P, code(cell), W))
    if not missing:
        assert run(grid, dry_run=True) == []
        return
    for dry_run in (True, False):
        with pytest.raises(SweepError, match=f"imports {missing}, not installed here"):
            run(grid, dry_run=dry_run)
        assert not (tmp_path / "out").exists()


def test_modules_of_workers_elsewhere_are_asked_there(tmp_path, monkeypatch):
    class Client:
        def run(self, function, *arguments):
            return {"tcp://a": [], "tcp://b": function(*arguments)}

    opened = "sketchfusion_lite.sweeps.engine.open_client"
    monkeypatch.setattr(opened, lambda *_, **__: nullcontext(Client()))
    grid = over(tmp_path, content(P, code("import not_here"), W))
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
        run(over(tmp_path, content(P, W), out=out), dry_run=True)
