"""Every start of a real stream, byte by byte, and every damage to a section that can be spared."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fuzz.corpus import scene
from sketchfusion_lite.bitstream import SECTIONS, parse
from sketchfusion_lite.errors import CorruptStream, TruncatedStream
from sketchfusion_lite.samples import load_photo


@pytest.fixture(scope="module")
def small(shipped_codec):
    """A small stream of the shipped weights and the length of its start up to the end of each section."""
    data = shipped_codec.encode(scene(96, 64), quality=2.0).data
    used = parse(data).section_bytes
    end = used["header"]
    ends = {}
    for section in SECTIONS:
        assert used[section], "every section must hold something"
        end += used[section] + 2
        ends[section] = end
    assert end == len(data)
    return data, ends


def test_every_prefix_decodes_to_what_arrived_or_says_what_it_needs(shipped_codec, small):
    data, ends = small
    whole = {
        section: shipped_codec.decode(data[: ends[section]], "preview") for section in SECTIONS
    }
    for length in range(len(data) + 1):
        if length < ends["hyper"]:
            with pytest.raises(TruncatedStream) as raised:
                shipped_codec.decode(data[:length], "preview")
            assert length < raised.value.needed_bytes <= ends["hyper"]
            continue
        decoded = shipped_codec.decode(data[:length], "preview")
        arrived = tuple(section for section in SECTIONS if ends[section] <= length)
        assert decoded.info.missing == SECTIONS[len(arrived) :]
        # nothing of half a section is shown: equal to the start that ends with the last whole one
        assert decoded.preview.tobytes() == whole[arrived[-1]].preview.tobytes()
        assert decoded.sketch.tobytes() == whole[arrived[-1]].sketch.tobytes()
    # A receiver that fetches ``needed_bytes`` each time gets there, from nothing.
    length = 0
    for _ in range(10):
        try:
            shipped_codec.decode(data[:length], "preview")
        except TruncatedStream as error:
            length = error.needed_bytes
    assert length == ends["hyper"]


@pytest.mark.parametrize(
    ("begins", "ends_at", "missing", "step"),
    [("structure", "tone", ("tone",), 3), ("hyper", "structure", ("structure", "tone"), 5)],
    ids=["tone", "structure"],
)
def test_any_damage_leaves_what_came_before(shipped_codec, small, begins, ends_at, missing, step):
    data, ends = small
    whole = shipped_codec.decode(data, "preview")
    without = shipped_codec.decode(data[: ends[begins]], "preview")
    for at in range(ends[begins], ends[ends_at], step):
        damaged = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with pytest.raises(CorruptStream, match=rf"{missing[0]} section.*keep_going"):
            shipped_codec.decode(damaged, "preview")
        decoded = shipped_codec.decode(damaged, "preview", keep_going=True)
        assert decoded.info.missing == missing
        assert decoded.preview.tobytes() == without.preview.tobytes()
        if missing == ("tone",):
            assert decoded.sketch.tobytes() == whole.sketch.tobytes()
    for at in range(2, ends["hyper"]):  # nothing can be spared here
        damaged = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        with pytest.raises((CorruptStream, TruncatedStream)):
            shipped_codec.decode(damaged, "preview", keep_going=True)


def test_quality_grows_with_every_section(shipped_codec):
    photo = load_photo("coffee").image.resize((192, 128))
    data = shipped_codec.encode(photo, quality=2.0).data
    used, original = parse(data).section_bytes, np.asarray(photo, dtype=float)
    length, errors = used["header"] + 2 + used["hyper"], []
    for section in ("", *SECTIONS[1:]):
        length += used[section] + 2 if section else 0
        shown = np.asarray(shipped_codec.decode(data[:length], "preview").preview, dtype=float)
        errors.append(np.square(shown - original).mean())
    assert all(after < before for before, after in pairwise(errors))
