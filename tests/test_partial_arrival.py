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
    # nothing of half a section is shown: equal to the start that ends with the last whole one
    wholes = {s: shipped_codec.decode(data[: ends[s]], "preview") for s in SECTIONS}
    for length in range(len(data) + 1):
        if length < ends["hyper"]:
            with pytest.raises(TruncatedStream) as raised:
                shipped_codec.decode(data[:length], "preview")
            assert length < raised.value.needed_bytes <= ends["hyper"]
            continue
        decoded = shipped_codec.decode(data[:length], "preview")
        arrived = tuple(section for section in SECTIONS if ends[section] <= length)
        assert decoded.info.missing == SECTIONS[len(arrived) :]
        whole = wholes[arrived[-1]]
        assert decoded.preview.tobytes() == whole.preview.tobytes()
        assert decoded.sketch.tobytes() == whole.sketch.tobytes()


def test_the_lower_bound_leads_to_a_start_that_decodes(shipped_codec, small):
    """A receiver that fetches ``needed_bytes`` each time gets there, from nothing."""
    data, ends = small
    length = 0
    for _ in range(10):
        try:
            shipped_codec.decode(data[:length], "preview")
            break
        except TruncatedStream as error:
            length = error.needed_bytes
    assert length == ends["hyper"]


def test_quality_grows_with_every_section(shipped_codec):
    photo = load_photo("coffee").image.resize((192, 128))
    data = shipped_codec.encode(photo, quality=2.0).data
    used = parse(data).section_bytes
    lengths = [used["header"] + 2 + used["hyper"]]
    for section in SECTIONS[1:]:
        lengths.append(lengths[-1] + used[section] + 2)
    original = np.asarray(photo, dtype=float)
    errors = []
    for length in lengths:
        shown = np.asarray(shipped_codec.decode(data[:length], "preview").preview, dtype=float)
        errors.append(np.square(shown - original).mean())
    assert all(after < before for before, after in pairwise(errors))


def test_any_damage_to_the_tone_section_leaves_the_sketch(shipped_codec, small):
    data, ends = small
    whole = shipped_codec.decode(data, "preview")
    without = shipped_codec.decode(data[: ends["structure"]], "preview")
    for at in range(ends["structure"], len(data), 3):
        damaged = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        with pytest.raises(CorruptStream, match=r"tone section.*keep_going"):
            shipped_codec.decode(damaged, "preview")
        decoded = shipped_codec.decode(damaged, "preview", keep_going=True)
        assert decoded.info.missing == ("tone",)
        assert decoded.sketch.tobytes() == whole.sketch.tobytes()
        assert decoded.preview.tobytes() == without.preview.tobytes()


def test_any_damage_to_the_structure_section_leaves_the_hyper_picture(shipped_codec, small):
    data, ends = small
    coarse = shipped_codec.decode(data[: ends["hyper"]], "preview")
    for at in range(ends["hyper"], ends["structure"], 5):
        damaged = data[:at] + bytes([data[at] ^ 0x02]) + data[at + 1 :]
        decoded = shipped_codec.decode(damaged, "preview", keep_going=True)
        assert decoded.info.missing == ("structure", "tone")
        assert decoded.preview.tobytes() == coarse.preview.tobytes()


def test_damage_before_the_sections_that_can_be_spared_is_always_an_error(shipped_codec, small):
    data, ends = small
    for at in range(2, ends["hyper"]):
        damaged = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        with pytest.raises((CorruptStream, TruncatedStream)):
            shipped_codec.decode(damaged, "preview", keep_going=True)
