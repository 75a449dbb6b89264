"""Grids and their notebooks: what would fail or mislead later is refused before anything starts."""

from __future__ import annotations

import pytest

from sketchfusion_lite.errors import SweepError
from sketchfusion_lite.sweeps import load_grid, plan
from sketchfusion_lite.sweeps.grid import MAX_RUNS
from tests.sweep_notebooks import PARAMETERS, write_grid, write_notebook

SAVE = "open(results_path, 'w').write('{}')"


def runs_of(folder, **keys):
    return plan(load_grid(write_grid(folder, **keys))).runs


def test_every_variant_meets_every_combination_and_seed(tmp_path):
    runs = runs_of(
        tmp_path,
        variants={"full": {}, "fast": {"rate": 2}},
        grid={"x": [1, 2, 3]},
        seeds=[0, 7],
    )
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
    assert grid.notebook.resolve() == tmp_path / "sub" / "unit.ipynb"
    assert grid.out.resolve() == tmp_path / "runs" / "a"
    assert load_grid(path, out="here").out == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notebook: unit.ipynb\nout: o\nmode: fast\n", ["unknown key 'mode'", "variants"]),
        ("notebook: unit.ipynb\n", ["out is None", "path"]),
        ("notebook: unit.ipynb\nout: o\ngrid: {x: 3}\n", ["'x': 3", "list"]),
        ("notebook: unit.ipynb\nout: o\nseeds: [0.5]\n", ["seeds", "whole numbers"]),
        ("notebook: unit.ipynb\nout: o\nvariants: {a/b: {}}\n", ["a/b", "folder"]),
        ("notebook: unit.ipynb\nout: o\ntable: xlsx\n", ["xlsx", "parquet or csv"]),
        ("notebook: unit.ipynb\nout: o\ntimeout: 10m\n", ["timeout is '10m'", "seconds"]),
        ("notebook: unit.ipynb\nout: o\ntimeout: 0\n", ["timeout is 0", "seconds"]),
        ("notebook: unit.ipynb\nout: o\ntimeout: .inf\n", ["timeout is inf", "seconds"]),
        ("notebook: unit.ipynb\nout: ~nobody-here/o\n", ["~nobody-here/o", "whole path"]),
        ('notebook: unit.ipynb\nout: o\nfixed: {marks: "\\ud800"}\n', ["no Unicode"]),
        ("notebook: unit.ipynb\nout: o\nfixed: {x: 1}\ngrid: {x: [2]}\n", ["x", "fixed", "grid"]),
        ("notebook: unit.ipynb\nout: o\nseeds: [1]\nfixed: {seed: 1}\n", ["seed", "fixed"]),
        ("notebook: unit.ipynb\nout: o\nfixed: {x: 1, x: 2}\n", ["'x'", "twice"]),
        ("notebook: unit.ipynb\nout: o\nfixed: {x: 2024-01-01}\n", ["date", "quote"]),
        ("notebook: unit.ipynb\nout: o\nfixed: {on: 1}\n", ["True", "quote"]),
        ("notebook: [unit.ipynb\n", ["not readable as YAML"]),
        ("!!python/object/apply:os.system ['true']\n", ["not readable as YAML"]),
        ("notebook: gone.ipynb\nout: o\n", ["gone.ipynb", "no such notebook"]),
        ("notebook: unit.ipynb\nout: o\ngrid: {x: [1, 2, 1]}\n", ["same run twice", "default"]),
        ("notebook: unit.ipynb\nout: o\nvariants: {a: {}, b: }\n", ["'a'", "'b'", "twice"]),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(tmp_path, text, words):
    write_notebook(tmp_path / "unit.ipynb")
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(SweepError) as caught:
        plan(load_grid(path))
    for word in [str(path) if "gone" not in text else "gone", *words]:
        assert word in str(caught.value)


