"""What can be evaluated, by the names that a command line and a table use.

    refined:steps=4,realism=0.8        avif/2                         zoo:model=mbt2018-mean
    ───┬─── ─────────┬─────────        ──┬─ ┬                         ─┬─ ─────────┬────────
      name        options               name at half width and height  name     options

    ours: sketch preview refined, and lines, the codec that sends lines alone
    classical: jpeg webp avif jpeg2000 jpegxl heic vvc; at /2 /4 /8 enlarged with Lanczos, or at /auto, the largest of
        these sizes that fits the budget
    pics: caption and edge map, painted by a ControlNet pipeline;  zoo: a model of compressai.zoo

A codec and a *rate* in bits per pixel are an operating point: the rate is a budget in bytes for each photo, the same
for every codec, and a codec delivers the best file it can make within it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .. import checks
from ..errors import ArgumentError
from ..files import text_of
from .peers import PEERS, SCALES

__all__ = ["OURS", "PEER_NAMES", "CodecSpec", "parse_codec", "parse_rates"]

OURS = ("sketch", "preview", "refined", "lines")
PEER_NAMES = {name.lower().replace(" ", ""): name for name in PEERS}  # "jpegxl" -> "JPEG XL"

_OPTIONS: dict[str, dict[str, type]] = {
    **{name: {"effort": int, "dtype": str} for name in OURS},
    **{name: {} for name in PEER_NAMES},
    "pics": {"pipeline": str, "steps": int, "guidance": float},
    "zoo": {"model": str, "metric": str},
}
_OPTIONS["refined"] |= {"steps": int, "realism": float}
_SCALABLE = (*PEER_NAMES, "zoo")
_DIVISORS = {str(round(1 / scale)): (scale,) for scale in SCALES} | {"auto": SCALES}


@dataclass(frozen=True)
class CodecSpec:
    """A codec with its settings, but without a rate.

    Attributes:
        name: one of those above.
        scales: shares of width and height to code at; the first at which any quality fits is taken.
        options: sorted pairs.
    """

    name: str
    scales: tuple[float, ...] = (1.0,)
    options: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def text(self) -> str:
        """Canonical form, which tables hold: equal settings give equal text."""
        size = next(text for text, scales in _DIVISORS.items() if scales == self.scales)
        options = ",".join(f"{key}={value}" for key, value in self.options)
        size = f"/{size}" if size != "1" else ""
        return text_of(self.name + size + (f":{options}" if options else ""))

    def option(self, key: str, default: int | float | str) -> int | float | str:
        """Value of an option."""
        return dict(self.options).get(key, default)


def parse_codec(text: str) -> CodecSpec:
    """Read ``NAME[/SIZE][:KEY=VALUE,...]``.

    Raises:
        ArgumentError: unknown name, size or option, or a value of the wrong type; names what there is.
    """
    head, _, tail = checks.text("codec", text).strip().partition(":")
    name, slash, size = head.partition("/")
    name = name.lower()
    if name not in _OPTIONS:
        raise ArgumentError(f"no codec {name!r} (in {text!r}). There are: {', '.join(_OPTIONS)}.")
    if slash and (name not in _SCALABLE or size not in _DIVISORS):
        raise ArgumentError(
            f"{text!r}: sizes are /{', /'.join(_DIVISORS)}, of: {', '.join(_SCALABLE)}."
        )
    options = dict(_parse_option(name, pair, text) for pair in tail.split(",") if pair)
    if name == "zoo" and "model" not in options:  # pics without a pipeline is a row that says so
        raise ArgumentError(f"{text!r}: add the option model, as in zoo:model=...")
    return CodecSpec(name, _DIVISORS[size or "1"], tuple(sorted(options.items())))


def _parse_option(name: str, pair: str, text: str) -> tuple[str, int | float | str]:
    key, equals, value = (part.strip() for part in pair.partition("="))
    known = _OPTIONS[name]
    if key not in known or not equals:
        raise ArgumentError(
            f"{text!r}: no option {pair!r}. {name} takes: "
            + (", ".join(f"{k} ({kind.__name__})" for k, kind in known.items()) or "none")
        )
    try:
        return key, known[key](value)
    except ValueError as error:
        kind = known[key].__name__
        raise ArgumentError(f"{text!r}: {key}={value} is no {kind}.") from error


def parse_rates(rates: Iterable[float] | str) -> tuple[float, ...]:
    """Budgets in bits per pixel, ascending and without repetition, from numbers or ``"0.03,0.045"``.

    Raises:
        ArgumentError: none, one that is no number, or one not above 0.
    """
    checks.kind("rates", rates, Iterable, "numbers, or a text of them")
    given = [part for part in rates.split(",") if part.strip()] if isinstance(rates, str) else rates
    try:
        found = sorted({float(rate) for rate in given})
    except (TypeError, ValueError):
        found = []
    if not found or not all(0 < rate < math.inf for rate in found):
        raise ArgumentError(f"rates {rates!r}: give bits per pixel above 0, as in 0.03,0.045.")
    return tuple(found)
