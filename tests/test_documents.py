"""README and model card say what was measured, and what their text claims exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import tables
from sketchfusion_lite import load_codec
from sketchfusion_lite.cli import app
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


@pytest.mark.slow
def test_the_examples_of_use_run_from_top_to_bottom(tmp_path, monkeypatch):
    """As they stand in README, with smaller photos; the explorer, which does not end, is tested elsewhere."""
    use = (ROOT / "README.md").read_text("utf-8").partition("\n## Use\n")[2].partition("\n## ")[0]
    (shell,), (python,) = (
        re.findall(rf"```{kind}\n(.*?)```", use, re.S) for kind in ("sh", "python")
    )
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\nPYTHONPATH="{ROOT}"\n')
    lines = shell.replace('w("holiday")', 'w("holiday", 128)').splitlines()
    ours = [line for line in lines if line.startswith("sketchfusion ")]
    others = [line for line in lines if line not in ours]
    assert lines == others + ours and others[0].startswith("source .venv/bin/activate")
    subprocess.run(["bash", "-ec", "set -a\n" + "\n".join(others)], cwd=tmp_path, check=True)
    (folder,) = tmp_path.glob("[!.]*")
    assert f"/{folder.name}/" in (ROOT / ".gitignore").read_text("utf-8").split()
    monkeypatch.chdir(folder)
    for line in ours:
        _, *arguments = shlex.split(line, comments=True)
        if arguments[0] != "explore":
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, f"{line}: {done.output}"
    exec(compile(python, "README.md", "exec"), {})
    assert {"refined.png", "coarse.png", "from_python.png", "results.csv"} <= {
        file.name for file in folder.iterdir()
    }
