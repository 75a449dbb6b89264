"""What comes from others is data, never code; servers answer this machine alone; what is installed is bounded.

SECURITY.md says what this is good for, and what it does not cover.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sketchfusion_lite
from sketchfusion_lite.cli import app
from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.errors import SketchFusionError
from sketchfusion_lite.refiner_io import load_refiner, shipped_refiner
from sketchfusion_lite.training.checkpoints import load_start
from sketchfusion_lite.training.loop import TrainingRun
from sketchfusion_lite.training.recipe import CuesRecipe

ROOT = Path(__file__).parents[1]
PACKAGE = Path(sketchfusion_lite.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# code that runs code ------------------------------------------------------------------------------

FORBIDDEN = {"eval", "exec", "compile", "__import__"}
FORBIDDEN |= {"pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open"}
FORBIDDEN |= {"joblib.load", "dill.loads", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN |= {"os.system", "os.popen", "subprocess.getoutput"}  # shells
FORBIDDEN |= {"tempfile.mktemp"}  # a name that another may take first
# (file, what): why it is right there.
ALLOWED = {
    ("trunks.py", "pickle.Unpickler"): "base of one that refuses all globals but those of an array",
    ("sweeps/grid.py", "yaml.load"): "with a loader derived from SafeLoader",
}


def findings(source: str) -> list[str]:
    """Calls and base classes of ``FORBIDDEN``, unsafe ``torch.load`` and ``numpy.load``, shells, remote code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            found += [name for name in map(ast.unparse, node.bases) if name in FORBIDDEN]
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in FORBIDDEN:
            found.append(name)
        if name.endswith(("torch.load", "load_state_dict_from_url")) or name == "load_url":
            found += [] if given.get("weights_only") == "True" else [name]
        if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
            found.append(name)
        found += [f"{key}=" for key in ("shell", "trust_remote_code") if given.get(key) == "True"]
        if given.get("use_safetensors") == "False":
            found.append("use_safetensors=")
    return found


def test_no_code_of_others_can_run():
    found = set()
    for path in sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tools").rglob("*.py")]):
        name = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()
        found |= {(name, what) for what in findings(path.read_text("utf-8"))}
    assert found == set(ALLOWED), "unexplained, or an exception that is needed no more"


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "torch.load(path, weights_only=False)",
        "torch.hub.load_state_dict_from_url(url)",
        "np.load(path, allow_pickle=True)",
        "class Mine(pickle.Unpickler): pass",
        "Pipeline.from_pretrained(path, trust_remote_code=True)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source):
    assert len(findings(source)) == 1
    assert findings("torch.load(path, weights_only=True); model.eval(); ast.literal_eval(x)") == []


# malicious files ----------------------------------------------------------------------------------


class Harmful:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.fixture
def harmful(tmp_path):
    """``(path, marker)``: a checkpoint that is a pickle with code; the marker appears if it runs."""
    path, marker = tmp_path / "evil" / "checkpoint.pt", tmp_path / "code_ran"
    path.parent.mkdir()
    torch.save({"modules": {}, "recipe": {}, "step": Harmful(marker)}, path)
    torch.load(path, weights_only=False)
    assert marker.exists(), "else the tests would prove nothing"
    marker.unlink()
    yield path, marker
    assert not marker.exists(), "code of the file was run"


def test_checkpoints_with_code_are_refused(harmful, photo_folder, tmp_path):
    path, _ = harmful
    recipe = CuesRecipe(photos=[str(photo_folder)], hold_out=2, steps=2, phases=[[0.0, 48, 2]])
    with pytest.raises(SketchFusionError, match=r"checkpoint\.pt"):
        TrainingRun(recipe, path.parent, resume=True)
    with pytest.raises(SketchFusionError, match=r"checkpoint\.pt"):
        load_start(path, {"model": torch.nn.Linear(1, 1)})
    result = CliRunner().invoke(app, ["export", str(path.parent), str(tmp_path / "w.safetensors")])
    assert result.exit_code == 30 and not (tmp_path / "w.safetensors").exists()


def test_weights_streams_and_pictures_with_code_are_refused(harmful, tmp_path, tiny_weights):
    path, marker = harmful
    for name in ("weights.safetensors", "weights.pt", "weights.pkl"):
        shutil.copy(path, tmp_path / name)
        with pytest.raises(SketchFusionError, match=re.escape(name)):
            load_codec(tmp_path / name, device="cpu", dtype="float32")
    refiner = Path(shutil.copytree(shipped_refiner(), tmp_path / "refiner"))
    (weights,) = (refiner / "unet").glob("*.safetensors")
    shutil.copy(path, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(SketchFusionError, match="refiner"):
        load_refiner(refiner)
    stream, picture = tmp_path / "a.skf", tmp_path / "a.png"
    for target in (stream, picture):
        target.write_bytes(pickle.dumps(Harmful(marker)))
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"notebook: !!python/object/apply:os.system ['touch {marker}']\n")
    for arguments, code in (
        (["decode", stream, tmp_path / "b.png", "--weights", tiny_weights], 11),
        (["encode", picture, tmp_path / "b.skf", "--weights", tiny_weights], 3),
        (["info", stream], 11),
        (["sweep", grid, "--dry-run"], 50),
    ):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code and "error: " in result.stderr