def test_a_grid_without_end_is_refused(tmp_path):
    axes = {name: list(range(200)) for name in ("x", "seed")}
    with pytest.raises(SweepError, match=f"40000 runs; at most {MAX_RUNS}"):
        load_grid(write_grid(tmp_path, grid=axes))
    lines = ["fixed:", "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("notebook: n\nout: o\n" + "\n".join(lines))
    with pytest.raises(SweepError, match="values"):
        load_grid(tmp_path / "bomb.yaml")


# parameters -------------------------------------------------------------------------------------


def test_an_unknown_parameter_is_refused_with_the_real_ones(tmp_path):
    with pytest.raises(SweepError) as caught:
        runs_of(tmp_path, grid={"rat": [0.1]})
    for word in ("'rat'", "x: int = 1", "rate: float = 0.5", "unit.ipynb", "variant 'default'"):
        assert word in str(caught.value)
    with pytest.raises(SweepError, match="results_path is set by the sweep"):
        runs_of(tmp_path, variants={"a": {"results_path": "mine.json"}})


@pytest.mark.parametrize(
    ("declared", "value", "fits"),
    [
        ("p: int = 1", 2, True),
        ("p: int = 1", 2.0, False),
        ("p: int = 1", True, False),
        ("p: int = 1", None, False),
        ("p: float = 1.0", 2, True),
        ("p: float = 1.0", "1e-4", False),
        ("p: bool = True", 1, False),
        ("p = 1.5", 2, True),
        ("p = None", 2, True),
        ("p: int | None = None", None, True),
        ("p: int | None = None", 2.5, False),
        ("p: Optional[float] = None", 2, True),
        ("p: list[int] = [1]", [2, 3], True),
        ("p: list[int] = [1]", [2, "3"], False),
        ("p: dict[str, float] = {}", {"a": 1}, True),
        ("p: dict[str, float] = {}", {"a": "b"}, False),
        ("p: Literal['a', 'b'] = 'a'", "b", True),
        ("p: Literal['a', 'b'] = 'a'", "c", False),
    ],
)
def test_types_are_those_of_the_notebook(tmp_path, declared, value, fits):
    parameters = f"{declared}\nresults_path: str = ''"
    notebook = write_notebook(tmp_path / "n.ipynb", parameters=parameters, cells=["p", SAVE])
    grid = load_grid({"notebook": notebook, "out": tmp_path / "o", "fixed": {"p": value}})
    if fits:
        assert plan(grid).runs[0].parameters["p"] == value
    else:
        with pytest.raises(SweepError) as caught:
            plan(grid)
        assert "p is" in str(caught.value) and repr(value) in str(caught.value)


def test_whole_numbers_for_a_float_are_the_same_run_and_text_is_explained(tmp_path):
    (one,) = runs_of(tmp_path, grid={"rate": [1]})
    (other,) = runs_of(tmp_path, grid={"rate": [1.0]})
    assert one == other and type(one.parameters["rate"]) is float
    with pytest.raises(SweepError, match="with a decimal point"):
        runs_of(tmp_path, grid={"rate": ["1e-4"]})


@pytest.mark.parametrize(
    ("cells", "is_read"),
    [
        (["print(p)"], True),
        (["def f():\n    return p"], True),
        (["f'{p}'"], True),
        (["p += 1"], True),
        (["%run other.py $p"], True),
        (["!echo {p}"], True),
        (["%%time\nprint(p)"], True),
        (["globals()['p']"], True),
        (["q = 1"], False),
        (["'p'  # p"], False),
        (["p = 5\nprint(p)"], False),
        (["p = 5", "print(p)"], False),
        (["p = p + 1"], True),
        (["x.p, f(p=1)"], False),
    ],
)
def test_a_parameter_that_no_code_reads_is_refused(tmp_path, cells, is_read):
    parameters = "p: int = 1\nresults_path: str = ''"
    notebook = write_notebook(tmp_path / "n.ipynb", parameters=parameters, cells=[*cells, SAVE])
    grid = {"notebook": notebook, "out": tmp_path / "o"}
    assert plan(load_grid(grid)).runs, "a default that nobody reads does no harm"
    grid["grid"] = {"p": [2, 3]}
    if is_read:
        assert len(plan(load_grid(grid)).runs) == 2
    else:
        with pytest.raises(SweepError, match="'p', but no later code reads it"):
            plan(load_grid(grid))


@pytest.mark.parametrize(
    ("parameters", "cells", "words"),
    [
        ("x = 1", [SAVE], ["results_path", "not there", "x = 1"]),
        ("results_path = ''", ["1"], ["results_path", "no code reads it"]),
        ("x = 1\ny = x * 2\nresults_path = ''", [SAVE], ["y = x * 2", "literal"]),
        ("x =", [SAVE], ["no Python"]),
        (PARAMETERS, ["x +", SAVE], ["no Python"]),
    ],
)
def test_a_notebook_that_cannot_be_swept_over_is_refused(tmp_path, parameters, cells, words):
    notebook = write_notebook(tmp_path / "n.ipynb", parameters=parameters, cells=cells)
    with pytest.raises(SweepError) as caught:
        plan(load_grid({"notebook": notebook, "out": tmp_path / "o"}))
    for word in ["n.ipynb", *words]:
        assert word in str(caught.value)


# identity ---------------------------------------------------------------------------------------


def test_a_run_is_its_code_and_its_parameters(tmp_path):
    import nbformat

    (before,) = runs_of(tmp_path, grid={"x": [3]})
    path = tmp_path / "unit.ipynb"
    node = nbformat.read(path, as_version=4)
    node.cells[0].source = "# Other prose"
    node.cells[2].outputs = [nbformat.v4.new_output("stream", text="an output")]
    nbformat.write(node, path)
    grid = load_grid(tmp_path / "grid.yaml")
    assert plan(grid).runs[0].run_id == before.run_id, "prose and outputs change no result"
    node.cells[2].source += "\n1"
    nbformat.write(node, path)
    assert plan(grid).runs[0].run_id != before.run_id
    (other,) = runs_of(tmp_path, grid={"x": [4]})
    assert other.run_id != before.run_id
    (renamed,) = runs_of(tmp_path, grid={"x": [3]}, variants={"another": {}})
    assert renamed.run_id == before.run_id and renamed.variant == "another"
