"""Run every benchmark, or those named: ``python -m benchmarks [NAME ...]``, or ``make bench [ARGS="NAME ..."]``.

    speed peers_speed compute scaling      time, memory and work: minutes on two idle cores
    sweeping                               overhead of a sweep over papermill, gain of a second worker
    cues                                   boundary detector; skipped where BSDS500 is not there
    rate_distortion                        Kodak, all codecs and rates: the long one; it goes on where it was stopped

Results go to ``data/results`` and from there into the tables and figures of README.md, ``docs`` and the model card.
"""

from __future__ import annotations

import sys

from . import (
    compute,
    cues,
    figures,
    peers_speed,
    rate_distortion,
    scaling,
    speed,
    sweeping,
    tables,
)

BENCHMARKS = {
    "speed": speed.main,
    "peers_speed": peers_speed.main,
    "compute": compute.main,
    "scaling": scaling.main,
    "sweeping": sweeping.main,
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
