"""Run every benchmark, or those named: ``python -m benchmarks [NAME ...]``, or ``make bench [ARGS="NAME ..."]``.

    speed peers_speed compute scaling      time, memory and work: minutes on two idle cores
    cues                                   boundary detector; skipped where BSDS500 is not there
    rate_distortion                        Kodak, all codecs and rates: the long one; it goes on where it was stopped

Results go to ``data/results`` and from there into the tables and figures of README.md, ``docs`` and the model card.
"""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = ("speed", "peers_speed", "compute", "scaling", "cues", "rate_distortion")


def main(names: list[str]) -> None:
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"unknown benchmark {sorted(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in (*(names or BENCHMARKS), "tables", "figures"):
        print(f"## {name}", flush=True)
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
