"""The workbook: committed executed and tidy, and it runs with other parameters.

``make test`` also executes every notebook with its defaults under nbval.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TOUR = next((path for path in NOTEBOOKS if path.stem == "00_tour"), None)
ABSOLUTE = re.compile(r"(?<![\w.:/~])/(?:home|root|work|tmp|usr|Users|opt|var)/|[A-Z]:\\\\?Users")
MAX_LINES, MAX_BYTES = 30, 1_000_000

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[Any]:
    return [output for cell in code_cells(path) for output in cell.outputs]


def test_there_are_notebooks():
    assert TOUR is not None


# --------------------------------------------------------------------------------------------------
# As committed


@every_notebook
def test_is_valid_and_names_a_plain_kernel(path: Path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python", "papermill needs it"
    assert "papermill" not in notebook.metadata, "traces of a papermill run"
    assert path.stat().st_size < MAX_BYTES


@every_notebook
def test_parameters_are_commented_literals(path: Path):
    tagged = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    (cell,) = tagged
    names = []
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.AnnAssign), "write name: type = literal"
        ast.literal_eval(statement.value)
        assert ast.unparse(statement.annotation) in {"str", "int", "float", "bool"}
        names.append(statement.target.id)
    assert all("  # " in line for line in cell.source.splitlines()), "explain each"
    assert "results_path" in names


@every_notebook
def test_is_committed_executed_without_errors(path: Path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run all cells in order, from a fresh kernel"
    kinds = {(output.output_type, output.get("name")) for output in outputs(path)}
    assert not [k for k in kinds if k[0] == "error" or k[1] == "stderr"]


@every_notebook
def test_nothing_of_the_authors_machine_shows(path: Path):
    text = json.dumps([cell.source for cell in read(path).cells])
    for output in outputs(path):
        shown = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
        text += json.dumps([output.get("text", ""), shown])
    assert not ABSOLUTE.search(text), ABSOLUTE.search(text)


@every_notebook
def test_cells_are_short_and_enough(path: Path):
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(path))
    assert 15 <= len(lengths) <= 26
    assert lengths[-1] <= MAX_LINES, "move the longest cell to the library"
    assert lengths[len(lengths) // 2] <= 12


@every_notebook
def test_figures_have_alt_text(path: Path):
    pictures = 0
    for output in outputs(path):
        for kind in ("image/png", "image/jpeg"):
            if kind in output.get("data", {}):
                assert len(output.metadata[kind]["alt"]) > 20
                pictures += 1
    assert pictures >= 3


@every_notebook
def test_opening_says_what_why_and_how_long(path: Path):
    opening = read(path).cells[0]
    assert opening.cell_type == "markdown" and opening.source.startswith("# ")
    for word in ("**Goals**", "**Prerequisites**", "**Time**", "**Produces**"):
        assert word in opening.source


@every_notebook
def test_prose_has_length_exercises_and_references(path: Path):
    prose = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    assert 900 <= len(prose.split()) <= 2600
    assert prose.count("<details>") == prose.count("</details>") >= 3, "solutions are folded away"
    for needed in ("**Predict", "**Checkpoint", "**References**", "$$"):
        assert needed in prose


# --------------------------------------------------------------------------------------------------
# Executed


def run(
    notebook: Path, folder: Path, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Execute with papermill and return the results row."""
    import papermill
    from traitlets.config import Config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = papermill.inspect_notebook(str(notebook))
    if unknown := set(parameters) - set(known):
        raise ValueError(f"unknown parameters {sorted(unknown)}")  # papermill would only warn
    # Sockets, not ports, against races of parallel runs (papermill #511); kept in a folder of their
    # own, since by default their names are relative and the same for all.
    sockets = folder / "s"
    sockets.mkdir()
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(sockets / "k")}})
    row = folder / "row.json"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    papermill.execute_notebook(
        str(notebook),
        str(folder / "executed.ipynb"),
        parameters={**parameters, "results_path": str(row)},
        cwd=str(notebook.parent),
        progress_bar=False,
        config=config if len(str(sockets)) < 90 else None,  # a limit of the operating system
        execution_timeout=600,
    )
    return json.loads(row.read_text())


def with_solutions(notebook: Path, target: Path) -> Path:
    """A copy whose exercises are solved: the folded code follows the text as cells."""
    copy = read(notebook)
    cells = []
    for cell in copy.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            blocks = re.findall(r"```python\n(.*?)```", cell.source, flags=re.DOTALL)
            cells += [nbformat.v4.new_code_cell(block) for block in blocks]
    assert len(cells) > len(copy.cells), "no solution holds code"
    copy.cells = cells
    nbformat.write(copy, target)
    return target


