"""``python -m fuzz parse --seconds 60 --seed 1``: fuzz one target and say what happened.

Findings go to build/fuzz; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import importlib
import os
import random
import re
import signal
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
HANG_SECONDS = 120
UNDER_TEST = [f"sketchfusion_lite.{name}" for name in ("bitstream", "coding", "codec", "images")]
QUIETLY = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=["parse", "decode", "images"])
    parser.add_argument("--seconds", type=float, default=60.0, help="stop after these")
    parser.add_argument("--executions", type=int, default=0, help="stop after these; 0: no limit")
    parser.add_argument("--seed", type=int, default=1, help="of all randomness")
    parser.add_argument("--engine", choices=["hypothesis", "atheris"], default="hypothesis")
    parser.add_argument("--record", action="store_true", help="row for data/results/fuzzing.csv")
    options = parser.parse_args(arguments)
    atheris = instrumented() if options.engine == "atheris" else None
    from .targets import FOLDER, Tally, load  # with what is under test: after the instruments

    tally, findings = Tally(load(options.target)), []

    def left() -> int:
        """Executions of the next batch."""
        if tally.seconds >= options.seconds:
            return 0
        return min(BATCH, (options.executions or sys.maxsize) - tally.executions)

    def found(error: Exception) -> None:
        digest = hashlib.sha256(tally.last.data).hexdigest()[:16]
        path = FOLDER / f"finding_{options.target}_{digest}.bin"
        path.write_bytes(tally.last.data)
        findings.append(f"{path}: {type(error).__name__}: {error}")
        print("FINDING", findings[-1], flush=True)

    def end(edges: str = "") -> int:
        row = {"target": options.target, "engine": options.engine, "seed": options.seed}
        row |= tally.row() | {"edges": edges, "findings": len(findings)}
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n", flush=True)
        if options.record:
            keys = ("target", "engine", "seed")
            record(RESULTS / "fuzzing.csv", row, keys, lambda old: [old[key] for key in keys])
            (RESULTS / "fuzzing.machine.txt").write_text(machine() + "\n", "utf-8")
        return 1 if findings else 0

    if atheris:
        led_by_coverage(atheris, tally, options.seed, left, found, end)
    by_hypothesis(tally, options.seed, left, found)
    return end()


def by_hypothesis(
    tally: Tally, seed: int, left: Callable[[], int], found: Callable[[Exception], None]
) -> None:
    """Batches while any is ``left``; what is drawn depends on the seed and on hypothesis' version alone."""
    for batch in count():
        if (size := left()) <= 0:
            break
        test = settings(QUIETLY, max_examples=size)(given(tally.target.cases)(watched(tally)))
        try:
            seeded(f"{seed} {batch}")(test)()
        except Exception as error:  # the very thing that is looked for
            found(error)
    signal.setitimer(signal.ITIMER_REAL, 0)


def led_by_coverage(
    atheris: Any, tally: Tally, seed: int, left: Callable, found: Callable, end: Callable
) -> None:
    """Let libFuzzer choose what hypothesis draws. Does not return: libFuzzer owns the process."""
    test = QUIETLY(given(tally.target.cases)(watched(tally)))
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
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
            found(error)
        if left() <= 0:
            edges = re.findall(r"\bcov: (\d+)", log.read_text(errors="replace"))
            folder.cleanup()
            os._exit(end(edges[-1] if edges else ""))

    options = [f"-seed={seed}", "-max_len=4096", "-len_control=0", "-rss_limit_mb=0", "-timeout=0"]
    atheris.Setup(["fuzz", *options, str(starts)], one)
    atheris.Fuzz()


def instrumented() -> Any:
    """Atheris, after it imported what is under test."""
    try:
        import atheris
    except ImportError:
        sys.exit(
            "error: atheris is not installed: pip install -e '.[fuzz]', or use --engine hypothesis"
        )
    with atheris.instrument_imports(include=UNDER_TEST):
        for module in UNDER_TEST:
            importlib.import_module(module)
    return atheris


def watched(tally: Tally) -> Callable:
    """Its judgement; the process ends with a traceback if that takes two minutes."""
    faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)

    def watch(case: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        tally.judge(case)

    return watch


if __name__ == "__main__":
    sys.exit(main())
