"""What may come of an input, and the account of what did.

An execution is a *finding* if anything but a SketchFusionError escapes, if it takes more processor time or the process
more memory than the target allows, or if the target itself says that a result is wrong (:class:`Wrong`).
"""

from __future__ import annotations

import hashlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import strategies as st

from benchmarks.alone import peak_megabytes
from sketchfusion_lite import bitstream
from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.errors import SketchFusionError
from sketchfusion_lite.images import load_image

from .corpus import pictures, streams
from .strategies import EDITS, FORGERIES, Edits, edited, forged_png, forged_stream

FOLDER = Path(__file__).parents[1] / "build" / "fuzz"  # findings, and the input under way
MAX_PIXELS = {"decode": 1 << 15, "images": 1 << 20}  # small pictures: many executions


class Wrong(AssertionError):
    """An input was accepted, and what came of it is not what it may be."""


@dataclass(frozen=True)
class Case:
    """One input: what the code under test gets, and the intact seed that it was made of.

    ``forged``: checksums were repaired, or may have been: being accepted is no finding by itself.
    """

    data: bytes
    seed: bytes = b""
    forged: bool = True


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed.

    Attributes:
        name: as on the command line.
        seeds: intact inputs.
        cases: how they are damaged.
        run: does the work and returns if there is a result. Raises SketchFusionError, or :class:`Wrong`.
        max_seconds: processor time that one execution may take.
        max_megabytes: peak memory that the process may reach.
    """

    name: str
    seeds: Sequence[bytes]
    cases: st.SearchStrategy[Case]
    run: Callable[[Case], None]
    max_seconds: float
    max_megabytes: int


@dataclass
class Tally:
    """Runs cases of one target and counts, until ``seconds`` or ``executions`` are over."""

    target: Target
    seconds: float = 60.0
    limit: int = sys.maxsize
    executions: int = 0
    results: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._allowed, self._last = (
            self.target.max_megabytes,
            FOLDER / f"last_{self.target.name}.bin",
        )

    def judge(self, case: Case) -> None:
        """Execute one case.

        Raises:
            Exception: it is a finding.
        """
        self._last.write_bytes(case.data)  # a crash of native code leaves no exception
        self.executions += 1
        begun = time.process_time()
        try:
            self.target.run(case)
            self.results += 1
        except SketchFusionError as error:
            self.errors[type(error).__name__] += 1
        seconds = time.process_time() - begun
        self.slowest = max(self.slowest, seconds)
        if seconds > self.target.max_seconds:
            raise Wrong(f"took {seconds:.2f} s")
        if (peak := self.peak) > self._allowed:
            self._allowed = 2 * peak  # the peak never falls: one finding, not one each time
            raise Wrong(f"peak memory {peak} MB")

    def keep(self, error: Exception) -> None:
        """Write the input under way down, and say what came of it."""
        data = self._last.read_bytes()
        digest = hashlib.sha256(data).hexdigest()[:16]
        path = FOLDER / f"finding_{self.target.name}_{digest}.bin"
        path.write_bytes(data)
        self.findings.append(f"{path}: {type(error).__name__}: {error}")
        print("FINDING", self.findings[-1], flush=True)

    @property
    def left(self) -> int:
        """Executions that may follow."""
        over = time.monotonic() - self.started >= self.seconds
        return 0 if over else self.limit - self.executions

    @property
    def peak(self) -> int:
        """Most memory that the process ever had, in MB; 0 where the system does not tell (Linux does)."""
        return round(peak_megabytes()) if sys.platform.startswith("linux") else 0

    def row(self) -> dict[str, object]:
        """The account, as columns of ``data/results/fuzzing.csv``."""
        return {
            "executions": self.executions,
            "results": self.results,
            "seconds": round(time.monotonic() - self.started),
            "errors": "; ".join(f"{name} {n}" for name, n in sorted(self.errors.items())),
            "slowest ms": round(1000 * self.slowest, 1),
            "peak MB": self.peak,
        }


def parse(case: Case) -> None:
    """The container: what it accepts must be the one and only spelling of what it returns."""
    lenient = bitstream.parse(case.data, keep_going=True)
    if sum(lenient.section_bytes.values()) != len(case.data):
        raise Wrong("bytes are not accounted for")
    stream = bitstream.parse(case.data)
    if stream != lenient or stream.damaged:
        raise Wrong("keep_going changes an intact stream")
    parts = stream.hyper, stream.structure, stream.tone
    if not stream.missing and bitstream.pack(stream.header, *parts) != case.data:
        raise Wrong("two spellings of one stream")


def made(seeds: Sequence[bytes], damage: Callable, *drawn: st.SearchStrategy) -> st.SearchStrategy:
    """Cases of ``damage(seed, *drawn)``."""
    return st.builds(damage, st.sampled_from(seeds), *drawn)


def forgeries(seeds: Sequence[bytes]) -> st.SearchStrategy[Case]:
    """Streams with repaired checksums."""
    return made(seeds, lambda seed, how: Case(forged_stream(seed, how, seeds), seed), FORGERIES)


def make_parse(codec: SketchFusionCodec) -> Target:
    seeds = streams(codec)
    damage = made(seeds, lambda seed, edits: Case(edited(seed, edits, seeds), seed, False), EDITS)
    return Target("parse", seeds, forgeries(seeds) | damage, parse, 0.5, 3000)


def make_decode(codec: SketchFusionCodec) -> Target:
    """Decoding up to the preview: damage is reported or made good, never shown as the picture."""
    seeds = streams(codec)
    known: dict[bytes, tuple] = {}  # start of a seed -> what it decodes to

    def picture(data: bytes, keep_going: bool) -> tuple:
        limit = MAX_PIXELS["decode"]
        decoded = codec.decode(data, "preview", max_pixels=limit, keep_going=keep_going)
        pixels = decoded.image.tobytes() + decoded.sketch.tobytes()
        shown = decoded.image.size, hashlib.sha256(pixels).hexdigest()
        return shown, decoded.info.missing

    def run(case: Case) -> None:
        try:
            shown, missing = picture(case.data, False)
        except SketchFusionError:
            shown, missing = picture(case.data, True)  # raises again unless sections were dropped
        if case.forged:
            if case.data[-1] % 16 == 0 and picture(case.data, True) != (shown, missing):
                raise Wrong("decoding does not repeat")
            return
        start = _start(case.seed, missing)
        if start not in known:
            known[start] = picture(start, False)[0]
        if shown != known[start]:
            raise Wrong("an unforged damage shows as another picture")

    def damage(seed: bytes, where: int, edits: Edits) -> Case:
        if where == 0:
            data = seed[: edits[0][0] % (len(seed) + 1)]
        else:  # behind the hyper section decoding goes on without what is damaged
            at = len(_start(seed, ("structure", "tone"))) if where > 2 else 0
            data = seed[:at] + edited(seed[at:], edits[:1]) if seed[at:] else seed
        return Case(data, seed, forged=False)

    cases = forgeries(seeds) | made(seeds, damage, st.integers(0, 5), EDITS)
    return Target("decode", seeds, cases, run, 5.0, 2500)


def _start(data: bytes, missing: tuple[str, ...]) -> bytes:
    """The shortest start of a whole stream that lacks just these sections."""
    used = bitstream.parse(data).section_bytes
    end = used["header"] + 2  # its checksum
    for section in bitstream.SECTIONS:
        if section in missing:
            break
        end += used[section] + (2 if section != "hyper" and used[section] else 0)
    return data[:end]


def load_picture(case: Case) -> None:
    """Reading pictures: a tensor of the promised kind comes out, or an ImageError."""
    limit = MAX_PIXELS["images"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of much that it then reads
        image = load_image(case.data, max_pixels=limit)
    if image.dtype != torch.float32 or image.shape[:2] != (1, 3) or not image.is_contiguous():
        raise Wrong(f"a tensor of shape {tuple(image.shape)} and type {image.dtype}")
    if image[0, 0].numel() > limit:
        raise Wrong("over the pixel limit")
    if not (image.min() >= 0 and image.max() <= 1):
        raise Wrong("values outside [0, 1]")


def make_images(_: SketchFusionCodec | None = None) -> Target:
    seeds = pictures()

    def damage(seed: bytes, where: int, edits: Edits) -> Case:
        if seed.startswith(b"\x89PNG") and where % 2:
            return Case(forged_png(seed, where, edits), seed)
        # headers are short and pixels many: half of all damage goes to the first bytes
        at = (32, 128, 512, 1 << 20, 1 << 20, 1 << 20)[where // 2 % 6]
        return Case(edited(seed[:at], edits, seeds) + seed[at:], seed)

    cases = made(seeds, damage, st.integers(0, 0xFFFF), EDITS)
    return Target("images", seeds, cases, load_picture, 5.0, 1500)


TARGETS = {"parse": make_parse, "decode": make_decode, "images": make_images}


def load(name: str) -> Target:
    """Make one of ``TARGETS`` with the shipped codec."""
    return TARGETS[name](None if name == "images" else load_codec(device="cpu", dtype="float32"))
