"""One training step of the shipped codec: forward, backward, optimisers; ``python -m benchmarks.training_step``.

The recipe ``codec`` on the sample photos: time and memory do not depend on what photos show. LPIPS-VGG joins every
few steps, so a step is the mean of one such period; the adversary, of the last part, is left out. Precision is
Accelerate's, ``ACCELERATE_MIXED_PRECISION``.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sketchfusion_lite.samples import SAMPLES, sample_path
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import load_recipe
from sketchfusion_lite.weights_io import load_codec_weights, shipped_weights

from .alone import peak_megabytes
from .timing import count_macs, has_bfloat16, in_process

CROP, BATCH = 192, 8


def start(folder: Path, crop: int, batch: int) -> TrainingRun:
    """A run of the shipped architecture, from the shipped weights, that has not made a step."""
    photos = folder / "photos"
    photos.mkdir()
    for name in SAMPLES:
        shutil.copy(sample_path(name), photos)
    recipe = load_recipe(
        "codec",
        photos=[str(photos)],
        hold_out=1,
        start_from=str(shipped_weights()),
        phases=[[0.0, crop, batch]],
        model=dict(load_codec_weights(None)[1]),
    )
    return TrainingRun(recipe, folder / "run")


def measure(run: TrainingRun, repeats: int) -> dict[str, float]:
    """Per step: seconds, MACs of forward and backward; peak memory of the process in MB; parameters."""
    every = run.recipe.vgg_every

    def period() -> None:
        for _ in range(every):
            run.train_step()  # run() would validate and export as well

    macs = count_macs(period)  # the warm-up, too
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        period()
        times.append(time.perf_counter() - started)
    return {
        "seconds": statistics.median(times) / every,
        "macs": macs / every,
        "peak MB": peak_megabytes(),
        "parameters": sum(p.numel() for p in run.weights.values()),
    }


def in_precisions(
    repeats: int = 3, crop: int = CROP, batch: int = BATCH
) -> dict[str, dict[str, float]]:
    """What :func:`measure` says in float32, and in bfloat16 where the processor has it; a process for each."""
    precisions = {"float32": "no"} | ({"bfloat16": "bf16"} if has_bfloat16() else {})
    step = ("benchmarks.training_step", repeats, crop, batch)
    return {n: in_process(*step, ACCELERATE_MIXED_PRECISION=p) for n, p in precisions.items()}


if __name__ == "__main__":
    n, crop, batch = map(int, sys.argv[1:] or (3, CROP, BATCH))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(start(Path(folder), crop, batch), n)))
