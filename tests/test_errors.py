"""The error classes are an interface: scripts rely on exit codes, workers on pickling."""

from __future__ import annotations

import inspect
import pickle

import pytest

from sketchfusion_lite import errors
from sketchfusion_lite.errors import (
    BudgetTooSmall,
    DependencyMissing,
    ModelMismatch,
    SketchFusionError,
    TruncatedStream,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, SketchFusionError)
]
EXIT_CODES = {1: "SketchFusionError", 2: "ArgumentError", 3: "ImageError", 4: "OutputError"}
EXIT_CODES |= {10: "StreamError", 11: "NotAStream", 12: "UnsupportedStream", 13: "CorruptStream"}
EXIT_CODES |= {14: "TruncatedStream", 15: "ModelMismatch", 20: "BudgetTooSmall"}
EXIT_CODES |= {30: "WeightsError", 31: "DownloadError", 32: "RecipeError", 33: "DependencyMissing"}
EXIT_CODES |= {40: "EvaluationError", 41: "ResultsError", 42: "PeerError"}
EXIT_CODES |= {50: "SweepError", 51: "WorkersError"}


def test_the_meaning_of_an_exit_code_never_changes():
    assert {cls.exit_code: cls.__name__ for cls in CLASSES} == EXIT_CODES
    assert len(CLASSES) == len(EXIT_CODES) and max(EXIT_CODES) < 64
    assert issubclass(errors.ArgumentError, ValueError)


@pytest.mark.parametrize(
    ("error", "attributes", "words"),
    [
        (
            BudgetTooSmall.for_image(768, 512, 412, 300),
            {"needed_bytes": 412, "max_bytes": 300},
            ["768x512", "412 bytes", "0.0084 bpp", "max_bytes=300", "downscale"],
        ),
        (
            ModelMismatch.between(0x12, 0xABCD, "Load the weights", "photo.skf"),
            {"stream_id": 0x12, "model_id": 0xABCD},
            ["photo.skf", "0x0012", "0xabcd", "Load the weights"],
        ),
        (
            TruncatedStream.at(9, 12, "header", "photo.skf"),
            {"needed_bytes": 12},
            ["photo.skf", "header", "9 bytes", "12"],
        ),
        (
            DependencyMissing.for_extra("dask", "sweep", "A parallel sweep"),
            {},
            ["A parallel sweep", "'dask'", "pip install 'sketchfusion-lite[sweep]'"],
        ),
    ],
)
def test_messages_and_attributes_survive_pickling(error, attributes, words):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    for name, value in attributes.items():
        assert getattr(error, name) == getattr(copy, name) == value
    assert all(word in str(error) for word in words)
