"""Benchmarks: counts equal formulas, ratios and floors are what they say, and every new one runs at a tiny size."""

from __future__ import annotations

import csv
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import (
    alone,
    common,
    compute,
    flops,
    peers_speed,
    speed,
    sweeping,
    timing,
    training_step,
)
from sketchfusion_lite.evaluation.peers import PEERS
from sketchfusion_lite.integer import IntegerConv
from sketchfusion_lite.samples import load_photo

SMALL = (128, 64)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder in place of ``data/results``."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def picture():
    return load_photo("coffee").image.resize(SMALL)


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --------------------------------------------------------------------------------------------------
# Work


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_macs_of_a_convolution_are_the_formula(groups, dtype):
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=groups).to(dtype)
    x = torch.rand(2, 8, 16, 24, dtype=dtype)
    expected = 2 * (8 * 12) * 12 * (8 // groups) * 3 * 3  # batch * places * out * in * kernel
    with torch.inference_mode():
        assert flops.count_macs(lambda: conv(x)) == expected


def test_macs_of_backward_are_twice_those_of_forward():
    linear, x = nn.Linear(16, 32), torch.rand(8, 16, requires_grad=True)
    forward = flops.count_macs(lambda: linear(x))
    assert forward == 8 * 16 * 32
    assert flops.count_macs(lambda: linear(x).sum().backward()) == 3 * forward


def test_a_floor_adds_up_over_types_of_number():
    peaks = {"float32": 100e9, "float64": 50e9}
    assert flops.floor_seconds({"float32": 5e9}, peaks) == pytest.approx(0.1)
    both = flops.floor_seconds({"float32": 5e9, "float64": 5e9}, peaks)
    assert both == pytest.approx(0.1 + 0.2)


def test_a_row_states_floor_and_fraction():
    stage = compute.Stage("decoder", {"float32": 10e9}, 1_000_000, 1_500_000, seconds=0.4)
    row = stage.row({"float32": 100e9})
    assert row["kMAC/pixel"] == "10.00" and row["GMAC"] == "10.00" and row["parameters k"] == "1500"
    assert row["floor s"] == "0.2000" and row["GFLOP/s"] == "50.0" and row["of peak"] == "50 %"
    assert set(row) == set(compute.peak_rows({"float32": 1.0})[0])


def test_parameters_count_those_of_integer_convolutions():
    layer = nn.Conv2d(3, 5, 3)
    stored = IntegerConv.quantise(layer)
    integer = IntegerConv(stored["weight"], stored["bias"], int(stored["shift"]))
    assert compute.parameters_of(nn.Sequential(layer, integer)) == 2 * (3 * 5 * 9 + 5)


def test_the_parts_add_up_to_what_runs(shipped_codec, picture):
    parts = compute.networks(shipped_codec, picture)
    assert all(sum(stage.macs.values()) > 0 for stage in parts.values())
    assert set(parts["entropy"].macs) == {"float64"}
    for stage in compute.whole(shipped_codec, picture, parts).values():
        assert sum(stage.macs.values()) == flops.count_macs(stage.run), stage.name


def test_work_per_pixel_does_not_depend_on_the_size(shipped_codec, picture):
    small = compute.networks(shipped_codec, picture)
    large = compute.networks(shipped_codec, picture.resize((256, 128)))
    for key, stage in small.items():
        ours, theirs = (sum(s.macs.values()) / s.pixels for s in (stage, large[key]))
        # The refiner's embedding of time is the only work that is done once per picture.
        assert ours == pytest.approx(theirs, rel=0.01), key


def test_peaks_are_measured_in_every_type_of_number():
    peaks = compute.peaks_here(seconds=0.0, side=64)
    assert {"float32", "float64"} <= set(peaks) and all(rate > 0 for rate in peaks.values())
    assert ("bfloat16" in peaks) == flops.has_bfloat16()


def test_macs_of_an_architecture_are_those_of_its_layers():
    one, four = (peers_speed.zoo_macs("bmshj2018-factorized", side=side) for side in (64, 128))
    assert one == pytest.approx(four, rel=0.01)
    first = 128 * 3 * 25 / 4  # 5x5, stride 2, 3 -> 128 channels, and the last layer is its mirror
    inner = 128 * 128 * 25 / 4**2 + 128 * 128 * 25 / 4**3 + 128 * 192 * 25 / 4**4
    gdn = 128 * 128 * (1 / 4 + 1 / 16 + 1 / 64)
    assert one == pytest.approx(2 * (first + inner + gdn), rel=0.02)


# --------------------------------------------------------------------------------------------------
# Time


def test_a_median_is_timed_at_least_once_and_within_its_budget():
    calls = []
    assert timing.median_seconds(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 4  # a warm-up
    assert timing.median_seconds(lambda: calls.append(1), repeats=9, budget=0.0) >= 0
    assert len(calls) == 6


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    with timing.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_ratios_are_to_the_first_and_blank_where_nothing_was_measured():
    ours = peers_speed.Cost("ours", 0.2, 0.1, 500.0, 2000, 0.3, 12_340.0)
    fast = peers_speed.Cost("fast", 0.1, 0.001, 50.0, 1990, 0.5)
    random = peers_speed.Cost("zoo", 2.0, 3.0, 1000.0, macs=90_000.0)
    rows = peers_speed.table([ours, fast, random])
    assert [row["encode ratio"] for row in rows] == ["1.00", "0.50", "10.00"]
    assert [row["decode ratio"] for row in rows] == ["1.00", "0.0100", "30.00"]
    assert [row["memory ratio"] for row in rows] == ["1.00", "0.10", "2.00"]
    assert [row["kMAC/pixel"] for row in rows] == ["12.3", "", "90.0"]
    assert rows[2]["bytes"] == "" and rows[2]["to budget ms"] == ""


def test_a_peer_is_timed_at_the_file_that_fits(picture, tmp_path):
    picture.save(tmp_path / "photo.png")
    cost = peers_speed.peer_cost(PEERS["JPEG"], picture, tmp_path / "photo.png", 700, repeats=2)
    assert cost.bytes <= 700 and cost.search_s >= 0 and cost.encode_s > 0 and cost.decode_s > 0
    assert 15 < cost.peak_mb < 300  # without torch


def test_memory_counts_programs_that_were_started():
    assert alone.peak_with_children() > 10


def test_architectures_are_timed_with_random_weights():
    cost = peers_speed.zoo_cost("bmshj2018-factorized", 96, 64)
    assert "random weights" in cost.codec and cost.bytes is cost.search_s is None
    assert cost.encode_s > 0 and cost.decode_s > 0 and cost.peak_mb > 50


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="NOCODEC"):
        timing.in_process("benchmarks.alone", "NOCODEC", "no.png", 1, 1, 1)


# --------------------------------------------------------------------------------------------------
# Whole benchmarks, small


def test_every_benchmark_has_a_name():
    assert {"speed", "peers_speed", "compute", "scaling", "sweeping"} <= set(command.BENCHMARKS)
    with pytest.raises(SystemExit, match="unknown benchmark"):
        command.main(["nosuch"])


def test_a_training_step_is_measured(tmp_path):
    run = training_step.start(tmp_path, crop=64, batch=2)
    found = training_step.measure(run, repeats=1)
    assert run.step == 2 * run.recipe.vgg_every
    assert found["seconds"] > 0 and found["macs"] > 1e8 and found["peak MB"] > 100
    assert 1e6 < found["parameters"] < 1e7


@pytest.mark.slow
def test_speed_peers_and_compute_run_at_a_small_size(results, monkeypatch):
    monkeypatch.setattr(speed, "STEPS", (1, 8))
    for module in (speed, peers_speed):
        monkeypatch.setattr(module, "RATE", 0.2)  # headers weigh more in a small picture
    monkeypatch.setattr(compute, "peaks_here", lambda: {"float32": 1e11, "float64": 5e10})
    step = {"seconds": 1.0, "macs": 1e9, "peak MB": 900.0, "parameters": 1e6}
    for module in (speed, compute):
        monkeypatch.setattr(module, "in_precisions", lambda *_: {"float32": step})
    speed.main(sizes=[SMALL], photo=SMALL, repeats=1)
    rows = read(results / "speed.csv")
    assert list(rows[0]) == ["picture", "step", "value"]
    steps = {row["step"] for row in rows}
    assert {"decode refined, 1 step", "decode refined, 8 steps", "import torch"} <= steps
    assert {"encode, rate search, effort 1", "training step, float32"} <= steps
    compute.main(SMALL, repeats=1)
    assert "preview decoder" in {row["stage"] for row in read(results / "compute.csv")}
    peers_speed.main((256, 192), repeats=1, peers=("JPEG 2000",), zoo=())
    assert len(read(results / "peers_speed.csv")) == 3
    assert "1 threads" in (results / "peers_speed.machine.txt").read_text()


@pytest.mark.slow
def test_a_sweep_is_compared_with_papermill(results, monkeypatch):
    monkeypatch.setattr(sweeping, "measure", partial(sweeping.measure, runs=2, loops=1))
    sweeping.main()
    rows = read(results / "sweeping.csv")
    assert [row["what"] for row in rows][:3] == [
        "papermill alone",
        "sweep, 1 worker",
        "sweep, 2 workers",
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert float(rows[1]["over papermill, s per run"]) == pytest.approx(
        (float(rows[1]["seconds"]) - float(rows[0]["seconds"])) / 2, abs=0.01
    )
