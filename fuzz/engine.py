"""What makes the inputs: a seeded loop of our own, which repeats exactly, or atheris, which is led by coverage."""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .oracle import Case, Oracle, Target

__all__ = ["TARGETS", "run_atheris", "run_random"]

TARGETS = ("parse", "decode", "images")
_UNDER_TEST = (
    "sketchfusion_lite.bitstream",
    "sketchfusion_lite.coding",
    "sketchfusion_lite.codec",
    "sketchfusion_lite.images",
)
_COVERAGE = re.compile(r"\bcov: (\d+)")


def load(name: str) -> Target:
    """Make a target, one of ``TARGETS``."""
    return importlib.import_module(f"fuzz.{name}").make()


def run_random(target: Target, seed: int, done: Callable[[Oracle], bool]) -> Oracle:
    """Mutate seeds until ``done``; the n-th input depends on ``seed`` and n alone."""
    rng = random.Random(seed)
    oracle = Oracle(target)
    with oracle.watch():
        while not done(oracle):
            oracle.judge(target.mutate(rng.choice(target.seeds), rng))
    return oracle


def run_atheris(
    name: str,
    seed: int,
    done: Callable[[Oracle], bool],
    finished: Callable[[Oracle, int | None], None],
) -> None:
    """Let atheris choose the seeds; our mutations remain half of all. Does not return: libFuzzer owns the process.

    Args:
        name: one of ``TARGETS``.
        seed: of libFuzzer.
        done: asked after every execution.
        finished: called with the tally and the edges covered before the process ends.

    Raises:
        SystemExit: atheris is not installed.
    """
    try:
        import atheris
    except ImportError:
        raise SystemExit(
            "error: atheris is not installed: pip install -e '.[fuzz]', or use --engine random"
        ) from None
    with atheris.instrument_imports(include=list(_UNDER_TEST)):
        for module in _UNDER_TEST:
            importlib.import_module(module)
    target = load(name)
    oracle = Oracle(target)
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    for number, data in enumerate(target.seeds):
        Path(folder.name, f"seed{number:02}").write_bytes(data)
    log = Path(folder.name).with_suffix(".log")
    with log.open("wb") as file:  # libFuzzer says its coverage there and nowhere else
        os.dup2(file.fileno(), 2)

    def mutated(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.randrange(2):
            return atheris.Mutate(data, max_size)[:max_size]
        return target.mutate(rng.choice(target.seeds), rng).data[:max_size]

    def one(data: bytes) -> None:
        oracle.judge(Case(data))
        if done(oracle):
            found = _COVERAGE.findall(log.read_text(errors="replace"))
            finished(oracle, int(found[-1]) if found else None)
            sys.stdout.flush()
            folder.cleanup()
            log.unlink()
            os._exit(1 if oracle.findings else 0)

    options = [f"-seed={seed}", "-max_len=65536", "-rss_limit_mb=0", "-timeout=0"]
    atheris.Setup([sys.argv[0], *options, folder.name], one, custom_mutator=mutated)
    with oracle.watch():
        atheris.Fuzz()
