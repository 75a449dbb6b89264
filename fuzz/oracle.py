"""What may happen to an input, and the account of what did.

An execution is a *finding* if anything but a SketchFusionError escapes, if it takes more processor time or the process
more memory than the target allows, or if the target itself says that a result is wrong (:class:`Wrong`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import math
import mmap
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sketchfusion_lite.errors import SketchFusionError
from sketchfusion_lite.evaluation.machine import peak_megabytes

__all__ = ["FOLDER", "Case", "Oracle", "Target", "Wrong"]

FOLDER = Path(__file__).parents[1] / "build" / "fuzz"  # findings, and the input under way
_HANG_SECONDS = 120
_KEPT_BYTES = 1 << 20


class Wrong(AssertionError):
    """An input was accepted, and what came of it is not what it may be."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        data: what the code under test gets.
        seed: the intact input that it was made of, if known.
        forged: checksums were repaired, or may have been: being accepted is no finding by itself.
    """

    data: bytes
    seed: bytes | None = None
    forged: bool = True


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed.

    Attributes:
        name: as on the command line.
        seeds: intact inputs.
        mutate: makes a case of a seed.
        run: does the work; returns whether a result came out. Raises SketchFusionError, or :class:`Wrong`.
        max_seconds: processor time that one execution may take.
        max_megabytes: peak memory that the process may reach.
    """

    name: str
    seeds: Sequence[bytes]
    mutate: Callable[[bytes, random.Random], Case]
    run: Callable[[Case], bool]
    max_seconds: float
    max_megabytes: int


@dataclass
class Oracle:
    """Runs cases of one target and counts.

    Attributes:
        results: executions that returned a result.
        errors: class of the error -> executions that ended with it.
        findings: what was found, one line each.
    """

    target: Target
    executions: int = 0
    results: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _armed: float = math.inf  # when the watch was last set; far ahead where nobody watches

    def __post_init__(self) -> None:
        self._megabytes = self.target.max_megabytes
        FOLDER.mkdir(parents=True, exist_ok=True)
        # A crash of native code leaves no exception, but its input is still in this file.
        descriptor = os.open(FOLDER / f"last_{self.target.name}.bin", os.O_RDWR | os.O_CREAT)
        os.ftruncate(descriptor, _KEPT_BYTES)
        self._last = mmap.mmap(descriptor, _KEPT_BYTES)
        os.close(descriptor)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """While it is open, the process ends with a traceback if no case ends for two minutes."""
        self._armed = -math.inf
        try:
            yield
        finally:
            self._armed = math.inf
            faulthandler.cancel_dump_traceback_later()

    def judge(self, case: Case) -> None:
        """Execute one case; findings are noted and their input is kept, nothing is raised."""
        if (now := time.monotonic()) - self._armed > 10:  # not for every case: it starts a thread
            faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True, file=sys.__stderr__)
            self._armed = now
        kept = case.data[: _KEPT_BYTES - 4]
        self._last[: 4 + len(kept)] = len(case.data).to_bytes(4, "little") + kept
        self.executions += 1
        before = time.process_time()
        try:
            self.results += self.target.run(case)
        except SketchFusionError as error:
            self.errors[type(error).__name__] += 1
        except Exception as error:  # the very thing that is looked for
            self.errors[type(error).__name__] += 1
            self._found(case, f"{type(error).__name__}: {error}")
        seconds = time.process_time() - before
        self.slowest = max(self.slowest, seconds)
        if seconds > self.target.max_seconds:
            self._found(case, f"took {seconds:.2f} s")
        # The quick number first: it is never too small, but of a child it starts at what its parent had.
        quick = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if quick > self._megabytes and (peak := self.peak_megabytes) > self._megabytes:
            self._megabytes = 2 * peak  # the peak never falls: one finding, not one each time
            self._found(case, f"peak memory {peak} MB")

    @property
    def peak_megabytes(self) -> int:
        """Most memory that the process ever had; 0 where the system does not tell (Linux does)."""
        return round(peak_megabytes()) if sys.platform.startswith("linux") else 0

    def row(self, engine: str, seed: int, edges: int | None) -> dict[str, object]:
        """The run as a row of ``data/results/fuzzing.csv``."""
        errors = "; ".join(f"{name} {count}" for name, count in sorted(self.errors.items()))
        return {
            "target": self.target.name,
            "engine": engine,
            "seed": seed,
            "executions": self.executions,
            "results": self.results,
            "seconds": round(self.seconds),
            "errors": errors,
            "slowest ms": round(1000 * self.slowest, 1),
            "peak MB": self.peak_megabytes,
            "edges": "" if edges is None else edges,
            "findings": len(self.findings),
        }

    def _found(self, case: Case, what: str) -> None:
        digest = hashlib.sha256(case.data).hexdigest()[:16]
        path = FOLDER / f"finding_{self.target.name}_{digest}.bin"
        path.write_bytes(case.data)
        self.findings.append(f"{path.name}: {what}")
        print(f"FINDING {self.findings[-1]}", file=sys.__stderr__, flush=True)
