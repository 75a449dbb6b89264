"""The search for the finest quality that fits, on sizes of files that are given, smooth or jumping."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchfusion_lite.errors import BudgetTooSmall
from sketchfusion_lite.rate_search import search_rate

MOST_TRIALS = 6 + 8  # secants, then halving of at most 256 qualities


class Files:
    """Stands for a :class:`~sketchfusion_lite.rate_search.Trial`: sizes of its files by quality index."""

    height, width = 256, 384

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.asked = sizes, []

    def activity(self, index: int) -> float:
        return index / 50

    def size(self, index: int) -> float:
        self.asked.append(index)
        return self.sizes[index]

    def encode(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(data=bytes(self.sizes[index]), index=index)


def jumps(at: int, below: int, above: int) -> list[int]:
    return [below + i // 64 for i in range(at)] + [above + i // 64 for i in range(256 - at)]


@pytest.mark.parametrize("at", [3, 60, 101, 104, 180, 250])
@pytest.mark.parametrize(("below", "above"), [(480, 560), (200, 560), (480, 5000), (538, 562)])
def test_sizes_that_jump_take_few_trials(at, below, above):
    """A small photo of 384x256 took 34 trials, more time than one of 768x512: the secant crept."""
    files = Files(jumps(at, below, above))
    found = search_rate(files, 553)
    close = 0.95 * 553 <= len(found.data) <= 553
    assert close or found.index == at - 1, "the finest that fits"
    assert len(files.asked) <= MOST_TRIALS
    assert len(set(files.asked)) == len(files.asked), "no quality is tried twice"


@given(steps=st.lists(st.integers(0, 40), min_size=256, max_size=256), budget=st.integers(1, 6000))
def test_what_is_found_fits_and_is_within_the_tolerance_of_the_best(steps, budget):
    sizes = [20 + sum(steps[: i + 1]) for i in range(256)]
    files = Files(sizes)
    best = max((size for size in sizes if size <= budget), default=None)
    if best is None:
        with pytest.raises(BudgetTooSmall):
            search_rate(files, budget)
    else:
        found = len(search_rate(files, budget).data)
        assert found == best or 0.95 * budget <= found <= budget
    assert len(files.asked) <= MOST_TRIALS