@pytest.mark.parametrize("part", ["scheduler", "unet", "_class_name"])
def test_code_in_a_refiners_folder_is_never_run(tmp_path, part):
    """Neither by our loader, which reads numbers alone, nor by diffusers, which refuses it."""
    from sketchfusion_lite.refinement import RefinementPipeline

    folder, marker = tmp_path / "refiner", tmp_path / "code_ran"
    shutil.copytree(shipped_refiner(), folder)
    index = json.loads((folder / "model_index.json").read_text()) | {part: ["evil", "Evil"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    for place in (folder, folder / "scheduler", folder / "unet"):
        code = f"open({str(marker)!r}, 'w').close()\nclass Evil:\n    pass\n"
        (place / "evil.py").write_text(code)
    load_refiner(folder)
    with pytest.raises((OSError, ValueError, ImportError, AttributeError)):
        RefinementPipeline.from_pretrained(folder, local_files_only=True)
    assert not marker.exists(), "code of the folder was run"


# servers ------------------------------------------------------------------------------------------

_LISTENING = """
import json, psutil

from sketchfusion_lite.workers import open_client
if __name__ == "__main__":
    with open_client(1) as client:
        client.submit(int, "1").result()
        me = psutil.Process()
        family = [me, *me.children(recursive=True)]
        ports = [c.laddr[0] for p in family for c in p.net_connections("inet") if c.status == "LISTEN"]
        print(json.dumps(ports))
"""


def test_dask_listens_on_this_machine_alone(tmp_path):
    """Scheduler, worker, nanny and their HTTP servers: whoever reaches one can run code."""
    pytest.importorskip("distributed", reason="distributed is not installed: make install")
    script = tmp_path / "listening.py"
    script.write_text(_LISTENING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    addresses = json.loads(done.stdout)
    assert len(addresses) >= 3 and set(addresses) == {"127.0.0.1"}


def test_lab_and_explorer_keep_loopback_and_token():
    """The explorer's own settings are tested beside it; no option given here may undo a server's defaults."""
    for path in (ROOT / "Makefile", *(ROOT / "docs").glob("*.md"), ROOT / "README.md"):
        text = path.read_text("utf-8")
        for option in ("0.0.0.0", "--ip=", "token=''", 'token=""', "--allow-root", "password=''"):
            assert option not in text, f"{path.name}: {option}"
    labapp = pytest.importorskip("jupyterlab.labapp", reason="jupyterlab is not installed")
    server = labapp.LabApp.serverapp_class()
    assert server.ip in ("localhost", "127.0.0.1") and not server.allow_remote_access
    assert len(server.identity_provider_class(parent=server).token) >= 32


# what is installed --------------------------------------------------------------------------------

# Open upwards: small, stable interfaces, or (dask, distributed) versions that are dates. A cap would only collide with
# other packages' needs; the tests run against the newest.
OPEN_UPWARDS = {"dask", "distributed", "filelock", "huggingface-hub", "hypothesis", "ipython"}
OPEN_UPWARDS |= {"jinja2", "matplotlib", "pillow", "platformdirs", "pyyaml", "rich", "safetensors"}
OPEN_UPWARDS |= {"scipy", "traitlets", "typer"}


def test_every_dependency_is_bounded():
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    uncapped = {
        re.split(r"[<>=!~\[;]", line, maxsplit=1)[0].strip()
        for line in lines
        if "==" not in line and "<" not in line
    }
    assert uncapped == OPEN_UPWARDS
    assert all("==" in line or ">=" in line for line in lines), "a lower bound for all"
    assert not [line for line in lines if "@" in line or "://" in line], "registry only"


def test_installed_packages_fit_each_other():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# the document -------------------------------------------------------------------------------------


def test_the_limits_in_security_md_are_those_of_the_code():
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    rows = re.findall(r"^\| .*? \| ([\d,]+) .*?\| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for number, name in rows:
        name = name if name.startswith("sketchfusion_") else f"sketchfusion_lite.{name}"
        assert int(number.replace(",", "")) == pkgutil.resolve_name(name), name
