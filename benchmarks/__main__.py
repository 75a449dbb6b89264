"""Run every benchmark: ``python -m benchmarks [speed|scaling|cues|rate_distortion]``, or ``make bench``.

Results go to ``data/results`` and from there into the tables and figures of README.md, ``docs`` and the model card.
"""

from __future__ import annotations

import sys

from . import cues, figures, rate_distortion, scaling, speed, tables

BENCHMARKS = {
    "speed": speed.main,
    "scaling": scaling.main,
    "cues": cues.main,
    "rate_distortion": lambda: rate_distortion.main([]),
}


def main(names: list[str]) -> None:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown benchmark {sorted(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        print(f"## {name}", flush=True)
        BENCHMARKS[name]()
    tables.main()
    figures.main()


if __name__ == "__main__":
    main(sys.argv[1:])
