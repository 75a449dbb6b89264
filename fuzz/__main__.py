"""``python -m fuzz parse --seconds 60 --seed 1 --engine atheris``: fuzz one target and say what happened."""

from __future__ import annotations

import csv
from enum import StrEnum
from typing import Annotated

import typer

from benchmarks.common import RESULTS, write_rows

from .engine import TARGETS, load, run_atheris, run_random
from .oracle import FOLDER, Oracle

TargetName = StrEnum("TargetName", TARGETS)


class Engine(StrEnum):
    """What makes the inputs."""

    RANDOM = "random"
    ATHERIS = "atheris"


def main(
    target: Annotated[TargetName, typer.Argument(help="What to fuzz.")],
    seconds: Annotated[float, typer.Option(min=0, help="Stop after these.")] = 60.0,
    executions: Annotated[int, typer.Option(min=0, help="Stop after these; 0: no limit.")] = 0,
    results: Annotated[
        int, typer.Option(min=0, help="Stop after these with a result; 0: no limit.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=1, help="Of all randomness.")] = 1,
    engine: Annotated[Engine, typer.Option(help="What makes the inputs.")] = Engine.RANDOM,
    record: Annotated[
        bool, typer.Option("--record", help="Write the row to data/results/fuzzing.csv.")
    ] = False,
) -> None:
    """Fuzz one target. Findings go to build/fuzz; the exit status is 1 if there are any."""

    def done(oracle: Oracle) -> bool:
        return (
            oracle.seconds >= seconds
            or bool(executions and oracle.executions >= executions)
            or bool(results and oracle.results >= results)
        )

    def finished(oracle: Oracle, edges: int | None = None) -> None:
        row = oracle.row(engine.value, seed, edges)
        lines = [f"{key}: {value}" for key, value in row.items()]
        print(*lines, *oracle.findings, sep="\n")
        if record:
            write(row)

    if engine is Engine.ATHERIS:
        run_atheris(target.value, seed, done, finished)
    oracle = run_random(load(target.value), seed, done)
    finished(oracle)
    if oracle.findings:
        print(f"The inputs are in {FOLDER}.")
        raise typer.Exit(1)


def write(row: dict[str, object]) -> None:
    """Put a row into the results file, in place of an earlier run of the same target, engine and seed."""

    def key(entry: dict[str, object]) -> tuple[str, ...]:
        return tuple(str(entry[name]) for name in ("target", "engine", "seed"))

    rows: list[dict[str, object]] = []
    if (path := RESULTS / "fuzzing.csv").exists():
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows = sorted([*(old for old in rows if key(old) != key(row)), row], key=key)
    write_rows("fuzzing", rows)


if __name__ == "__main__":
    typer.run(main)
