"""What the explorer is asked, and what it answers: immutable values that threads can hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from sketchfusion_lite.conditioning import DEFAULT_REALISM, DEFAULT_STEPS
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.evaluation.metrics import Metrics
from sketchfusion_lite.evaluation.peers import Coded
from sketchfusion_lite.results import Decoded, Encoded
from sketchfusion_lite.samples import Photo

__all__ = ["Settings", "Snapshot", "Upload", "read_bytes"]

MAX_DIGITS = 9  # of a budget in bytes


def read_bytes(text: str) -> int:
    """A budget in bytes as a person writes it: digits, perhaps grouped by commas, spaces or underscores.

    Raises:
        ArgumentError: anything else, or less than 1; says what to write.
    """
    digits = "".join(text.replace(",", "").replace("_", "").split())
    if not (digits.isdecimal() and len(digits) <= MAX_DIGITS and int(digits)):
        raise ArgumentError(
            f"bytes: {text[:40]!r} is no budget. Write a whole number from 1, such as 1350."
        )
    return int(digits)


@dataclass(frozen=True)
class Upload:
    """A picture file that somebody handed over: nothing in it is trusted."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """What a user has chosen.

    Attributes:
        photo: name of a sample photo, a path, or an upload.
        bpp: budget in bits per pixel.
        max_bytes: above 0: budget in bytes, in place of ``bpp``.
        steps: sampling steps of the refiner.
        realism: the refiner's dial in [0, 1], from the most faithful to the most realistic picture.
        effort: 0 takes the encoder's latent, 1 to 10 search a better one; see :meth:`.SketchFusionCodec.encode`.
    """

    photo: str | Upload = "coffee"
    bpp: float = 0.045
    max_bytes: int = 0
    steps: int = DEFAULT_STEPS
    realism: float = DEFAULT_REALISM
    effort: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What there is to show at one moment.

    Attributes:
        settings: that it answers.
        version: counts the changes of settings.
        photo: the photo as it was encoded, perhaps shrunk; None before the first one is loaded.
        remark: what was done to it, or empty.
        budget: bytes.
        encoded, decoded: the file, and its sketch and preview; first without effort, then with.
        effort: that went into ``encoded``; below that of the settings while the search is not over.
        refined: the refined picture at this realism; before ``activity`` is over, as far as it has come.
        peer: AVIF within the same budget; None where nothing fits, or it is not there yet.
        scores: ``"preview"``, ``"refined"``, ``"AVIF"`` -> metrics, as far as they are there.
        steps_done: of the refiner.
        activity: what is being worked on; empty when all is done.
        progress: steps of the activity that are done, and all of them; ``(0, 0)`` where they are not counted.
        error: why there is nothing new to show, or empty. The pictures are then those of before.
        preview_seconds: from the change of a setting to the preview.
        networks: where they run and in which numbers.
    """

    settings: Settings
    version: int = 0
    photo: Photo | None = None
    remark: str = ""
    budget: int = 0
    encoded: Encoded | None = None
    decoded: Decoded | None = None
    effort: int = 0
    refined: Image.Image | None = None
    peer: Coded | None = None
    scores: Mapping[str, Metrics] = field(default_factory=dict)
    steps_done: int = 0
    activity: str = ""
    progress: tuple[int, int] = (0, 0)
    error: str = ""
    preview_seconds: float = 0.0
    networks: str = ""

    @property
    def searching(self) -> bool:
        """Whether a search that was asked for is not over yet."""
        return bool(self.activity) and self.effort != self.settings.effort

    @property
    def made(self) -> tuple[Photo, Encoded, Decoded]:
        """Photo, file and first picture, which come together; to be asked for only once they are there."""
        assert self.photo is not None and self.encoded is not None and self.decoded is not None
        return self.photo, self.encoded, self.decoded

    def stage(self, name: str) -> Image.Image | None:
        """The picture of stage ``"sketch"``, ``"preview"`` or ``"refined"``, None if it is not there yet."""
        if name == "refined" or self.decoded is None:
            return self.refined
        return getattr(self.decoded, name)
