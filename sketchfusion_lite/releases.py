"""Which models were released, so that a stream of an older one can be refused with the way to read it.

A release that ships an entropy model with another id adds a row here and never takes one away.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Released:
    """An entropy model that came with a release.

    Attributes:
        model_id: 16-bit id, as its streams carry it.
        weights: name of the weights, as ``load_codec`` takes it.
        first, last: releases that came with it; None for ``last`` where this one still does.
    """

    model_id: int
    weights: str
    first: str
    last: str | None

    @property
    def ships(self) -> bool:
        """Whether this release decodes the model's streams with weights of its own."""
        return self.last is None


RELEASED = (
    Released(0x1EE4, "base", "0.1.0", "0.1.0"),
    Released(0xA9E6, "base", "0.2.0", "0.2.0"),
    Released(0x7D21, "lines", "0.2.0", "0.6.0"),
    Released(0x0881, "base", "0.3.0", "0.6.0"),
    Released(0x4F5D, "lines", "0.7.0", None),
    Released(0x3DD6, "base", "0.7.0", None),
)


def released(model_id: int) -> Released | None:
    """The release row of a model id, or None for a model that was never released."""
    return next((row for row in RELEASED if row.model_id == model_id), None)


def how_to_read(model_id: int) -> str:
    """What to load for the streams of a model."""
    row = released(model_id)
    if row is None:
        return f"Load the weights of model {model_id:#06x}"
    if row.ships:
        return f"Load the weights with weights={row.weights!r}"
    return f"Load the weights of release {row.last} with weights=FILE, or install that release"
