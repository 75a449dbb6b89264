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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
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
    "tables": {"peers", "sweep"},
    "evaluation": {"peers", "fid"},
    "priors": {"priors"},
    "image_files": {"peers"},
    "web_export": {"web"},
}

NOTEBOOK_PACKAGES = (
    "IPython",
    "ipykernel",
    "ipywidgets",
    "jupyterlab",
    "nbclient",
    "nbconvert",
    "nbformat",
    "papermill",
    "pyarrow",
    "seaborn",
    "skimage",
    "sklearn",
    "voila",
)


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


def test_python_versions_agree() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.13"
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "(3, 11) <= sys.version_info[:2] < (3, 13)" in makefile


def test_console_script_exists() -> None:
    module, _, name = PROJECT["scripts"]["sketchfusion"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_licence() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text


def test_package_data_is_found() -> None:
    package = resources.files("sketchfusion_lite")
    for folder, suffix in (
        ("weights", ".safetensors"),
        ("manifests", ".json"),
        ("training/recipes", ".toml"),
    ):
        names = [file.name for file in (package / folder).iterdir()]
        assert any(name.endswith(suffix) for name in names), f"no *{suffix} in {folder}"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_that_it_is_typed(package: str) -> None:
    """``py.typed`` lies in what git tracks, hence in the wheel; and mypy looks at the package."""
    listed = subprocess.run(["git", "ls-files", package], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode == 0:  # not in an unpacked source distribution
        assert f"{package}/py.typed" in listed.stdout.split()
    assert (ROOT / package / "py.typed").is_file()
    assert (
        package
        in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["files"]
    )


def test_environment_yml_is_in_step() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"], "versions of packages belong into pyproject.toml"
    (line,) = pip["pip"]
    match = re.fullmatch(r"-e \.\[([\w,]+)\]", line)
    assert match, f"expected '-e .[extras]', found {line!r}"
    assert {"workbook", "test"} <= set(match[1].split(",")) <= set(EXTRAS)


def test_extras_of_the_makefile_exist() -> None:
    (extras,) = re.findall(r"^EXTRAS\s*\?=\s*(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"workbook", "test"} <= set(extras.split(",")) <= set(EXTRAS)


# dependencies -----------------------------------------------------------------------------------


def test_torch_is_capped() -> None:
    # Some builds of torch 2.13 come without a torchvision that fits, and then nothing imports.
    assert "torch>=2.11,<2.13" in PROJECT["dependencies"]
    assert metadata.version("torch").split(".")[:2] in (["2", "11"], ["2", "12"])


@pytest.mark.parametrize("file", library_files(), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_are_declared(file: Path) -> None:
    package, part = file.relative_to(ROOT).parts[:2]
    extras = PARTS.get(package, PARTS.get(part.removesuffix(".py"), ()))
    undeclared = imported(file) - declared(*extras)
    assert not undeclared, f"{file.name} imports {undeclared}: declare them in pyproject.toml"


@pytest.mark.parametrize("folder", ["tests", "tools", "benchmarks", "book", "fuzz"])
def test_imports_beside_the_library_are_declared(folder: str) -> None:
    here = {path.stem for path in (ROOT / folder).rglob("*.py")}
    here |= {"benchmarks", "fuzz", "tests", "tools"}
    here.add("book_extension")
    for file in sorted((ROOT / folder).rglob("*.py")):
        undeclared = imported(file) - declared(*EXTRAS) - here
        assert not undeclared, f"{file.relative_to(ROOT)} imports {undeclared}"


def test_library_works_without_notebook_packages() -> None:
    """Import every module of the codec with those packages blocked, as if not installed."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in library_files()
        if PACKAGES[0] in file.parts and file.stem not in ("__main__", "sweeps")
    ]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({NOTEBOOK_PACKAGES!r}))\n"  # None: ImportError
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
