"""A short, seeded portion of the fuzzing, and everything that was ever found.

The long runs are ``python -m fuzz``; see docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
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
_SEEDED = {"parse": 3_000, "decode": 300, "images": 3_000}
_QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_EDGE_SIDES = st.one_of(st.integers(1, 200), st.sampled_from([4096, 8192, 65535, 1 << 20]))
_WORDS = st.one_of(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\xff" * 2048, bytes(2048), b"\x00" * 8 + b"\xff" * 64]),
).map(lambda data: data[: len(data) // 4 * 4])


@pytest.fixture(scope="module")
def targets(shipped_codec) -> dict[str, Target]:
    return {name: make(shipped_codec) for name, make in TARGETS.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """In place of build/fuzz."""
    monkeypatch.setattr("fuzz.targets.FOLDER", tmp_path)
    return tmp_path


def made_up(run, **limits) -> Target:
    limits = {"max_seconds": 60.0, "max_megabytes": 1 << 20, **limits}
    return Target("made up", [b"seed"], st.builds(Case, st.binary(max_size=4)), run, **limits)


# --------------------------------------------------------------------------------------------------
# The harness


@pytest.mark.parametrize("name", _SEEDED)
def test_a_seeded_portion_finds_nothing(name):
    """In a process of its own, as its peak memory is judged."""
    options = f"-m fuzz {name} --seed 7 --seconds 300 --executions {_SEEDED[name]}"
    done = subprocess.run(
        [sys.executable, *options.split()], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert row["findings"] == "0" and int(row["executions"]) == _SEEDED[name]
    assert int(row["results"]) > 0.1 * _SEEDED[name], "mutations must not all stop at the door"
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


def test_no_watch_is_left_behind(folder):
    """Found: minutes after a run had ended, the watch for hangs ended the whole process without a word."""
    tally, armed = Tally(made_up(lambda case: armed.append(remaining()[0] > 100))), []
    remaining = lambda: signal.getitimer(signal.ITIMER_REAL)  # noqa: E731
    tally.judge(Case(b""))
    command.by_hypothesis(tally, 1, lambda: min(10, 20 - tally.executions), pytest.fail)
    assert armed[0] is False and all(armed[1:]) and remaining()[0] == 0


_A_CHILD = """
import sys
from pathlib import Path
from fuzz import targets
targets.FOLDER, held = Path(sys.argv[1]), []
for grows in (lambda case: None, lambda case: held.append(b"." * (900 << 20))):
    tally = targets.Tally(targets.Target("child", [], None, grows, 60.0, 800))
    try:
        tally.judge(targets.Case(b""))
    except targets.Wrong as error:
        print(error)
"""


def test_memory_is_the_processs_own(tmp_path):
    """Found: where a process of 1.8 GB started the fuzzer, its first case was blamed for them."""
    held = b"." * (1000 << 20)
    process = [sys.executable, "-c", _A_CHILD, str(tmp_path)]
    done = subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert len(held) and done.stdout.count("peak memory") == 1, done.stdout + done.stderr


def test_a_seed_repeats_its_inputs(folder):
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        tally = Tally(made_up(lambda case: seen.append(case.data)))
        command.by_hypothesis(tally, seed, lambda: min(20, 60 - tally.executions), pytest.fail)
        return seen

    assert inputs(3) == inputs(3) != inputs(4)


def test_repaired_checksums_reach_what_lies_behind_them(shipped_codec):
    """Without the repair nothing but checksums would be fuzzed."""
    reasons, seeds = set(), corpus.streams(shipped_codec)

    @settings(max_examples=1500, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(seeds), strategies.FORGERIES)
    def collect(seed, how):
        try:
            bitstream.parse(strategies.forged_stream(seed, how, seeds))
        except StreamError as error:
            reasons.add(str(error).partition(":")[2].split("(")[0][:30])

    collect()
    assert len(reasons) >= 8
    assert not any("checksum" in reason for reason in reasons)


def test_every_seed_is_intact(targets):
    for target in targets.values():
        for seed in target.seeds:
            target.run(Case(seed, seed, forged=False))


# --------------------------------------------------------------------------------------------------
# What no mutation of whole streams comes to


@given(st.binary(max_size=40), _WORDS, _WORDS, _WORDS)
@settings(max_examples=300, deadline=None)
def test_any_head_with_right_checksums_is_parsed_or_refused(tail, hyper, structure, tone):
    data = strategies.assemble(b"S\xf1" + tail, hyper, structure, tone)
    with contextlib.suppress(StreamError):
        parse(Case(data))


@given(_EDGE_SIDES, _EDGE_SIDES, st.integers(0, 255), _WORDS, _WORDS, _WORDS, st.data())
@_QUICK
def test_any_payload_decodes_or_is_refused(
    tiny_codec, width, height, quality, hyper, structure, tone, data
):
    header = Header(width, height, quality, tiny_codec.model_id)
    try:
        stream = pack(header, hyper, structure, tone)
    except SketchFusionError:
        return
    start = stream[: data.draw(st.integers(0, len(stream)))]
    for case in (stream, start):
        with contextlib.suppress(StreamError):
            decoded = tiny_codec.decode(case, "preview", max_pixels=1 << 15)
            assert decoded.image.size == (width, height)


# --------------------------------------------------------------------------------------------------
# Found, and mended


def forged(codec, width: int, height: int, *sections: bytes) -> bytes:
    """A stream of this codec that no encoder wrote; its checksums are right."""
    return pack(Header(width, height, 0, codec.model_id), *sections)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is of the GNU C library")
def test_no_payload_reads_memory_that_is_not_its_own(shipped_codec):
    """Found: ones throughout claim 15 digits for each they spend, and the decoder read on into the heap."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("not the GNU C library")
    cut = forged(shipped_codec, 1, 1, b"\xff" * 2048, b"\xff" * 2048, b"\xff" * 2048)[:2070]
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


@pytest.mark.parametrize("section", [0, 1, 2])
def test_other_symbols_are_no_picture_even_with_right_checksums(shipped_codec, section):
    """Found: with repaired checksums any payload was shown as a picture."""
    data = shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    head, *sections = strategies.take_apart(data)
    assert shipped_codec.decode(strategies.assemble(head, *sections), "preview").info.missing == ()
    for at in range(0, len(sections[section]), 3):
        altered = list(sections)
        altered[section] = (
            altered[section][:at]
            + bytes([altered[section][at] ^ 0x55])
            + altered[section][at + 1 :]
        )
        with pytest.raises(CorruptStream, match=r"photo\.skf: the entropy-coded data"):
            shipped_codec.decode(strategies.assemble(head, *altered), "preview", name="photo.skf")


def test_another_quality_is_no_picture_even_with_right_checksums(shipped_codec):
    """Found: the quality says how to read the payload; with another one it is noise."""
    head, *sections = strategies.take_apart(
        shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    )
    for quality in (0, 40, 255):
        other = head[:4] + bytes([quality]) + head[5:]
        with pytest.raises(CorruptStream, match="entropy-coded"):
            shipped_codec.decode(strategies.assemble(other, *sections), "preview")


def test_a_payload_longer_or_shorter_than_its_symbols_is_refused(shipped_codec):
    head, hyper, structure, tone = strategies.take_apart(
        shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    )
    header = bitstream.parse(strategies.assemble(head, hyper, structure, tone)).header
    for longer_or_shorter in (tone + bytes(4), tone + tone[:4], tone[:-4]):
        with pytest.raises(CorruptStream, match="entropy-coded"):
            shipped_codec.decode(pack(header, hyper, structure, longer_or_shorter), "preview")
