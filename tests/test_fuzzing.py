"""A short, seeded portion of the fuzzing, and everything that was ever found.

The long runs are ``python -m fuzz``; see docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import __main__ as command
from fuzz import corpus, strategies
from fuzz.targets import TARGETS, Case, Tally, Target, Wrong, parse
from sketchfusion_lite import bitstream
from sketchfusion_lite.bitstream import Header, pack
from sketchfusion_lite.errors import CorruptStream, SketchFusionError, StreamError

ROOT = Path(__file__).parents[1]
SEEDED = {"parse": 2_000, "decode": 300, "images": 2_000}
EDGE_SIDES = st.one_of(st.integers(1, 200), st.sampled_from([4096, 8192, 65535, 1 << 20]))
WORDS = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\xff" * 2048, bytes(2048), b"\x00" * 8 + b"\xff" * 64]),
).map(lambda data: data[: len(data) // 4 * 4])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """In place of build/fuzz."""
    monkeypatch.setattr("fuzz.targets.FOLDER", tmp_path)
    return tmp_path


def made_up(run, max_seconds: float = 60.0, megabytes: int = 1 << 20) -> Target:
    cases = st.builds(Case, st.binary(max_size=4))
    return Target("made up", [b"seed"], cases, run, max_seconds, megabytes)


# The harness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_portion_finds_nothing(name):
    """In a process of its own, as its peak memory is judged."""
    options = f"-m fuzz {name} --seed 7 --seconds 300 --executions {SEEDED[name]}"
    done = subprocess.run(
        [sys.executable, *options.split()], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert row["findings"] == "0" and int(row["executions"]) == SEEDED[name]
    assert int(row["results"]) > 0.1 * SEEDED[name], "mutations must not all stop at the door"
    assert row["errors"], "mutations must do damage"


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (lambda case: 1 // (len(case.data) < 3), "ZeroDivisionError"),
        (lambda case: (_ for _ in ()).throw(Wrong("another picture")), "another picture"),
        (lambda case: sum(range(3_000_000)), "took"),
    ],
)
def test_findings_are_kept_and_named(run, found, folder, monkeypatch, capsys):
    target = made_up(run, max_seconds=0.002)
    monkeypatch.setattr("fuzz.targets.load", lambda name: target)
    assert command.main(["parse", "--executions", "50"]) == 1
    assert found in capsys.readouterr().out.splitlines()[0]
    (kept,) = (path.read_bytes() for path in folder.glob("finding_*"))
    assert len(kept) == (3 if "Zero" in found else 0), "the shortest that does it"


def test_too_much_memory_is_one_finding(folder):
    tally = Tally(made_up(lambda case: None, megabytes=1))
    with pytest.raises(Wrong, match="peak memory"):
        tally.judge(Case(b""))
    tally.judge(Case(b""))


def test_a_seed_repeats_its_inputs(folder):
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        command.by_hypothesis(Tally(made_up(lambda case: seen.append(case.data)), 60, 60), seed)
        return seen

    assert inputs(3) == inputs(3) != inputs(4)


def test_repaired_checksums_reach_what_lies_behind_them(shipped_codec):
    """Without the repair nothing but checksums would be fuzzed; and every seed is intact."""
    reasons, seeds = set(), corpus.streams(shipped_codec)

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(seeds), strategies.FORGERIES)
    def collect(seed, how):
        try:
            bitstream.parse(strategies.forged_stream(seed, how, seeds))
        except StreamError as error:
            reasons.add(str(error).partition(":")[2].split("(")[0][:30])

    collect()
    assert len(reasons) >= 8
    assert not any("checksum" in reason for reason in reasons)
    for make in TARGETS.values():
        target = make(shipped_codec)
        for seed in target.seeds:
            target.run(Case(seed, seed, forged=False))


# What no mutation of whole streams comes to -------------------------------------------------------


@given(st.binary(max_size=40), WORDS, WORDS, WORDS)
@settings(max_examples=300, deadline=None)
def test_any_head_with_right_checksums_is_parsed_or_refused(tail, hyper, structure, tone):
    data = strategies.assemble(b"S\xf1" + tail, hyper, structure, tone)
    with contextlib.suppress(StreamError):
        parse(Case(data))


@given(EDGE_SIDES, EDGE_SIDES, st.integers(0, 255), st.tuples(WORDS, WORDS, WORDS), st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_payload_decodes_or_is_refused(tiny_codec, width, height, quality, sections, data):
    try:
        stream = pack(Header(width, height, quality, tiny_codec.model_id), *sections)
    except SketchFusionError:
        return
    for case in (stream, stream[: data.draw(st.integers(0, len(stream)))]):
        with contextlib.suppress(StreamError):
            decoded = tiny_codec.decode(case, "preview", max_pixels=1 << 15)
            assert decoded.image.size == (width, height)


# Found, and mended --------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is of the GNU C library")
def test_no_payload_reads_memory_that_is_not_its_own(shipped_codec):
    """Found: ones throughout claim 15 digits for each they spend, and the decoder read on into the heap."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("not the GNU C library")
    header = Header(1, 1, 0, shipped_codec.model_id)
    cut = pack(header, b"\xff" * 2048, b"\xff" * 2048, b"\xff" * 2048)[:2070]
    pictures = set()
    try:
        for fill in range(1, 250, 12):
            libc.mallopt(-6, fill)  # M_PERTURB: fresh and freed memory is filled with this
            heap = [bytearray(size) for size in range(1000, 100_000, 1777)]
            del heap
            pictures.add(shipped_codec.decode(cut, "preview").preview.tobytes())
    finally:
        libc.mallopt(-6, 0)
    assert len(pictures) == 1


def test_what_was_not_encoded_so_is_no_picture_even_with_right_checksums(shipped_codec):
    """Found: with repaired checksums any payload was shown as a picture, and so was one of another quality."""
    data = shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    head, *sections = strategies.take_apart(data)
    assert strategies.assemble(head, *sections) == data
    forged = [(head[:4] + bytes([quality]) + head[5:], *sections) for quality in (0, 40, 255)]
    for which, section in enumerate(sections):
        for at in range(0, len(section), 7):
            altered = list(sections)
            altered[which] = section[:at] + bytes([section[at] ^ 0x55]) + section[at + 1 :]
            forged.append((head, *altered))
    cases = [strategies.assemble(*parts) for parts in forged]
    header, (hyper, structure, tone) = bitstream.parse(data).header, sections
    for other in (
        tone + bytes(4),
        tone + tone[:4],
        tone[:-4],
    ):  # longer or shorter than its symbols
        cases.append(pack(header, hyper, structure, other))
    for case in cases:
        with pytest.raises(CorruptStream, match=r"photo\.skf: the entropy-coded data"):
            shipped_codec.decode(case, "preview", name="photo.skf")
