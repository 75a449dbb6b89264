"""Every notebook runs with other parameters, its exercises solved, and leaves a sound row of results.

    notebook + solutions as cells --papermill, other parameters--> executed copy + row.json --> asserts

``make test`` also executes every notebook with its defaults under nbval. That no notebook lacks such
a test is a rule of its own, see ``test_notebooks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sketchfusion_lite import load_codec
from sketchfusion_lite.samples import load_photo
from sketchfusion_lite.sweeps.notebooks import read_notebook
from tests.notebook_book import load_tool, solutions

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("papermill")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
TABLES = ROOT / "data" / "results"  # the copy lies elsewhere: absolute paths
CAPSTONE = NOTEBOOKS / "09_train_your_codec.ipynb"
LESSONS = ROOT / "data" / "lessons"
ABLATION = {"table": "ablation.csv", "training": "ablation_training.csv"}
Solve = Callable[..., dict[str, Any]]

execute = load_tool("run_workbook").execute


def with_solutions(notebook: Path, target: Path) -> Path:
    """A copy whose exercises are solved: the folded code follows the text as cells."""
    copy = nbformat.read(notebook, as_version=4)
    cells = []
    for cell in copy.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cells += [nbformat.v4.new_code_cell(block) for block in solutions(cell.source)]
    assert len(cells) > len(copy.cells), "no solution holds code"
    copy.cells = cells
    nbformat.write(copy, target)
    return target


@pytest.fixture
def solve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Solve:
    """``solve("00_tour", photo="chelsea")``: the row of a run with these parameters and all solutions."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def solved(stem: str, **parameters: Any) -> dict[str, Any]:
        notebook = NOTEBOOKS / f"{stem}.ipynb"
        defaults = read_notebook(notebook).parameters
        others = {n for n, v in parameters.items() if n not in defaults or v != defaults[n].default}
        assert others - {"output_dir"}, "all defaults"
        copy = with_solutions(notebook, tmp_path / "solved.ipynb")
        return execute(copy, tmp_path / "run", parameters)[1]

    return solved


def crop(folder: Path, *names: str) -> str:
    """The middle of each sample photo, 321x215: less to do. The path of the last one, which lies in ``folder``."""
    folder.mkdir()
    for name in names:
        image = load_photo(name).image
        left, top = (image.width - 321) // 2, (image.height - 215) // 2
        image.crop((left, top, left + 321, top + 215)).save(folder / f"{name}.png")
    return str(folder / f"{name}.png")


def test_defaults_alone_are_refused(solve: Solve):
    with pytest.raises(AssertionError, match="all defaults"):
        solve("00_tour", photo="coffee")


