"""Target: decoding up to the preview. Damage is reported or made good, never shown as the picture."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

from sketchfusion_lite import bitstream
from sketchfusion_lite.errors import SketchFusionError

from .corpus import streams
from .mutate import damage, forge_stream
from .oracle import Case, Target, Wrong

if TYPE_CHECKING:
    from sketchfusion_lite.codec import SketchFusionCodec

__all__ = ["make"]

MAX_PIXELS = 1 << 15  # small pictures: many executions


def make(codec: SketchFusionCodec | None = None) -> Target:
    """The target; the codec is the shipped one unless given."""
    if codec is None:
        from sketchfusion_lite.codec import load_codec

        codec = load_codec(device="cpu", dtype="float32")
    seeds = streams(codec)
    known: dict[bytes, str] = {}  # start of a seed -> what it decodes to

    def picture(data: bytes, keep_going: bool) -> tuple[str, tuple[str, ...]]:
        decoded = codec.decode(data, "preview", max_pixels=MAX_PIXELS, keep_going=keep_going)
        digest = hashlib.sha256(str(decoded.image.size).encode() + decoded.image.tobytes())
        digest.update(decoded.sketch.tobytes())
        return digest.hexdigest(), decoded.info.missing

    def run(case: Case) -> bool:
        """Decode, with ``keep_going`` where that is needed.

        Raises:
            Wrong: an unforged stream decodes to what is no start of its seed, or decoding does not repeat.
        """
        try:
            shown, missing = picture(case.data, False)
        except SketchFusionError:
            shown, missing = picture(case.data, True)  # raises again unless sections were dropped
        if case.forged or case.seed is None:
            if case.data[-1] % 16 == 0 and picture(case.data, True) != (shown, missing):
                raise Wrong("decoding does not repeat")
            return True
        start = _start(case.seed, missing)
        if start not in known:
            known[start] = picture(start, False)[0]
        if shown != known[start]:
            raise Wrong("an unforged damage shows as another picture")
        return True

    def mutate(seed: bytes, rng: random.Random) -> Case:
        choice = rng.randrange(10)
        if choice < 4:
            return Case(forge_stream(seed, rng, seeds), seed)
        if choice < 6:
            return Case(damage(seed, rng, (), times=2), seed, forged=False)
        if choice < 7:
            return Case(seed[: rng.randrange(len(seed) + 1)], seed, forged=False)
        # behind the hyper section, so that decoding goes on without what is damaged
        at = len(_start(seed, ("structure", "tone")))
        if at == len(seed):
            return Case(seed, seed, forged=False)
        return Case(seed[:at] + damage(seed[at:], rng, (), times=1), seed, forged=False)

    return Target("decode", seeds, mutate, run, max_seconds=5.0, max_megabytes=2500)


def _start(data: bytes, missing: tuple[str, ...]) -> bytes:
    """The shortest start of a whole stream that lacks just these sections."""
    used = bitstream.parse(data).section_bytes
    end = used["header"] + 2  # its checksum
    for section in bitstream.SECTIONS:
        if section in missing:
            break
        end += used[section] + (2 if section != "hyper" and used[section] else 0)
    return data[:end]
