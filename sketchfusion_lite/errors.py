"""Every error the package raises on purpose.

``except SketchFusionError`` catches them all. Each message names the file or field and what to do.
Each class carries ``exit_code``, the status with which the command line ends on it; the codes are
part of the interface and never change meaning. 1 stands for anything unforeseen, 2 is also what the
command-line parser uses for wrong options.

All errors survive pickling with their attributes, since worker processes send them home: hence
``args`` is the message alone, and values are attached by class methods, not by ``__init__``.
"""

from __future__ import annotations

from typing import ClassVar


class SketchFusionError(Exception):
    """Base of all errors of this package.

    Attributes:
        exit_code: exit status of the command line for this class of error.
    """

    exit_code: ClassVar[int] = 1


class SketchFusionWarning(UserWarning):
    """Something was left out, or a number is doubtful; the work goes on. The command line shows it on stderr."""


class ArgumentError(SketchFusionError, ValueError):
    """A parameter has the wrong type or lies outside its range."""

    exit_code = 2


class ImageError(SketchFusionError):
    """Not a picture, truncated, over the pixel limit, or an array of the wrong shape or type."""

    exit_code = 3


class PictureWarning(SketchFusionWarning):
    """A picture was read, but not all that its file says could be honoured; the message names it and says what."""


class OutputError(SketchFusionError):
    """A file could not be written; what was there before is untouched."""

    exit_code = 4


class StreamError(SketchFusionError):
    """Base of everything that can be wrong with a ``.skf`` stream."""

    exit_code = 10


class NotAStream(StreamError):
    """The data do not start as a ``.skf`` stream does."""

    exit_code = 11


class UnsupportedStream(StreamError):
    """A stream of a newer format version, or of a picture over the reader's pixel limit."""

    exit_code = 12


class CorruptStream(StreamError):
    """A checksum does not match, or a field has a value that no encoder writes."""

    exit_code = 13


class TruncatedStream(StreamError):
    """Too little arrived to decode anything at all.

    Attributes:
        needed_bytes: size from which something can be decoded (a lower bound, as far as can be told
            from what arrived), or ``None``.
    """

    exit_code = 14
    needed_bytes: int | None = None

    @classmethod
    def at(cls, arrived: int, needed: int, what: str, name: str) -> TruncatedStream:
        """The error for a stream called ``name`` that ends inside ``what``, after ``arrived`` of ``needed`` bytes."""
        error = cls(
            f"{name}: the stream ends inside its {what}: {arrived} bytes arrived, at least "
            f"{needed} are needed to decode anything. Fetch the rest of the file."
        )
        error.needed_bytes = needed
        return error


class ModelMismatch(StreamError):
    """The stream was made by another model than the one loaded.

    Attributes:
        stream_id, model_id: 16-bit ids of the model that made the stream and of the one loaded.
    """

    exit_code = 15
    stream_id: int | None = None
    model_id: int | None = None

    @classmethod
    def between(cls, stream_id: int, model_id: int, remedy: str, name: str) -> ModelMismatch:
        """The error for a stream called ``name``; ``remedy`` says how to read it, without a full stop."""
        error = cls(
            f"{name}: made by model {stream_id:#06x}, but model {model_id:#06x} is loaded. "
            f"{remedy}, or encode the photo again."
        )
        error.stream_id, error.model_id = stream_id, model_id
        return error


class BudgetTooSmall(SketchFusionError):
    """Even the lowest quality needs more bytes than the budget.

    Attributes:
        needed_bytes: smallest file possible for this picture.
        max_bytes: the budget.
    """

    exit_code = 20
    needed_bytes: int | None = None
    max_bytes: int | None = None

    @classmethod
    def for_image(
        cls, width: int, height: int, needed_bytes: int, max_bytes: int
    ) -> BudgetTooSmall:
        """Build the error for a ``width`` x ``height`` picture and a budget in bytes."""
        bpp = needed_bytes * 8 / (width * height)
        error = cls(
            f"{width}x{height} image needs at least {needed_bytes} bytes ({bpp:.4f} bpp); "
            f"max_bytes={max_bytes}. Raise max_bytes (or bpp), or downscale the image."
        )
        error.needed_bytes, error.max_bytes = needed_bytes, max_bytes
        return error


class WeightsError(SketchFusionError):
    """A weights file is missing, damaged, or does not fit the model."""

    exit_code = 30


class DownloadError(SketchFusionError):
    """A download failed, or what came has the wrong checksum."""

    exit_code = 31


class RecipeError(SketchFusionError):
    """A training recipe is missing, names an unknown field, or contradicts itself."""

    exit_code = 32


class DependencyMissing(SketchFusionError):
    """An optional package is needed but not installed."""

    exit_code = 33

    @classmethod
    def for_extra(cls, package: str, extra: str, purpose: str) -> DependencyMissing:
        """Build the error for ``package``, part of the optional dependencies ``extra``."""
        return cls(
            f"{purpose} needs the package {package!r}. "
            f"Install it with: pip install 'sketchfusion-lite[{extra}]'"
        )


class EvaluationError(SketchFusionError):
    """An evaluation cannot go on, or some of its rows failed; what is finished is kept."""

    exit_code = 40


class ResultsError(EvaluationError):
    """A table of results is damaged, of another schema, or was measured with other settings."""

    exit_code = 41


class PeerError(EvaluationError):
    """A codec to compare with could not encode or decode a picture."""

    exit_code = 42


class SweepError(SketchFusionError):
    """A grid of parameters makes no sense for its notebook, or runs of a sweep failed; finished rows are kept."""

    exit_code = 50


class WorkersError(SketchFusionError):
    """No scheduler answers, or it has no workers that can do the work."""

    exit_code = 51
