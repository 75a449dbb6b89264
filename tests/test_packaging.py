"""The package's promises about itself: metadata, declared dependencies, files that travel along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest
import yaml

import sketchfusion_lite

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
EXTRAS = PROJECT["optional-dependencies"]

# Import names that differ from the name of the package (after "-" -> "_").
IMPORT_NAMES = {
    "dists_pytorch": "DISTS_pytorch",
    "ipython": "IPython",
    "pillow": "PIL",
    "pillow_jxl_plugin": "pillow_jxl",
    "pyyaml": "yaml",
    "scikit_image": "skimage",
    "scikit_learn": "sklearn",
}

PACKAGES = ("sketchfusion_lite", "sketchfusion_workbook")

# Which extras a part of the library may use; all else must do with the core dependencies.
PARTS = {
    "sketchfusion_workbook": {"workbook", "peers"},
    "training": {"train"},
    "workers": {"sweep"},
    "sweeps": {"sweep"},
    "table_files": {"peers", "sweep"},
    "evaluation": {"peers", "fid"},
    "priors": {"priors"},
    "image_files": {"peers"},
    "web_export": {"web"},
}


def import_name(requirement: str) -> str:
    """``"scikit-image>=0.25"`` -> ``"skimage"``."""
    name = re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0].lower().replace("-", "_")
    return IMPORT_NAMES.get(name, name)


def declared(*extras: str) -> set[str]:
    lists = [PROJECT["dependencies"], *(EXTRAS[extra] for extra in extras)]
    return {import_name(requirement) for requirements in lists for requirement in requirements}


def imported(file: Path) -> set[str]:
    """Top-level names of the third-party packages that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def library_files() -> list[Path]:
    return sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))


# metadata ---------------------------------------------------------------------------------------


def test_one_version() -> None:
    version = PROJECT["version"]
    assert sketchfusion_lite.__version__ == version
    assert metadata.version("sketchfusion-lite") == version, "stale install; run: make install"
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == version


def test_metadata_is_in_step_with_other_files() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert PROJECT["requires-python"] == ">=3.11,<3.13"
    assert "(3, 11) <= sys.version_info[:2] < (3, 13)" in makefile
    module, _, name = PROJECT["scripts"]["sketchfusion"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text("utf-8")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"], "versions of packages belong into pyproject.toml"
    (line,) = pip["pip"]
    (extras,) = re.findall(r"^EXTRAS\s*\?=\s*(\S+)", makefile, re.MULTILINE)
    for each in (extras, re.fullmatch(r"-e \.\[([\w,]+)\]", line)[1]):
        assert {"workbook", "test"} <= set(each.split(",")) <= set(EXTRAS)
    # Some builds of torch 2.13 come without a torchvision that fits, and then nothing imports.
    assert "torch>=2.11,<2.13" in PROJECT["dependencies"]
    assert metadata.version("torch").split(".")[:2] in (["2", "11"], ["2", "12"])


@pytest.mark.parametrize("package", PACKAGES)
def test_data_and_types_travel_along(package: str) -> None:
    """``py.typed`` lies in what git tracks, hence in the wheel; and mypy looks at the package."""
    listed = subprocess.run(["git", "ls-files", package], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode == 0:  # not in an unpacked source distribution
        assert f"{package}/py.typed" in listed.stdout.split()
    folder = resources.files(package)
    assert (folder / "py.typed").is_file() and package in TOOLS["mypy"]["files"]
    kept = (("weights", ".safetensors"), ("manifests", ".json"), ("training/recipes", ".toml"))
    for data, suffix in kept if package == "sketchfusion_lite" else ():
        assert any(file.name.endswith(suffix) for file in (folder / data).iterdir()), data


# dependencies -----------------------------------------------------------------------------------


def test_imports_are_declared() -> None:
    folders = ("tests", "tools", "benchmarks", "book", "fuzz")
    here = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")} | {*folders}
    for file in (*library_files(), *(f for name in folders for f in (ROOT / name).rglob("*.py"))):
        package, part = file.relative_to(ROOT).parts[:2]
        if package in folders:
            allowed = declared(*EXTRAS) | here
        else:
            allowed = declared(*PARTS.get(package, PARTS.get(part.removesuffix(".py"), ())))
        assert imported(file) <= allowed, f"{file.relative_to(ROOT)}: {imported(file) - allowed}"


def test_library_works_without_notebook_packages() -> None:
    """Import every module of the codec with the workbook's packages blocked, as if not installed."""
    blocked = [
        "IPython",
        "ipykernel",
        "ipywidgets",
        "jupyterlab",
        "nbclient",
        "nbconvert",
        "nbformat",
    ]
    blocked += ["papermill", "pyarrow", "seaborn", "skimage", "sklearn", "voila"]
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in library_files()
        if PACKAGES[0] in file.parts and file.stem not in ("__main__", "sweeps")
    ]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None: ImportError
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_imports_run_one_way() -> None:
    """The layers of pyproject.toml: from the bytes up to the command line; the codec does not know the workbook."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "2 kept" in done.stdout, done.stdout


def test_light_modules_do_not_wait_for_torch() -> None:
    """``--help``, ``info`` and ``fetch`` answer at once."""
    code = (
        "import sys, sketchfusion_lite.bitstream, sketchfusion_lite.datasets, sketchfusion_lite.cli\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
