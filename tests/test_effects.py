"""Effects of an ablation: against a textbook's definition, and against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sketchfusion_lite.errors import SketchFusionWarning, SweepError
from sketchfusion_workbook.lessons.ablations import effects


def runs_of(truth: dict[str, float], seeds: int, noise: float, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {"variant": name, "seed": s, "psnr": mean + noise * generator.normal()}
        for name, mean in truth.items()
        for s in range(seeds)
    )


THREE = {"base": 20.0, "a": 21.0, "b": 19.0}


def test_an_effect_is_the_difference_of_means_with_students_interval():
    from scipy.stats import ttest_ind

    runs = runs_of(THREE, 3, 0.1)
    found = effects(runs, "psnr", "base").set_index("variant")
    means = runs.groupby("variant")["psnr"].mean()
    assert found.loc["a", "effect"] == pytest.approx(means["a"] - means["base"])
    assert list(found["better"].items()) == [("a", True), ("b", False)]

    runs = runs_of({"base": 0.0, "a": 0.5}, 5, 1.0)
    (row,) = effects(runs, "psnr", "base").to_dict("records")
    a, base = (runs.loc[runs["variant"] == name, "psnr"] for name in ("a", "base"))
    student = ttest_ind(a, base).confidence_interval(0.95)  # with one variant Dunnett's is this
    assert [row["low"], row["high"]] == pytest.approx([student.low, student.high], abs=0.02)


def test_runs_that_failed_are_named_not_forgotten():
    runs = runs_of(THREE, 3, 0.1)
    runs.loc[(runs["variant"] == "a") & (runs["seed"] > 0), "psnr"] = None
    with pytest.warns(SketchFusionWarning, match=r"psnr: 2 of a \(runs without a value\)"):
        assert list(effects(runs, "psnr", "base")["runs"]) == [1, 3]
    runs.loc[runs["variant"] == "b", "psnr"] = float("inf")
    with (
        pytest.warns(SketchFusionWarning),
        pytest.raises(SweepError, match="infinite in a run of b"),
    ):
        effects(runs, "psnr", "base")


def test_large_effects_separate_none_at_all_rarely_does_and_no_spread_is_no_certainty():
    clear = effects(runs_of({"base": 0, "a": 5, "b": 0}, 2, 0.2), "psnr", "base")
    assert list(clear["separated"]) == [True, False]
    nothing = [runs_of(dict.fromkeys(("base", *"abcd"), 0.0), 2, 1.0, seed) for seed in range(40)]
    wrong = sum(effects(runs, "psnr", "base")["separated"].any() for runs in nothing)
    assert wrong <= 8  # 5 % of 40 are 2
    (row,) = effects(runs_of({"base": 20.0, "a": 21.0}, 2, 0.0), "psnr", "base").to_dict("records")
    assert np.isnan([row["low"], row["high"], row["p"]]).all() and not row["separated"]


def test_distances_are_better_when_lower():
    runs = pd.DataFrame({"variant": ["base"] * 2 + ["a"] * 2, "lpips_0.03": [0.4, 0.41, 0.3, 0.31]})
    assert effects(runs, "lpips_0.03", "base")["better"].all()


@pytest.mark.parametrize(
    ("seeds", "metric", "base", "words"),
    [
        (1, "psnr", "base", "two runs"),
        (1, "dists", "base", "dists"),
        (2, "psnr", "fused", "'fused'"),
    ],
)
def test_what_cannot_be_said_is_refused(seeds, metric, base, words):
    with pytest.raises(SweepError, match=words):
        effects(runs_of({"base": 0, "a": 1}, seeds, 0.1), metric, base)
