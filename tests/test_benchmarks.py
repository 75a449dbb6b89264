"""Benchmarks: counts equal formulas, ratios and floors are what they say, and each runs at a tiny size."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import common, compute, peers_speed, speed, timing, training_step
from sketchfusion_lite.evaluation.peers import PEERS
from sketchfusion_lite.integer import IntegerConv
from sketchfusion_lite.samples import load_photo

SMALL = (128, 64)


@pytest.fixture(scope="module")
def picture():
    return load_photo("coffee").image.resize(SMALL)


# Work ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_macs_are_the_formula(groups, dtype):
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=groups).to(dtype)
    x = torch.rand(2, 8, 16, 24, dtype=dtype)
    expected = 2 * (8 * 12) * 12 * (8 // groups) * 3 * 3  # batch * places * out * in * kernel
    assert timing.count_macs(lambda: conv(x)) == expected
    linear, x = nn.Linear(16, 32), torch.rand(8, 16, requires_grad=True)
    assert timing.count_macs(lambda: linear(x).sum().backward()) == 3 * (8 * 16 * 32)


def test_a_row_states_floor_and_fraction():
    stage = compute.Stage("decoder", {"float32": 10e9}, 1_000_000, 1_500_000, seconds=0.4)
    row = stage.row({"float32": 100e9})
    assert row["kMAC/pixel"] == "10.00" and row["GMAC"] == "10.00" and row["parameters k"] == "1500"
    assert row["floor s"] == "0.2000" and row["GFLOP/s"] == "50.0" and row["of peak"] == "50 %"
    both = compute.Stage("both", {"float32": 5e9, "float64": 5e9}, 1, 1, 1.0)
    assert both.row({"float32": 100e9, "float64": 50e9})["floor s"] == "0.3000"


def test_parameters_count_those_of_integer_convolutions():
    layer = nn.Conv2d(3, 5, 3)
    stored = IntegerConv.quantise(layer)
    integer = IntegerConv(stored["weight"], stored["bias"], int(stored["shift"]))
    assert compute.parameters_of(nn.Sequential(layer, integer)) == 2 * (3 * 5 * 9 + 5)


def test_the_parts_add_up_to_what_runs_whatever_the_size(shipped_codec, picture):
    parts = compute.networks(shipped_codec, picture)
    assert set(parts["entropy"].macs) == {"float64"}
    for stage in compute.whole(shipped_codec, picture, parts).values():
        assert sum(stage.macs.values()) == timing.count_macs(stage.run) > 0, stage.name
    larger = compute.networks(shipped_codec, picture.resize((256, 128)))
    for key in parts:
        ours, theirs = (sum(s.macs.values()) / s.pixels for s in (parts[key], larger[key]))
        # The refiner's embedding of time is the only work that is done once per picture.
        assert ours == pytest.approx(theirs, rel=0.01), key


def test_macs_of_an_architecture_are_those_of_its_layers():
    one, four = (peers_speed.zoo_macs("bmshj2018-factorized", side=side) for side in (64, 128))
    assert one == pytest.approx(four, rel=0.01)
    first = 128 * 3 * 25 / 4  # 5x5, stride 2, 3 -> 128 channels, and the last layer is its mirror
    inner = 128 * 128 * 25 / 4**2 + 128 * 128 * 25 / 4**3 + 128 * 192 * 25 / 4**4
    gdn = 128 * 128 * (1 / 4 + 1 / 16 + 1 / 64)
    assert one == pytest.approx(2 * (first + inner + gdn), rel=0.02)


# Time ---------------------------------------------------------------------------------------------


def test_a_median_is_timed_at_least_once_and_within_its_budget():
    calls = []
    for repeats, budget in ((3, 12.0), (9, 0.0)):
        assert timing.median_seconds(lambda: calls.append(1), repeats, budget) >= 0
    assert len(calls) == (1 + 3) + (1 + 1)  # with warm-ups


def test_ratios_are_to_ours_and_blank_where_nothing_was_measured():
    ours = peers_speed.Cost("ours", 0.2, 0.1, 500.0, 2000, 0.3, 12_340.0)
    fast = peers_speed.Cost("fast", 0.1, 0.001, 50.0, 1990, 0.5)
    zoo = peers_speed.Cost("zoo", 2.0, 3.0, 1000.0, macs=90_000.0)
    rows = [cost.row(ours) for cost in (ours, fast, zoo)]
    assert [row["encode ratio"] for row in rows] == ["1.00", "0.50", "10.00"]
    assert [row["decode ratio"] for row in rows] == ["1.00", "0.0100", "30.00"]
    assert [row["memory ratio"] for row in rows] == ["1.00", "0.10", "2.00"]
    assert [row["kMAC/pixel"] for row in rows] == ["12.3", "", "90.0"]
    assert rows[0]["encode ms"] == "200.0" and rows[2]["bytes"] == rows[2]["to budget ms"] == ""


def test_a_peer_is_timed_at_the_file_that_fits(picture, tmp_path):
    picture.save(tmp_path / "photo.png")
    cost = peers_speed.peer_cost(PEERS["JPEG"], picture, tmp_path / "photo.png", 700, repeats=2)
    assert cost.bytes <= 700 and cost.search_s >= 0 and cost.encode_s > 0 and cost.decode_s > 0
    assert 15 < cost.peak_mb < 300  # without torch


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="NOCODEC"):
        timing.in_process("benchmarks.alone", "NOCODEC", "no.png", 1, 1, 1)


# Whole benchmarks, small --------------------------------------------------------------------------


def test_every_benchmark_has_a_name():
    with pytest.raises(SystemExit, match="unknown benchmark"):
        command.main(["nosuch"])


def test_a_training_step_is_measured(tmp_path):
    run = training_step.start(tmp_path, crop=64, batch=2)
    found = training_step.measure(run, repeats=1)
    assert run.step == 2 * run.recipe.vgg_every
    assert found["seconds"] > 0 and found["macs"] > 1e8 and found["peak MB"] > 100
    assert 1e6 < found["parameters"] < 1e7


@pytest.mark.slow
def test_the_tables_are_written_at_a_small_size(tmp_path, monkeypatch):
    """Their columns are those of the committed ones, which the documents show."""
    committed = common.RESULTS
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "STEPS", (1, 8))
    monkeypatch.setattr(speed, "EFFORTS", (1,))
    for module in (speed, peers_speed):
        monkeypatch.setattr(module, "RATE", 0.2)  # headers weigh more in a small picture
    peaks = timing.peaks_here(seconds=0.0, side=64)
    assert all(rate > 0 for rate in peaks.values())
    monkeypatch.setattr(compute, "peaks_here", lambda: peaks)
    step = {"seconds": 1.0, "macs": 1e9, "peak MB": 900.0, "parameters": 1e6}
    for module in (speed, compute):
        monkeypatch.setattr(module, "in_precisions", lambda *_: {"float32": step})
    speed.main(sizes=[SMALL], photo=SMALL, repeats=1)
    compute.main(SMALL, repeats=1)
    peers_speed.main((256, 192), 1, peers=("JPEG 2000",), zoo=("bmshj2018-factorized",))
    first, wanted = {}, {"speed": "step", "compute": "stage", "peers_speed": "codec"}
    for name, key in wanted.items():
        with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with (committed / f"{name}.csv").open(encoding="utf-8") as file:
            assert list(rows[0]) == next(csv.reader(file))
        first[name] = {row[key] for row in rows}
    assert {"decode refined, 8 steps", "import torch", "training step, float32"} <= first["speed"]
    assert "encode, rate search, effort 1" in first["speed"]
    assert {"preview decoder", "peak of this machine"} <= first["compute"]
    assert len(first["peers_speed"]) == 4
    assert "1 threads" in (tmp_path / "peers_speed.machine.txt").read_text()
