"""A short, seeded portion of the fuzzing, the same by hypothesis, and everything that was ever found.

The long runs are ``python -m fuzz``; see docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import corpus, decode, images, mutate, parse
from fuzz.engine import run_random
from fuzz.oracle import Case, Oracle, Target, Wrong
from sketchfusion_lite import bitstream
from sketchfusion_lite.bitstream import Header, pack
from sketchfusion_lite.errors import CorruptStream, SketchFusionError, StreamError

ROOT = Path(__file__).parents[1]
_SEEDED = {"parse": 20_000, "decode": 250, "images": 3_000}
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
    return {
        "parse": parse.make(corpus.streams(shipped_codec)),
        "decode": decode.make(shipped_codec),
        "images": images.make(),
    }


# --------------------------------------------------------------------------------------------------
# The harness


@pytest.mark.parametrize("name", _SEEDED)
def test_a_seeded_portion_finds_nothing(name):
    """In a process of its own, as its peak memory is judged."""
    command = f"-m fuzz {name} --seed 7 --seconds 300 --executions {_SEEDED[name]}"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert row["findings"] == "0" and int(row["executions"]) == _SEEDED[name]
    assert int(row["results"]) > 0.1 * _SEEDED[name], "mutations must not all stop at the door"
    assert row["errors"], "mutations must do damage"


def test_no_watch_is_left_behind(tmp_path):
    """Found: minutes after a run had ended, the watch for hangs ended the whole process without a word."""
    watched = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fuzz.oracle.FOLDER", tmp_path)
        patch.setattr("fuzz.oracle.faulthandler", FakeWatch(watched))
        target = Target("idle", [b"seed"], lambda s, r: Case(s), lambda case: True, 1.0, 1 << 20)
        Oracle(target).judge(Case(b"seed"))
        assert watched == [], "one case by itself is not watched"
        run_random(target, 1, lambda oracle: oracle.executions >= 3)
        assert watched == ["armed", "cancelled"]
        with pytest.raises(ZeroDivisionError):
            run_random(target, 1, lambda oracle: oracle.executions >= 1 and 1 // 0)
    assert watched == ["armed", "cancelled"] * 2


class FakeWatch:
    """Stands in for ``faulthandler``, whose watch cannot be asked whether it is armed."""

    def __init__(self, calls: list[str]) -> None:
        self.dump_traceback_later = lambda *_, **__: calls.append("armed")
        self.cancel_dump_traceback_later = lambda: calls.append("cancelled")


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        (lambda case: 1 // 0, "ZeroDivisionError"),
        (lambda case: [][len(case.data)], "IndexError"),
        (lambda case: (_ for _ in ()).throw(Wrong("another picture")), "another picture"),
        (lambda case: sum(range(3_000_000)) > 0, "took"),
    ],
)
def test_the_oracle_notices(behaviour, found, tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.oracle.FOLDER", tmp_path)
    oracle = Oracle(Target("broken", [b"seed"], lambda s, r: Case(s), behaviour, 0.002, 1 << 20))
    oracle.judge(Case(b"seed"))
    assert len(oracle.findings) == 1 and found in oracle.findings[0]
    assert [path.read_bytes() for path in tmp_path.glob("finding_*")] == [b"seed"]


_A_CHILD = """
import sys
from pathlib import Path
from fuzz import oracle as module
from fuzz.oracle import Case, Oracle, Target
module.FOLDER, held = Path(sys.argv[1]), []
for grows in (lambda case: True, lambda case: bool(held.append(b"." * (900 << 20)))):
    oracle = Oracle(Target("child", [b"seed"], lambda s, r: Case(s), grows, 60.0, 800))
    oracle.judge(Case(b"seed"))
    print(len(oracle.findings))
"""


def test_memory_is_the_processs_own(tmp_path):
    """Found: where a process of 1.8 GB started the fuzzer, its first case was blamed for them."""
    held = b"." * (1000 << 20)
    command = [sys.executable, "-c", _A_CHILD, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert len(held) and done.stdout.split() == ["0", "1"], done.stderr


def test_a_seed_repeats_its_inputs(targets):
    for target in targets.values():
        one, two = (
            [target.mutate(seed, random.Random(3)).data for seed in target.seeds] for _ in range(2)
        )
        assert one == two


def test_repaired_checksums_reach_what_lies_behind_them(targets):
    """Without the repair nothing but checksums would be fuzzed."""
    rng = random.Random(1)
    reasons = set()
    for _ in range(3000):
        data = mutate.forge_stream(rng.choice(targets["parse"].seeds), rng)
        try:
            bitstream.parse(data)
        except StreamError as error:
            reasons.add(str(error).partition(":")[2].split("(")[0][:30])
    assert len(reasons) >= 8
    assert not any("checksum" in reason for reason in reasons)


def test_every_seed_is_intact(targets):
    for target in targets.values():
        assert all(target.run(Case(seed, seed, forged=False)) for seed in target.seeds)


# --------------------------------------------------------------------------------------------------
# By hypothesis


@given(st.binary(max_size=40), _WORDS, _WORDS, _WORDS)
@settings(max_examples=300, deadline=None)
def test_any_head_with_right_checksums_is_parsed_or_refused(tail, hyper, structure, tone):
    data = mutate.assemble(b"S\xf1" + tail, hyper, structure, tone)
    with contextlib.suppress(StreamError):
        parse.run(Case(data))


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


@given(st.sampled_from(corpus.pictures()), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_any_damaged_picture_loads_or_is_refused(seed, rng):
    with warnings.catch_warnings(), contextlib.suppress(SketchFusionError):
        warnings.simplefilter("ignore")
        images.run(Case(mutate.damage(seed, rng)))


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
    head, *sections = mutate.take_apart(data)
    assert shipped_codec.decode(mutate.assemble(head, *sections), "preview").info.missing == ()
    for at in range(0, len(sections[section]), 3):
        altered = list(sections)
        altered[section] = (
            altered[section][:at]
            + bytes([altered[section][at] ^ 0x55])
            + altered[section][at + 1 :]
        )
        with pytest.raises(CorruptStream, match=r"photo\.skf: the entropy-coded data"):
            shipped_codec.decode(mutate.assemble(head, *altered), "preview", name="photo.skf")


def test_another_quality_is_no_picture_even_with_right_checksums(shipped_codec):
    """Found: the quality says how to read the payload; with another one it is noise."""
    head, *sections = mutate.take_apart(
        shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    )
    for quality in (0, 40, 255):
        other = head[:4] + bytes([quality]) + head[5:]
        with pytest.raises(CorruptStream, match="entropy-coded"):
            shipped_codec.decode(mutate.assemble(other, *sections), "preview")


def test_a_payload_longer_or_shorter_than_its_symbols_is_refused(shipped_codec):
    head, hyper, structure, tone = mutate.take_apart(
        shipped_codec.encode(corpus.scene(160, 96), quality=3.0).data
    )
    header = bitstream.parse(mutate.assemble(head, hyper, structure, tone)).header
    for longer_or_shorter in (tone + bytes(4), tone + tone[:4], tone[:-4]):
        with pytest.raises(CorruptStream, match="entropy-coded"):
            shipped_codec.decode(pack(header, hyper, structure, longer_or_shorter), "preview")
