"""One trial: a command is started, killed with SIGKILL at a random moment, and started again until it is done.

    start --wait--> kill -9 the process group --> half files? --> start again --> ... --> done --> same outcome?

Half of the kills fall anywhere in the command's measured duration, half into the part in which it writes. Most of a
short command would be the import of torch, where a kill proves nothing and costs seconds: commands are forked from
multiprocessing's server, which has imported the library and done nothing else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .scenarios import Scenario

POLL_SECONDS = 0.002
GIVE_UP_SECONDS = 600.0
MAX_KILLS = 3  # per trial; after the last one the command is left alone
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        f"sketchfusion_lite.{name}"
        for name in ("cli", "codec", "folders.coding", "training.loop", "evaluation.runner")
    ]
)


@dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed: its outcome, its seconds, and those of them that passed after its first file."""

    outcome: Any
    seconds: float
    writing: float


@dataclass
class Tally:
    """What came of all trials of a command: a row of the table, whose columns docs/reliability.md explains.

    Attributes:
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
    begun, log = time.monotonic(), out.with_suffix(".log")
    with started(scenario, out, log) as process:
        _wait_until(lambda: process.exitcode is not None or any(out.iterdir()))
        first = time.monotonic()
        process.join(GIVE_UP_SECONDS)
        ended = time.monotonic()
        if process.exitcode != 0:
            raise RuntimeError(f"{scenario.name} fails or hangs by itself: {_last_line(log)}")
    if stray := scenario.half_files(out):
        raise RuntimeError(f"{scenario.name} leaves half files by itself: {stray}")
    return Reference(scenario.outcome(out), ended - begun, ended - first)


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
    begun, faults = time.monotonic(), []
    tally.tries += 1
    for _ in range(rng.randint(1, MAX_KILLS)):
        tally.kills += 1
        hit, writing = _kill_once(scenario, out, reference, rng)
        tally.hits += hit
        tally.hits_writing += hit and writing
        half = scenario.half_files(out)
        tally.half_files += len(half)
        faults += [f"half file {each}" for each in half]
        if not hit:
            break  # done: it was faster than the kill
    log = out.with_suffix(".log")
    with started(scenario, out, log) as process:
        process.join(GIVE_UP_SECONDS)
        failed = process.exitcode != 0
    if failed:
        tally.not_resumable += 1
        faults.append(f"does not go on: {_last_line(log)}")
    elif scenario.outcome(out) != reference.outcome:
        tally.different += 1
        faults.append("ends with another outcome than the run that was left alone")
    tally.hidden_left += any(path.name.endswith((".tmp", ".part")) for path in out.rglob(".*"))
    tally.seconds += time.monotonic() - begun
    tally.faults += [f"{scenario.name}, try {tally.tries}: {text}" for text in faults]
    if not faults:
        shutil.rmtree(out, ignore_errors=True)
        log.unlink()


def _kill_once(
    scenario: Scenario, out: Path, reference: Reference, rng: random.Random
) -> tuple[bool, bool]:
    """Whether the kill met the process alive, and whether it had written by then."""
    before = set(out.rglob("*"))
    late = rng.random() < 0.5
    moment = rng.uniform(0, reference.writing if late else reference.seconds)
    with started(scenario, out, out.with_suffix(".log")) as process:
        if late:
            _wait_until(lambda: process.exitcode is not None or set(out.rglob("*")) != before)
        process.join(moment)
        hit = process.exitcode is None
        kill(process)
    return hit, set(out.rglob("*")) != before


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not condition() and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "(it said nothing)"


@contextlib.contextmanager
def started(
    scenario: Scenario, out: Path, log: Path
) -> Iterator[multiprocessing.process.BaseProcess]:
    """A running command in a process group of its own; nothing of it outlives the context."""
    arguments = scenario.command(out), scenario.environment(out), log
    process = SERVER.Process(target=_command, args=arguments)
    process.start()
    try:
        yield process
    finally:
        kill(process)


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """SIGKILL for the whole group, workers included; no error if it has ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or has no group yet
        process.kill()
    process.join()


def _command(arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
    os.setsid()
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    from sketchfusion_lite.cli import app

    app(arguments, prog_name="sketchfusion")
