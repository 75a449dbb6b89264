"""The command line as tests call it: in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

import sketchfusion_lite
from sketchfusion_lite.cli import app

ROOT = Path(sketchfusion_lite.__file__).parents[1]


def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
    """Here, with stdout and stderr apart."""
    return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Python in a process of its own, on one thread and with this package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= options.pop("env", {})
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=600, **options)


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """As a shell would."""
    return python("-m", "sketchfusion_lite.cli", *arguments, **options)
