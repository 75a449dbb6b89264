"""The commands under fire, each with work so small that hundreds of runs take minutes.

Every scenario makes its inputs in a folder of its own and is deterministic: two runs give the same outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from sketchfusion_lite import bitstream, datasets
from sketchfusion_lite.errors import SketchFusionError
from sketchfusion_lite.evaluation import table as evaluations
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.sweeps import table as sweeps

__all__ = ["SCENARIOS", "Encode", "Evaluate", "Fetch", "Sweep", "Train"]

_RECIPE = """\
task = "cues"
photos = [{photos!r}]
hold_out = 2
steps = 20
phases = [[0.0, 48, 2]]
warmup_steps = 2
validate_minutes = 60.0
checkpoint_minutes = 0.0005
"""
_TIMES = {"seconds", "started", "worker", "encode_s", "decode_s", "git", "git_dirty"}


class _Base:
    """What most scenarios share."""

    preload: tuple[str, ...] = ()

    def environment(self, out: Path) -> dict[str, str]:
        return {}


def _visible(out: Path) -> Iterable[Path]:
    """Files under final names: whatever is hidden, or in a hidden folder, is under way or a lock."""
    return (
        path
        for path in sorted(out.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(out).parts)
    )


def _photos(folder: Path, count: int, with_boundaries: bool = False) -> Path:
    """Pictures of 96 to 160 pixels with an edge and a gradient, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        width, height = 96 + 8 * (i % 9), 160 - 8 * (i % 9)
        picture = Image.linear_gradient("L").resize((width, height)).convert("RGB")
        box = (10 + i % 5 * 4, 12, 60, 50 + i % 7 * 4)
        picture.paste((200 - 9 * i % 150, 40 + 11 * i % 200, 90), box)
        picture.save(folder / f"photo{i:02d}.png")
        if with_boundaries:
            edges = Image.new("L", (width, height))
            edges.paste(255, box)
            edges.paste(0, (box[0] + 2, box[1] + 2, box[2] - 2, box[3] - 2))
            edges.save(folder / f"photo{i:02d}_boundary.png")
    return folder


class Encode(_Base):
    """A folder of ten photos to ``.skf`` files and a manifest, with the tiny model of the tests."""

    name = "encode"
    preload = ("sketchfusion_lite.codec", "sketchfusion_lite.folders.coding")

    def __init__(self, inputs: Path) -> None:
        from sketchfusion_lite.codec import export_weights
        from tests.conftest import build_tiny_model

        self.photos = _photos(inputs / "encode", 10)
        self.weights = inputs / "tiny.safetensors"
        export_weights(build_tiny_model(), self.weights, {"recipe": "none"})

    def command(self, out: Path) -> list[str]:
        how = ["--quality", "2", "--device", "cpu", "--weights", str(self.weights)]
        return ["encode", str(self.photos), str(out), *how]

    def half_files(self, out: Path) -> list[str]:
        bad = []
        for path in _visible(out):
            if path.suffix == ".skf":
                try:
                    if bitstream.parse(path.read_bytes()).missing:
                        bad.append(f"{path.name} (cut off)")
                except SketchFusionError as error:
                    bad.append(f"{path.name} ({error})")
            elif not path.name.startswith("manifest."):
                bad.append(f"{path.name} (stray)")
        return bad

    def outcome(self, out: Path) -> Any:
        return {path.name: path.read_bytes() for path in out.glob("*.skf")}


class Train(_Base):
    """Twenty steps of the boundary detector, a checkpoint after nearly every one."""

    name = "train"
    preload = ("sketchfusion_lite.training.loop",)

    def __init__(self, inputs: Path) -> None:
        photos = _photos(inputs / "train", 6, with_boundaries=True)
        self.recipe = inputs / "tiny.toml"
        self.recipe.write_text(_RECIPE.format(photos=str(photos)), "utf-8")

    def command(self, out: Path) -> list[str]:
        return ["train", str(self.recipe), "--out", str(out / "run"), "--resume"]

    def half_files(self, out: Path) -> list[str]:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        bad = []
        for path in _visible(out):
            try:
                if path.suffix == ".pt":
                    torch.load(path, map_location="cpu", weights_only=True)["step"]
                elif path.suffix == ".safetensors":
                    load_file(path)
                elif path.suffix == ".json":
                    json.loads(path.read_bytes())
                elif (
                    path.suffix != ".csv"
                ):  # logs grow by rows; a resumed run drops one that is torn
                    bad.append(f"{path.name} (stray)")
            except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError) as error:
                bad.append(f"{path.name} ({error!r})")
        return bad

    def outcome(self, out: Path) -> Any:
        from safetensors.numpy import load_file

        tensors = load_file(out / "run" / "detector.safetensors")
        return {name: values.tobytes() for name, values in tensors.items()}


