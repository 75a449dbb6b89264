"""README and model card say what was measured, and what their text claims exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import tables
from sketchfusion_lite import load_codec
from sketchfusion_lite.refiner_io import shipped_refiner
from sketchfusion_lite.weights_io import SHIPPED, shipped_weights

ROOT = Path(__file__).parents[1]
CARD = ROOT / "sketchfusion_lite" / "weights" / "MODEL_CARD.md"


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_the_result_files(document):
    text = document.read_text(encoding="utf-8")
    assert "<!-- table" in text
    assert tables.renewed(text) == text, "run: python -m benchmarks (or benchmarks.tables.main())"


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_linked_files_exist(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    for link in links:
        if not link.startswith("http"):
            assert (document.parent / link).exists(), f"{document.name} links {link}"


def test_the_model_card_names_the_shipped_model():
    card = CARD.read_text(encoding="utf-8")
    assert f"{load_codec(device='cpu', dtype='float32').model_id:#06x}" in card
    sizes = {n: shipped_weights(n).stat().st_size for n in SHIPPED}
    refiner = sum(f.stat().st_size for f in shipped_refiner().rglob("*.safetensors"))
    assert sizes["base"] + refiner <= 20_000_000 and sum(sizes.values()) + refiner <= 26_000_000