def test_unknown_parameters_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="bbp"):
        run(TOUR, tmp_path, {"bbp": 0.1}, monkeypatch)


@pytest.mark.notebook
@pytest.mark.slow
def test_tour_with_another_photo_and_rate_and_solved_exercises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    solved = with_solutions(TOUR, tmp_path / "solved.ipynb")
    parameters = {"photo": "chelsea", "bpp": 0.09, "output_dir": str(tmp_path / "out")}
    row = run(solved, tmp_path, parameters, monkeypatch)

    assert row["photo"] == "chelsea" and (row["width"], row["height"]) == (451, 300)
    assert row["budget"] == int(0.09 * 451 * 300 / 8)
    assert row["bytes"] <= row["budget"] and row["avif_bytes"] <= row["budget"]
    assert row["bytes"] == (tmp_path / "out" / "chelsea.skf").stat().st_size
    assert row["bytes"] == sum(row["section_bytes"].values())
    assert math.isclose(row["bpp"], row["bytes"] * 8 / (451 * 300))
    assert row["estimated_bpp"] < row["bpp"]
    assert row["summary"].startswith("chelsea: ")
    for codec in ("", "avif_"):
        assert 15 < row[f"{codec}psnr"] < 40 and 0.3 < row[f"{codec}ms_ssim"] < 1
        for metric in ("lpips_alex", "lpips_vgg", "dists"):
            assert 0 < row[f"{codec}{metric}"] < 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "chelsea.skf",
        "chelsea_preview.png",
        "chelsea_refined.png",
        "chelsea_sketch.png",
    }
    assert 0 < abs(row["psnr"] - row["preview_psnr"]) < 1, "realism 1 is another picture"


@pytest.mark.notebook
@pytest.mark.slow
def test_tour_within_a_budget_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A picture of one's own, of an odd size, and bytes in place of bits per pixel."""
    from PIL import Image

    from sketchfusion_lite.samples import load_photo

    name = tmp_path / "mine.jpg"
    load_photo("astronaut").image.crop((100, 0, 337, 203)).save(name, quality=95)
    parameters = {"photo": str(name), "max_bytes": 1400, "output_dir": str(tmp_path / "out")}
    row = run(TOUR, tmp_path, parameters | {"steps": 1, "realism": 0.0}, monkeypatch)
    assert (row["steps"], row["psnr"]) == (1, row["preview_psnr"]), "realism 0 is the preview"
    assert (row["photo"], row["width"], row["height"]) == ("mine", 237, 203)
    assert row["bytes"] <= row["budget"] == 1400
    with Image.open(tmp_path / "out" / "mine_preview.png") as preview:
        assert preview.size == (237, 203)


