"""One trial: a command is started, killed with SIGKILL at a random moment, and started again until it is done.

    start --wait--> kill -9 the process group --> half files? --> start again --> ... --> done --> same outcome?

Half of the kills fall anywhere in the command's measured duration, half into the part in which it writes. Most of a
short command would be the import of torch, where a kill proves nothing and costs seconds: see :mod:`.processes`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .processes import kill, started

__all__ = ["Reference", "Scenario", "Tally", "measure", "trial"]

POLL_SECONDS = 0.002
GIVE_UP_SECONDS = 600.0
MAX_KILLS = 3  # per trial; after the last one the command is left alone


class Scenario(Protocol):
    """A command and what must hold of what it leaves behind.

    Attributes:
        name: of the command.
        preload: modules that are imported before the command is started, see :func:`.processes.started`.
    """

    name: str
    preload: tuple[str, ...]

    def command(self, out: Path) -> list[str]:
        """Arguments of ``sketchfusion``, the same after a kill. ``out`` exists and belongs to this trial."""

    def environment(self, out: Path) -> dict[str, str]:
        """Variables to set for it."""

    def half_files(self, out: Path) -> list[str]:
        """Files under a final name that are not whole, and stray files that are neither final nor hidden."""

    def outcome(self, out: Path) -> Any:
        """What a finished run has to show, without times: equal for runs that are equal."""


@dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed.

    Attributes:
        outcome: see :meth:`Scenario.outcome`.
        seconds: its duration.
        writing: how much of it passed after its first file.
    """

    outcome: Any
    seconds: float
    writing: float


@dataclass
class Tally:
    """What came of all trials of a command.

    Attributes:
        command: name of the scenario.
        tries: trials.
        kills: times that a process was started to be killed.
        hits: kills that met it alive.
        hits_writing: those after its first file was there.
        half_files: files not whole under a final name, of all kills together.
        not_resumable: trials whose last start ended with an error.
        different: trials whose outcome is not that of the undisturbed run.
        hidden_left: trials that left hidden temporary files behind at their end.
        seconds: of all trials.
        faults: a line per fault, for people.
    """

    command: str
    tries: int = 0
    kills: int = 0
    hits: int = 0
    hits_writing: int = 0
    half_files: int = 0
    not_resumable: int = 0
    different: int = 0
    hidden_left: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def row(self) -> dict[str, str | int | float]:
        """The tally as a row of a table."""
        values = {key: value for key, value in vars(self).items() if key != "faults"}
        return values | {"seconds": round(self.seconds, 1)}


def measure(scenario: Scenario, out: Path) -> Reference:
    """Run a command undisturbed, twice: the first one may find nothing in the system's caches.

    Raises:
        RuntimeError: it fails, hangs, or differs from run to run; nothing can be compared then.
    """
    first, second = (_measure_once(scenario, out / str(number)) for number in range(2))
    if first.outcome != second.outcome:
        raise RuntimeError(f"{scenario.name} differs from run to run")
    return min(first, second, key=lambda reference: reference.seconds)


def _measure_once(scenario: Scenario, out: Path) -> Reference:
    out.mkdir(parents=True)
    log = out.with_suffix(".log")
    begun, first = time.monotonic(), None
    with _started(scenario, out, log) as process:
        while process.poll() is None:
            if time.monotonic() - begun > GIVE_UP_SECONDS:
                raise RuntimeError(f"{scenario.name} hangs by itself: {_last_line(log)}")
            if first is None and any(out.iterdir()):
                first = time.monotonic()
            time.sleep(POLL_SECONDS)
    ended = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"{scenario.name} fails by itself: {_last_line(log)}")
    if stray := scenario.half_files(out):
        raise RuntimeError(f"{scenario.name} leaves half files by itself: {stray}")
    return Reference(scenario.outcome(out), ended - begun, ended - (first or ended))


def trial(
    scenario: Scenario, out: Path, reference: Reference, rng: random.Random, tally: Tally
) -> None:
    """Kill one run up to ``MAX_KILLS`` times, let it end, and enter what happened into ``tally``.

    Args:
        scenario: what to run.
        out: folder of this trial, absent; removed afterwards unless there was a fault.
        reference: the same run undisturbed.
        rng: decides number and moments of the kills.
        tally: is changed.
    """
    out.mkdir(parents=True)
    begun, faults = time.monotonic(), len(tally.faults)
    tally.tries += 1

    def fault(text: str) -> None:
        tally.faults.append(f"{scenario.name}, try {tally.tries}: {text}")

    for _ in range(rng.randint(1, MAX_KILLS)):
        tally.kills += 1
        hit, writing = _kill_once(scenario, out, reference, rng)
        tally.hits += hit
        tally.hits_writing += hit and writing
        half = scenario.half_files(out)
        tally.half_files += len(half)
        for each in half:
            fault(f"half file {each}")
        if not hit:
            break  # done: it was faster than the kill
    log = out.with_suffix(".log")
    with _started(scenario, out, log) as process:
        try:
            failed = process.wait(GIVE_UP_SECONDS) != 0
        except subprocess.TimeoutExpired:
            failed = True
    if failed:
        tally.not_resumable += 1
        fault(f"does not go on: {_last_line(log)}")
    elif scenario.outcome(out) != reference.outcome:
        tally.different += 1
        fault("ends with another outcome than the run that was left alone")
    tally.hidden_left += any(path.name.endswith((".tmp", ".part")) for path in out.rglob(".*"))
    tally.seconds += time.monotonic() - begun
    if len(tally.faults) == faults:
        shutil.rmtree(out, ignore_errors=True)
        for each in (log, out.with_suffix(".killed.log")):
            each.unlink(missing_ok=True)


def _kill_once(
    scenario: Scenario, out: Path, reference: Reference, rng: random.Random
) -> tuple[bool, bool]:
    """Whether the kill met the process alive, and whether it had written by then."""
    before = _names(out)
    late = rng.random() < 0.5
    moment = rng.uniform(0, reference.writing if late else reference.seconds)
    with _started(scenario, out, out.with_suffix(".killed.log")) as process:
        if late:
            _wait_until(lambda: process.poll() is not None or _names(out) != before)
        until = time.monotonic() + moment
        _wait_until(lambda: process.poll() is not None or time.monotonic() >= until)
        hit = process.poll() is None
        kill(process)
    return hit, _names(out) != before


def _started(scenario: Scenario, out: Path, log: Path):
    return started(scenario.command(out), scenario.environment(out), log, scenario.preload)


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not condition() and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS)


def _names(folder: Path) -> frozenset[str]:
    return frozenset(str(path) for path in folder.rglob("*"))


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "(it said nothing)"
