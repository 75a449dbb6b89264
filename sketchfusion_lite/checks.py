"""The checks at the doors: an argument of the wrong type or range is named at once, with what to pass instead.

Each returns the value in the one type that the code behind it works with, or raises :class:`.ArgumentError`.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from .errors import ArgumentError

MAX_SIDE = 1 << 20  # pixels, of any picture or stream
DEFAULT_MAX_PIXELS = 1 << 26  # 67 megapixels, 8192 x 8192

_T = TypeVar("_T")


def refusal(name: str, value: object, remedy: str) -> ArgumentError:
    """The error for an argument, on one line however large the value is; ``remedy`` is a sentence."""
    return ArgumentError(f"{name}={' '.join(reprlib.repr(value).split())}: {remedy}")


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high`` (None: any above); numpy's count, truth values do not."""
    end = f"from {low} to {high}" if high is not None else f"of at least {low}"
    if not is_whole(value) or value < low or (high is not None and value > high):
        raise refusal(name, value, f"give a whole number {end}.")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number by its type."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def number(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """A finite number from ``low`` to ``high``; with ``above``, ``low`` itself is out of range."""
    end = (
        f"above {low:g}"
        if above
        else f"of at least {low:g}"
        if low > -math.inf
        else "that is finite"
    )
    if high < math.inf:
        end += f" and at most {high:g}"
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # False for nan, and no conversion before the comparison: a large int has no float.
    if not (is_number and low <= value <= high and abs(value) < math.inf) or (
        above and value == low
    ):
        raise refusal(name, value, f"give a number {end}.")
    try:
        return float(value)
    except OverflowError as error:
        raise refusal(name, value, f"give a number {end}, below 1e308.") from error


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that merely counts as one of them: ``"no"`` would be true."""
    if not isinstance(value, bool):
        raise refusal(name, value, "give True or False.")
    return value


def text(name: str, value: Any) -> str:
    """A ``str``, which may be empty."""
    return kind(name, value, str, "a text (str)")


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some words."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise refusal(name, value, f"choose one of {', '.join(choices)}.")
    return value


def kind(name: str, value: _T, types: type | tuple[type, ...], what: str) -> _T:
    """An instance of some types, called ``what`` in the message."""
    if not isinstance(value, types):
        raise refusal(name, value, f"give {what}, not {type(value).__name__}.")
    return value


def function(name: str, value: _T) -> _T:
    """Something to call, or None."""
    if value is not None and not callable(value):
        raise refusal(name, value, "give a function, or None.")
    return value


def path(name: str, value: Any) -> Path:
    """The path of a file or folder, which need not exist. No empty text, which would mean the current folder."""
    kind(name, value, (str, os.PathLike), "the path of a file or folder (str or Path)")
    found = os.fspath(value)
    if not isinstance(found, str) or not found or "\0" in found:
        raise refusal(name, value, "give the path of a file or folder.")
    return Path(found)
