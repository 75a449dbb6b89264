"""``python -m fuzz parse --seconds 60 --seed 1``: fuzz one target and say what happened.

Findings go to build/fuzz; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from benchmarks.common import RESULTS, machine, record

if TYPE_CHECKING:
    from .targets import Tally

BATCH = 1000  # hypothesis remembers all that it drew in one
HANG_SECONDS = 600  # of a batch; then the process ends, with a traceback
UNDER_TEST = [f"sketchfusion_lite.{name}" for name in ("bitstream", "coding", "codec", "images")]


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=["parse", "decode", "images"])
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after these")
    parser.add_argument("--executions", type=int, default=sys.maxsize, help="stop after these")
    parser.add_argument("--seed", type=int, default=1, help="of all randomness")
    parser.add_argument("--engine", choices=["hypothesis", "atheris"], default="hypothesis")
    parser.add_argument("--record", action="store_true", help="row for data/results/fuzzing.csv")
    options = parser.parse_args(arguments)
    atheris = instrumented() if options.engine == "atheris" else None
    from .targets import Tally, load  # with what is under test: after the instruments

    tally = Tally(load(options.target), options.seconds, options.executions)

    def end(edges: str = "") -> int:
        row = {"target": options.target, "engine": options.engine, "seed": options.seed}
        row |= tally.row() | {"edges": edges, "findings": len(tally.findings)}
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n", flush=True)
        if options.record:
            keys = ("target", "engine", "seed")
            record(RESULTS / "fuzzing.csv", row, keys, lambda old: [old[key] for key in keys])
            (RESULTS / "fuzzing.machine.txt").write_text(machine() + "\n", "utf-8")
        return 1 if tally.findings else 0

    if atheris:
        led_by_coverage(atheris, tally, options.seed, end)
    by_hypothesis(tally, options.seed)
    return end()


def drawn(tally: Tally, examples: int = 100) -> Callable:
    """A function that draws so many cases of the target, and judges each."""
    phases, checks = (Phase.generate, Phase.shrink), list(HealthCheck)
    quietly = settings(database=None, deadline=None, phases=phases, suppress_health_check=checks)

    def judge(case: Any) -> None:
        tally.judge(case)

    return settings(quietly, max_examples=examples)(given(tally.target.cases)(judge))


def by_hypothesis(tally: Tally, seed: int) -> None:
    """Batches while any is left; what is drawn depends on the seed and on hypothesis' version alone."""
    for batch in count():
        if (size := min(tally.left, BATCH)) <= 0:
            break
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
        try:
            seeded(f"{seed} {batch}")(drawn(tally, size))()
        except Exception as error:  # the very thing that is looked for
            tally.keep(error)
        finally:
            faulthandler.cancel_dump_traceback_later()


def led_by_coverage(atheris: Any, tally: Tally, seed: int, end: Callable[[str], int]) -> None:
    """Let libFuzzer choose what hypothesis draws. Does not return: libFuzzer owns the process."""
    test, folder = drawn(tally), tempfile.TemporaryDirectory(prefix="fuzz-")
    (starts := Path(folder.name, "starts")).mkdir()
    for number in range(16):
        data = random.Random(f"{seed} {number}").randbytes(1024)
        (starts / f"start{number:02}").write_bytes(data)
    log = Path(folder.name, "log")  # libFuzzer says its coverage there and nowhere else
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)

    def one(data: bytes) -> None:
        try:
            test.hypothesis.fuzz_one_input(data)
        except Exception as error:
            tally.keep(error)
        if tally.left <= 0:
            edges = re.findall(r"\bcov: (\d+)", log.read_text(errors="replace"))
            folder.cleanup()
            os._exit(end(edges[-1] if edges else ""))

    options = [f"-seed={seed}", "-max_len=4096", "-len_control=0", "-rss_limit_mb=0"]
    atheris.Setup(["fuzz", *options, f"-timeout={HANG_SECONDS}", str(starts)], one)
    atheris.Fuzz()


def instrumented() -> Any:
    """Atheris, after it imported what is under test."""
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed: pip install -e '.[fuzz]', or leave out --engine")
    with atheris.instrument_imports(include=UNDER_TEST):
        for module in UNDER_TEST:
            importlib.import_module(module)
    return atheris


if __name__ == "__main__":
    sys.exit(main())