@pytest.mark.notebook
@pytest.mark.slow
def test_cues_with_another_photo_and_human_boundaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_folder: Path
):
    notebook = TOUR.with_name("01_cues.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    parameters = {"photo": "chelsea", "caption": "a ginger cat", "bpp": 0.08, "scenes": 2}
    parameters |= {"train_steps": 3, "boundaries_folder": str(photo_folder), "annotated": 2}
    parameters["cues_table"] = str(TOUR.parents[1] / "data" / "results" / "cues.csv")
    row = run(solved, tmp_path, parameters, monkeypatch)
    assert (row["photo"], row["scenes"], row["annotated"]) == ("chelsea", 2, 2)
    assert row["bytes"] <= row["budget"] == int(0.08 * 451 * 300 / 8)
    assert set(row["f"]) == {"difference of Gaussians", "Sobel", "learned (ours)", "student"}
    assert 0 < row["f"]["Sobel"] < row["f"]["learned (ours)"] < 1
    assert row["lost_db"]["no perceptual cue"] > row["lost_db"]["no structural cue"]
    assert row["gap_db"] > 1
    assert 0 < row["astray"] < 1 and 0 < row["agreed"]["Sobel"] < 1


@pytest.mark.notebook
@pytest.mark.slow
def test_refinement_with_another_photo_and_a_short_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = TOUR.with_name("05_diffusion_refinement.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    parameters = {"photo": "china", "steps": 2, "train_steps": 12, "width": 8, "crop": 48}
    row = run(solved, tmp_path, parameters, monkeypatch)
    assert (row["photo"], row["steps"], row["train_steps"]) == ("china", 2, 12)
    assert 0 < abs(row["refined_psnr"] - row["preview_psnr"]) < 1
    assert abs(row["refined_dists"] - row["preview_dists"]) < 0.05
    assert 0 < row["nearer"] < 1 and row["student_ratio"] > 0
    assert abs(row["student_psnr"] - row["preview_psnr"]) < 3


@pytest.mark.notebook
@pytest.mark.slow
def test_rate_distortion_with_another_photo_anchor_and_solved_exercises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = TOUR.with_name("06_rate_distortion.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    parameters = {"photo": "flower", "anchor": "avif/auto", "rate": 0.07, "fool_steps": 5}
    parameters |= {"strip_codecs": "preview,avif/auto", "live_photos": "coffee", "live_side": 192}
    table = TOUR.parents[1] / "data" / "results" / "rate_distortion.csv"  # the copy lies elsewhere
    parameters["table_path"] = str(table)
    row = run(solved, tmp_path, parameters, monkeypatch)
    assert (row["photo"], row["anchor"], row["rate"]) == ("flower", "avif/auto", 0.07)
    assert row["photos"] >= 1 and row["rows"] > row["photos"]
    assert row["bytes"] <= 0.07 * 640 * 427 / 8
    assert 0 < row["ratio"] < 2 and row["bd_pairs"] >= 1
    assert row["fooled_lpips_alex"] < -0.2 and row["fooled_lpips_alex"] < row["fooled_dists"]
    assert (row["live_rows"], row["live_fits"] >= 1) == (6, True)


@pytest.mark.notebook
@pytest.mark.slow
def test_sketch_encoder_with_another_photo_and_short_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = TOUR.with_name("02_sketch_encoder.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    parameters = {"photo": "chelsea", "quality": 1.0, "train_steps": 8, "width": 6}
    row = run(solved, tmp_path, parameters, monkeypatch)
    assert (row["photo"], row["quality"], row["train_steps"]) == ("chelsea", 1.0, 8)
    assert 0.8 < row["zeros"] < 1 and -1 <= row["gate_correlation"] < row["share_correlation"] <= 1
    assert row["noise_ratio_lowest"] > row["noise_ratio_finest"] > 1
    assert 0.14 < row["zero_bits"] < 0.16, "of the smallest scale, whatever the weights"
    assert row["floor_bpp"] == pytest.approx(row["zero_bits"] * row["channels"] / 256)
    assert 0.8 < row["straight-through_ratio"] < 1.2
    assert abs(row["straight-through_change_db"]) < 0.5


@pytest.mark.notebook
@pytest.mark.slow
def test_entropy_coding_with_another_photo_and_solved_exercises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    solved = with_solutions(TOUR.with_name("03_entropy_coding.ipynb"), tmp_path / "solved.ipynb")
    parameters = {"photo": "chelsea", "quality": 1.0, "budget": 900, "streams": 1, "prefixes": 3}
    parameters["output_dir"] = str(tmp_path / "out")
    row = run(solved, tmp_path, parameters, monkeypatch)

    assert row["photo"] == "chelsea" and row["quality"] == pytest.approx(1.0)
    assert row["bytes"] == (tmp_path / "out" / "chelsea.skf").stat().st_size
    assert row["bytes"] == row["rans_bytes"] + row["framing_bytes"]
    assert row["ideal_bytes"] < row["rans_bytes"] <= 1.01 * row["ideal_bytes"] + 12
    costs = list(row["model_bytes"].values())
    assert costs == sorted(costs, reverse=True) and costs[-1] == pytest.approx(row["ideal_bytes"])
    assert row["flips"] == 8 * row["bytes"] and row["not_noticed"] == 0
    assert row["budget_bytes"] <= row["budget"] == 900
    assert row["floats_garbled"]["bfloat16"] == 1
    assert row["prefix_psnr"][-1] == max(row["prefix_psnr"]) > row["prefix_psnr"][0]


@pytest.mark.notebook
@pytest.mark.slow
def test_explorer_with_another_photo_and_solved_exercises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = TOUR.with_name("08_explorer.ipynb")
    solved = with_solutions(notebook, tmp_path / "solved.ipynb")
    row = run(solved, tmp_path, {"photo": "rocket", "bpp": 0.06, "steps": 1}, monkeypatch)
    assert (row["photo"], row["budget"]) == ("rocket", int(0.06 * 640 * 427 / 8))
    assert row["bytes"] <= row["budget"] and row["sizes"] == sorted(row["sizes"])
    assert 15 < row["refined_psnr"] < 40 and 0 < row["refined_lpips_alex"] < 1
    assert 0 < row["preview_seconds"] < 60
