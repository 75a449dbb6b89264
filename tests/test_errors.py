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
    StreamError,
    TruncatedStream,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, SketchFusionError)
]

EXIT_CODES = {
    "SketchFusionError": 1,
    "ArgumentError": 2,
    "ImageError": 3,
    "OutputError": 4,
    "StreamError": 10,
    "NotAStream": 11,
    "UnsupportedStream": 12,
    "CorruptStream": 13,
    "TruncatedStream": 14,
    "ModelMismatch": 15,
    "BudgetTooSmall": 20,
    "WeightsError": 30,
    "DownloadError": 31,
    "RecipeError": 32,
    "DependencyMissing": 33,
}


def test_exit_codes_are_frozen_and_distinct():
    codes = {cls.__name__: cls.exit_code for cls in CLASSES}
    for name, code in EXIT_CODES.items():
        assert codes[name] == code, f"the meaning of exit code {code} must not change"
    assert len(set(codes.values())) == len(codes)
    assert all(1 <= code < 64 for code in codes.values())


@pytest.mark.parametrize(
    ("error", "parent", "attributes", "words"),
    [
        (
            BudgetTooSmall.for_image(768, 512, 412, 300),
            SketchFusionError,
            {"needed_bytes": 412, "max_bytes": 300},
            ["768x512", "412 bytes", "0.0084 bpp", "max_bytes=300", "downscale"],
        ),
        (
            ModelMismatch.between(0x12, 0xABCD, "Load the weights", "photo.skf"),
            StreamError,
            {"stream_id": 0x12, "model_id": 0xABCD},
            ["photo.skf", "0x0012", "0xabcd", "Load the weights"],
        ),
        (
            TruncatedStream.at(9, 12, "header", "photo.skf"),
            StreamError,
            {"needed_bytes": 12},
            ["photo.skf", "header", "9 bytes", "12"],
        ),
        (
            DependencyMissing.for_extra("dask", "sweep", "A parallel sweep"),
            SketchFusionError,
            {},
            ["A parallel sweep", "'dask'", "pip install 'sketchfusion-lite[sweep]'"],
        ),
    ],
)
def test_messages_and_attributes_survive_pickling(error, parent, attributes, words):
    assert isinstance(error, parent)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    for name, value in attributes.items():
        assert getattr(error, name) == getattr(copy, name) == value
    for word in words:
        assert word in str(error)


def test_argument_errors_are_value_errors():
    assert issubclass(errors.ArgumentError, ValueError)
