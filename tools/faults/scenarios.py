"""The commands under fire, each with work so small that hundreds of runs take minutes.

Every scenario makes its inputs in a folder of its own and is deterministic: two runs give the same outcome.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.common import write_notebook
from sketchfusion_lite import bitstream, datasets
from sketchfusion_lite.evaluation import table as evaluations
from sketchfusion_lite.files import sha256_of
from sketchfusion_lite.sweeps import table as sweeps

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


class Scenario:
    """A command and what must hold of what it leaves behind; ``inputs`` is made before."""

    name: str

    def command(self, out: Path) -> list[str]:
        """Arguments of ``sketchfusion``, the same after a kill. ``out`` exists and belongs to this trial."""
        raise NotImplementedError

    def environment(self, out: Path) -> dict[str, str]:
        """Variables to set for it."""
        return {}

    def check(self, path: Path) -> bool:
        """Whether a file under a final name belongs there; any error if it is not whole."""
        raise NotImplementedError

    def outcome(self, out: Path) -> Any:
        """What a finished run has to show, without times: equal for runs that are equal."""
        raise NotImplementedError

    def half_files(self, out: Path) -> list[str]:
        """Files under a final name that are not whole, and stray ones. What is hidden is under way, or a lock."""
        bad = []
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            if not any(part.startswith(".") for part in path.relative_to(out).parts):
                try:
                    if not self.check(path):
                        bad.append(f"{path.name} (stray)")
                except Exception as error:  # whatever its reader raises
                    bad.append(f"{path.name} ({error!r})")
        return bad


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


class Encode(Scenario):
    """A folder of ten photos to ``.skf`` files and a manifest, with the tiny model of the tests."""

    name = "encode"

    def __init__(self, inputs: Path) -> None:
        from sketchfusion_lite.codec import export_weights
        from tests.conftest import build_tiny_model

        self.photos = _photos(inputs / "encode", 10)
        self.weights = inputs / "tiny.safetensors"
        export_weights(build_tiny_model(), self.weights, {"recipe": "none"})

    def command(self, out: Path) -> list[str]:
        how = ["--quality", "2", "--device", "cpu", "--weights", str(self.weights)]
        return ["encode", str(self.photos), str(out), *how]

    def check(self, path: Path) -> bool:
        if path.suffix == ".skf":
            assert not bitstream.parse(path.read_bytes()).missing, "cut off"
        return path.suffix == ".skf" or path.name.startswith("manifest.")

    def outcome(self, out: Path) -> Any:
        return {path.name: path.read_bytes() for path in out.glob("*.skf")}


class Train(Scenario):
    """Twenty steps of the boundary detector, a checkpoint after nearly every one."""

    name = "train"

    def __init__(self, inputs: Path) -> None:
        photos = _photos(inputs / "train", 6, with_boundaries=True)
        self.recipe = inputs / "tiny.toml"
        self.recipe.write_text(_RECIPE.format(photos=str(photos)), "utf-8")

    def command(self, out: Path) -> list[str]:
        return ["train", str(self.recipe), "--out", str(out / "run"), "--resume"]

    def check(self, path: Path) -> bool:
        import torch
        from safetensors.torch import load_file

        if path.suffix == ".pt":
            assert "step" in torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        # logs (.csv) grow by rows; a resumed run drops one that is torn
        return path.suffix in (".pt", ".safetensors", ".json", ".csv")

    def outcome(self, out: Path) -> Any:
        from safetensors.numpy import load_file

        tensors = load_file(out / "run" / "detector.safetensors")
        return {name: values.tobytes() for name, values in tensors.items()}


class Sweep(Scenario):
    """A grid of four runs of a notebook that only adds, on one worker."""

    name = "sweep"
    grid_keys = "notebook: unit.ipynb\nout: out\ntable: csv\ngrid:\n  x: [1, 2, 3, 4]\n"

    def __init__(self, inputs: Path) -> None:
        folder = inputs / "sweep"
        folder.mkdir(parents=True, exist_ok=True)
        code = "import json\nwith open(results_path, 'w') as file:\n    json.dump({'sum': x + 1}, file)"
        parameters = 'x: int = 1\nseed: int = 0\nresults_path: str = ""'
        write_notebook(folder / "unit.ipynb", parameters, code)
        self.grid = folder / "grid.yaml"
        self.grid.write_text(self.grid_keys, "utf-8")

    def command(self, out: Path) -> list[str]:
        return ["sweep", str(self.grid), "--out", str(out / "rows"), "--workers", "1"]

    def check(self, path: Path) -> bool:
        if path.name == "results.csv":
            sweeps.read_results(path)
        elif path.suffix == ".ipynb" or path.name == "row.json":
            json.loads(path.read_bytes())
        # results.json is the notebook's own, read by its worker alone
        return path.suffix == ".ipynb" or path.name in ("results.csv", "row.json", "results.json")

    def outcome(self, out: Path) -> Any:
        return _rows(sweeps.read_results(out / "rows" / "results.csv"))


class Evaluate(Scenario):
    """Six photos with two classical codecs at three rates."""

    name = "evaluate"

    def __init__(self, inputs: Path) -> None:
        self.photos = _photos(inputs / "evaluate", 6)

    def command(self, out: Path) -> list[str]:
        codecs = ["--codec", "jpeg", "--codec", "webp", "--rates", "1.5,2,3", "--metrics", "psnr"]
        return ["evaluate", str(self.photos), *codecs, "--out", str(out / "table.csv")]

    def check(self, path: Path) -> bool:
        if path.name == "table.csv":
            evaluations.read_table(path)
        return path.name == "table.csv" or path.suffix == ".journal"

    def outcome(self, out: Path) -> Any:
        return _rows(evaluations.read_table(out / "table.csv"))


class Fetch(Scenario):
    """The Kodak photos from a mirror, into a cache that is empty at the start. Needs ``SKETCHFUSION_MIRROR``."""

    name = "fetch"

    def __init__(self, inputs: Path) -> None:
        self.sums = {entry["name"]: entry["sha256"] for entry in datasets.manifest("kodak").files}

    def command(self, out: Path) -> list[str]:
        return ["fetch", "kodak"]

    def environment(self, out: Path) -> dict[str, str]:
        return {"SKETCHFUSION_HOME": str(out)}

    def check(self, path: Path) -> bool:
        return sha256_of(path) == self.sums.get(path.name)

    def outcome(self, out: Path) -> Any:
        return {path.name: sha256_of(path) for path in (out / "kodak").glob("*.png")}


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]


SCENARIOS = {kind.name: kind for kind in (Encode, Train, Sweep, Evaluate, Fetch)}