class Sweep(_Base):
    """A grid of four runs of a notebook that only adds, on one worker."""

    name = "sweep"
    grid_keys = "notebook: unit.ipynb\nout: out\ntable: csv\ngrid:\n  x: [1, 2, 3, 4]\n"

    def __init__(self, inputs: Path) -> None:
        import nbformat

        folder = inputs / "sweep"
        folder.mkdir(parents=True, exist_ok=True)
        node = nbformat.v4.new_notebook()
        node.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "P"}
        first = nbformat.v4.new_code_cell('x: int = 1\nseed: int = 0\nresults_path: str = ""')
        first.metadata.tags = ["parameters"]
        code = "import json\nwith open(results_path, 'w') as file:\n    json.dump({'sum': x + 1}, file)"
        node.cells = [first, nbformat.v4.new_code_cell(code)]
        nbformat.write(node, folder / "unit.ipynb")
        self.grid = folder / "grid.yaml"
        self.grid.write_text(self.grid_keys, "utf-8")

    def command(self, out: Path) -> list[str]:
        return ["sweep", str(self.grid), "--out", str(out / "rows"), "--workers", "1"]

    def half_files(self, out: Path) -> list[str]:
        bad = []
        for path in _visible(out):
            try:
                if path.name == "results.csv":
                    sweeps.read_results(path)
                elif path.suffix == ".ipynb" or path.name == "row.json":
                    json.loads(path.read_bytes())
                elif path.name != "results.json":  # the notebook's own, read by its worker alone
                    bad.append(f"{path.name} (stray)")
            except (SketchFusionError, ValueError) as error:
                bad.append(f"{path.name} ({error})")
        return bad

    def outcome(self, out: Path) -> Any:
        return _rows(sweeps.read_results(out / "rows" / "results.csv"))


class Evaluate(_Base):
    """Six photos with two classical codecs at three rates."""

    name = "evaluate"
    preload = ("sketchfusion_lite.evaluation.runner",)

    def __init__(self, inputs: Path) -> None:
        self.photos = _photos(inputs / "evaluate", 6)

    def command(self, out: Path) -> list[str]:
        codecs = ["--codec", "jpeg", "--codec", "webp", "--rates", "1.5,2,3", "--metrics", "psnr"]
        return ["evaluate", str(self.photos), *codecs, "--out", str(out / "table.csv")]

    def half_files(self, out: Path) -> list[str]:
        bad = []
        for path in _visible(out):
            if path.name == "table.csv":
                try:
                    evaluations.read_table(path)
                except SketchFusionError as error:
                    bad.append(f"{path.name} ({error})")
            elif path.suffix != ".journal":
                bad.append(f"{path.name} (stray)")
        return bad

    def outcome(self, out: Path) -> Any:
        return _rows(evaluations.read_table(out / "table.csv"))


class Fetch(_Base):
    """The Kodak photos from a mirror, into a cache that is empty at the start. Needs ``SKETCHFUSION_MIRROR``."""

    name = "fetch"

    def __init__(self, inputs: Path) -> None:
        self.files = {entry["name"]: entry for entry in datasets.manifest("kodak").files}

    def command(self, out: Path) -> list[str]:
        return ["fetch", "kodak"]

    def environment(self, out: Path) -> dict[str, str]:
        return {"SKETCHFUSION_HOME": str(out)}

    def half_files(self, out: Path) -> list[str]:
        return [
            path.name
            for path in _visible(out)
            if path.name not in self.files or sha256_of(path) != self.files[path.name]["sha256"]
        ]

    def outcome(self, out: Path) -> Any:
        return {path.name: sha256_of(path) for path in (out / "kodak").glob("*.png")}


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]


SCENARIOS = {kind.name: kind for kind in (Encode, Train, Sweep, Evaluate, Fetch)}
