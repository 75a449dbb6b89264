"""Target: the container. What it accepts must be the one and only spelling of what it returns."""

from __future__ import annotations

import random

from sketchfusion_lite import bitstream

from .corpus import streams
from .mutate import damage, forge_stream
from .oracle import Case, Target, Wrong

__all__ = ["make"]


def make(seeds: list[bytes] | None = None) -> Target:
    """The target; seeds are streams of the shipped codec unless given."""
    if seeds is None:
        from sketchfusion_lite.codec import load_codec

        seeds = streams(load_codec(device="cpu", dtype="float32"))

    def mutate(seed: bytes, rng: random.Random) -> Case:
        if rng.randrange(2):
            return Case(forge_stream(seed, rng, seeds), seed)
        return Case(damage(seed, rng, seeds), seed, forged=False)

    return Target("parse", seeds, mutate, run, max_seconds=0.5, max_megabytes=3000)


def run(case: Case) -> bool:
    """Parse with and without ``keep_going``.

    Raises:
        Wrong: bytes are not accounted for, or a whole stream is not what packing it again gives.
    """
    data = case.data
    lenient = bitstream.parse(data, keep_going=True)
    if sum(lenient.section_bytes.values()) != len(data):
        raise Wrong("bytes are not accounted for")
    stream = bitstream.parse(data)
    if stream != lenient or stream.damaged:
        raise Wrong("keep_going changes an intact stream")
    if not stream.missing:
        again = bitstream.pack(stream.header, stream.hyper, stream.structure, stream.tone)
        if again != data:
            raise Wrong("two spellings of one stream")
    return True