def slow(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.notebook(pytest.mark.slow(test))


@slow
def test_tour_with_another_photo_and_rate_and_solved_exercises(solve: Solve, tmp_path: Path):
    parameters = {"photo": crop(tmp_path / "photo", "chelsea"), "bpp": 0.1, "effort": 1}
    row = solve("00_tour", **parameters, output_dir=str(tmp_path / "out"))

    assert row["photo"] == "chelsea" and (row["width"], row["height"]) == (321, 215)
    assert row["budget"] == int(0.1 * 321 * 215 / 8)
    assert row["bytes"] <= row["budget"] and row["avif_bytes"] <= row["budget"]
    assert row["bytes"] == (tmp_path / "out" / "chelsea.skf").stat().st_size
    assert row["bytes"] == sum(row["section_bytes"].values())
    assert math.isclose(row["bpp"], row["bytes"] * 8 / (321 * 215))
    assert row["estimated_bpp"] < row["bpp"]
    assert row["summary"].startswith("chelsea: ")
    for codec in ("", "avif_"):
        assert 15 < row[f"{codec}psnr"] < 40 and 0.3 < row[f"{codec}ms_ssim"] < 1
        for metric in ("lpips_alex", "lpips_vgg", "dists"):
            assert 0 < row[f"{codec}{metric}"] < 1
    made = {path.name.removeprefix("chelsea") for path in (tmp_path / "out").iterdir()}
    assert made == {".skf", "_preview.png", "_refined.png", "_sketch.png"}
    assert row["lpips_alex"] < row["preview_lpips_alex"], "the refiner is worth its time"
    assert row["effort_bytes"] <= row["budget"] and row["foretold_steps"] > 0
    assert 0 < row["foretold_seconds"] < 20 * row["effort_seconds"], "of the right order"
    gains = (row["lpips_alex"] - row["effort_lpips_alex"], row["effort_psnr"] - row["psnr"])
    assert max(gains) > 0, "what the search goes by"


@slow
def test_tour_within_a_budget_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A picture of one's own, of an odd size, and bytes in place of bits per pixel."""
    name = tmp_path / "mine.jpg"
    load_photo("astronaut").image.crop((100, 0, 337, 203)).save(name, quality=95)
    parameters = {"photo": str(name), "max_bytes": 1400, "output_dir": str(tmp_path / "out")}
    parameters |= {"steps": 2, "realism": 0.0, "effort": 0}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    row = execute(NOTEBOOKS / "00_tour.ipynb", tmp_path / "run", parameters)[1]
    assert (row["steps"], row["realism"]) == (2, 0) and row["psnr"] != row["preview_psnr"]
    assert (row["photo"], row["width"], row["height"]) == ("mine", 237, 203)
    assert row["effort_bytes"] == row["bytes"] <= row["budget"] == 1400
    assert (row["foretold_steps"], row["effort_psnr"]) == (0, row["psnr"]), "effort 0"
    with Image.open(tmp_path / "out" / "mine_preview.png") as preview:
        assert preview.size == (237, 203)


@slow
def test_cues_with_another_photo_and_human_boundaries(solve: Solve, photo_folder: Path):
    parameters = {"photo": "chelsea", "caption": "a ginger cat", "bpp": 0.08, "scenes": 2}
    parameters |= {"train_steps": 3, "boundaries_folder": str(photo_folder), "annotated": 2}
    row = solve("01_cues", **parameters, cues_table=str(TABLES / "cues.csv"))
    assert (row["photo"], row["scenes"], row["annotated"]) == ("chelsea", 2, 2)
    assert row["bytes"] <= row["budget"] == int(0.08 * 451 * 300 / 8)
    assert set(row["f"]) == {"difference of Gaussians", "Sobel", "learned (ours)", "student"}
    assert 0 < row["f"]["Sobel"] < row["f"]["learned (ours)"] < 1
    assert row["lost_db"]["no perceptual cue"] > row["lost_db"]["no structural cue"]
    assert row["gap_db"] > 1
    assert 0 < row["astray"] < 1 and 0 < row["agreed"]["Sobel"] < 1


@slow
def test_sketch_encoder_with_another_photo_and_short_trainings(solve: Solve):
    small = {"quality": 1.0, "train_steps": 8, "width": 6}
    table = str(TABLES / "quantisers.csv")
    row = solve("02_sketch_encoder", photo="chelsea", quantisers_path=table, **small)
    assert (row["photo"], row["quality"], row["train_steps"]) == ("chelsea", 1.0, 8)
    assert 0.8 < row["zeros"] < 1 and -1 <= row["gate_correlation"] <= 1
    assert 0.2 < row["share_correlation"] <= 1, "only lines pass where there are lines"
    assert max(row["structure_psnr"], row["predicted_tone_psnr"]) < row["psnr"], "tone's bytes"
    assert row["noise_ratio_lowest"] > row["noise_ratio_finest"] > 1
    assert 0.14 < row["zero_bits"] < 0.16, "of the smallest scale, whatever the weights"
    assert row["floor_bpp"] == pytest.approx(row["zero_bits"] * row["channels"] / 256)
    assert 0.8 < row["straight-through_ratio"] < 1.2
    for name in ("straight-through", "mixed"):
        assert abs(row[f"{name}_change_db"]) < 0.5, "the decoder was trained on rounded symbols"


@slow
def test_entropy_coding_with_another_photo_and_solved_exercises(solve: Solve, tmp_path: Path):
    parameters = {"photo": "chelsea", "quality": 1.0, "budget": 900, "streams": 1, "prefixes": 3}
    row = solve("03_entropy_coding", **parameters, output_dir=str(tmp_path / "out"))

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
    assert row["prefix_psnr"][0] == min(row["prefix_psnr"]), "hyper alone"


@slow
def test_preview_decoding_with_another_photo_and_codec(solve: Solve, tmp_path: Path):
    """The codec of lines alone has other weights, and no second stage."""
    photo = crop(tmp_path / "photo", "chelsea")
    row = solve("04_preview_decoding", photo=photo, bpp=0.1, weights="lines")
    assert (row["photo"], "seconds_refined" in row) == (photo, False)
    assert 0 <= row["idle_blocks"] < row["blocks"] and row["worth_most_db"] > 0.05
    assert (row["idle_blocks"] == 0) == (row["idle_work"] == 0) and 0 <= row["idle_work"] < 1
    assert row["error_left_silu"] < 0.5 < row["error_left_relu"], "ReLUs die in idle time"
    assert row["macs_per_pixel"] > 1000 and row["receptive_field"] % 16 == 0
    assert 0 < row["near"] <= 1 and 0 <= row["margin_enough"] <= row["receptive_field"]
    assert 0 < row["weave_photo"] < 2 and row["told_spread_db"] >= 0


@slow
def test_objectives_with_another_photo_and_a_short_training(solve: Solve, tmp_path: Path):
    photo, school = crop(tmp_path / "photo", "chelsea"), tmp_path / "school"
    crop(school, "coffee", "china")
    parameters = {"photo": photo, "photos": str(school), "train_steps": 2}
    row = solve("05_objectives", **parameters, crop=48, batch=2)
    assert (row["photo"], row["train_steps"]) == (photo, 2)
    assert row["doubling"] == pytest.approx(2, rel=0.03)
    assert row["price_quantised"] == pytest.approx(2, rel=0.02)
    assert row["rate_missed"] < 0.02 and 0 < row["invented"] < 1
    names = {key.removesuffix("_psnr") for key in row if key.endswith("_psnr")}
    assert len(names) == 8, "the shipped decoder, six tuned ones and the second stage"
    for name in names:
        assert 12 < row[f"{name}_psnr"] < 40
        assert 0 < row[f"{name}_lpips_alex"] < 1 and 0 < row[f"{name}_dists"] < 1
        assert row[f"{name}_weave"] > 0


@slow
def test_refinement_with_another_photo_and_a_short_training(solve: Solve, tmp_path: Path):
    photo, school = crop(tmp_path / "photo", "china"), tmp_path / "school"
    crop(school, "coffee", "chelsea")
    parameters = {"photo": photo, "photos": str(school), "steps": 2, "train_steps": 12}
    row = solve("06_diffusion_refinement", **parameters, width=52, crop=48)
    assert (row["photo"], row["steps"], row["train_steps"]) == (photo, 2, 12)
    assert row["refined_moved"] > 1, "nothing to look at"
    assert row["faithful_psnr"] > row["preview_psnr"]
    for metric in ("lpips_alex", "dists"):
        assert row[f"realistic_{metric}"] < row[f"preview_{metric}"]
    for more, less in (("faithful_psnr", "realistic_psnr"), ("faithful_dists", "realistic_dists")):
        assert row[more] > row[less] - 0.01, "the dial is turned the wrong way"
    assert abs(row["on_grey_psnr"] - row["realistic_psnr"]) < 3
    assert min(row["steps_apart"], row["spread"]) >= 0
    assert 0 < row["nearer"] < 1 and 0 < row["nearer_reversed"] < 1
    assert row["nearer"] + row["nearer_reversed"] < 1.05, (
        "a change and its reverse seldom both help"
    )
    assert 0.5 < row["student_ratio"] < 2 and 0.5 < row["grafted_ratio"] < 2
    assert row["toy_error"] == sorted(row["toy_error"]) and row["toy_w2"] == sorted(
        row["toy_w2"], reverse=True
    )
    assert row["toy_error"][0] < 1.1 * row["toy_least"] < 0.7 * row["toy_error"][-1]
    assert row["toy_w2"][-1] < 0.5 * row["toy_w2"][0], "several steps draw what one averages"


@slow
def test_rate_distortion_with_another_photo_anchor_and_solved_exercises(solve: Solve):
    parameters = {"photo": "flower", "anchor": "avif/auto", "rate": 0.07, "fool_steps": 5}
    parameters |= {"strip_codecs": "refined,avif/auto", "live_photos": "coffee", "live_side": 192}
    table = str(TABLES / "rate_distortion.csv")
    row = solve("07_rate_distortion", **parameters, table_path=table)
    assert (row["photo"], row["anchor"], row["rate"]) == ("flower", "avif/auto", 0.07)
    assert row["photos"] >= 1 and row["rows"] > row["photos"]
    assert row["bytes"] <= 0.07 * 640 * 427 / 8
    assert 0 < row["ratio"] < 2 and row["bd_pairs"] >= 1
    assert row["fooled_lpips_alex"] < -0.2 and row["fooled_lpips_alex"] < row["fooled_dists"]
    assert (row["live_rows"], row["live_fits"] >= 1) == (6, True)


@slow
def test_ablations_with_another_base_and_solved_exercises(solve: Solve):
    tables = {f"{n}_path": str(TABLES / f) for n, f in ABLATION.items()}
    tables["sweeps_folder"] = str(NOTEBOOKS.parent / "sweeps")
    row = solve("08_ablations", base="no-cues", budget=0.15, train_steps=2, **tables)
    assert row["live"] == {"fused": "ok", "structural": "ok", "broken": "failed"}
    assert row["repeated"] == 0 and 0.03 < row["false_claims"] < 0.07
    assert (row["base"], row["budget"]) == ("no-cues", 0.15)
    assert row["runs"] >= 2 * row["variants"] >= 16
    assert row["apart_db"] < -8, "lines alone know no colours"
    assert row["costs_most_lpips"] != "no-cues"
    assert 0 < row["sd_lpips_alex_0.15"] < 0.05 and -1 <= row["order_kept"] <= 1
    assert 1 <= row["separated_psnr_0.15"] < row["variants"]


SHORT = {"photo": "chelsea", "steps": 120, "minutes": 30.0, "batch": 4, "width": 0.125}
OWN = {  # budgets that a codec of seconds can keep
    "03_entropy_coding": {"budget": 12000, "streams": 1, "prefixes": 3},
    "04_preview_decoding": {"bpp": 0.4},
    "05_objectives": {"bpp": 0.4, "train_steps": 2, "crop": 48, "batch": 2},
    "06_diffusion_refinement": {"bpp": 0.4, "steps": 2, "train_steps": 4, "crop": 48},
    "07_rate_distortion": {"fool_steps": 2, "live_photos": "coffee", "live_rates": "0.3,0.4"},
    "10_explorer": {"bpp": 0.4, "effort": 0},
}


@slow
def test_train_your_codec_with_another_photo_and_solved_exercises(solve: Solve, tmp_path: Path):
    parameters = SHORT | {"steps": 12, "budgets": "0.1,0.5", "out": str(tmp_path / "out")}
    parameters |= {"longer": str(LESSONS / "cpu_minutes.safetensors")}
    parameters |= {"longest": str(LESSONS / "cpu_hour.safetensors")}
    row = solve("09_train_your_codec", **parameters)
    assert (row["photo"], row["width"], row["steps"]) == ("chelsea", 0.125, 12)
    assert row["files"] == 5 * 2 and row["fits"] >= 8, "the trained ones keep their budgets"
    assert row["longer_psnr_0.5"] > row["longer_psnr_0.1"] > 15
    assert row["longest_lpips_alex_0.1"] < row["longer_lpips_alex_0.1"], "seven times as long"
    assert row["finished_lpips_alex_0.1"] < row["longest_lpips_alex_0.1"], "five minutes of a GPU"
    assert row["rate_over_target"] > 0 and row["range_of_rates"] > 0
    assert -1 <= row["rate_against_squared_error"] <= 1
    assert load_codec(row["weights"], "cpu", "float32").model_id == row["model_id"]


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights file of a short run of notebook 09."""
    folder = tmp_path_factory.mktemp("own")
    return execute(CAPSTONE, folder, SHORT | {"out": str(folder / "out")})[1]["weights"]


@slow
@pytest.mark.parametrize("stem", OWN)
def test_what_notebook_09_trains_runs_in_the_others(stem: str, own_weights: str, tmp_path: Path):
    parameters = OWN[stem] | {"weights": own_weights, "refiner": "", "device": "cpu"}
    if stem == "03_entropy_coding":
        parameters["output_dir"] = str(tmp_path / "out")
    assert execute(NOTEBOOKS / f"{stem}.ipynb", tmp_path / "run", parameters)[1]


@slow
def test_explorer_with_another_photo_and_solved_exercises(solve: Solve, tmp_path: Path):
    row = solve("10_explorer", photo=crop(tmp_path / "photo", "rocket"), bpp=0.06, steps=1)
    assert (row["photo"], row["budget"]) == ("rocket", int(0.06 * 321 * 215 / 8))
    assert row["bytes"] <= row["budget"] and row["sizes"] == sorted(row["sizes"])
    assert 15 < row["psnr"] < 40 and 0 < row["lpips_alex"] < row["preview_lpips_alex"] < 1
    assert row["effort"] == 1 and row["effort_bytes"] <= row["budget"]
    assert row["effort_lpips_alex"] < row["lpips_alex"], "searched in vain"
    assert 0 < row["preview_seconds"] < 60
