"""What a browser needs of a codec: the integer entropy model as it is, renderer and preview decoder as ONNX.

    weights --integer tensors--> entropy.safetensors      exact: what JavaScript computes in float64, too
            --renderer---------> sketch.onnx              structure symbols --> lines
            --preview decoder--> preview.onnx             all symbols ------> picture
                                 manifest.json            sizes, margins, sha256 of each file

The graphs hold the gains, so that a page feeds them the decoded integers. Their weights stay in float16, as in the
weights file, and are widened when a page loads them: a picture differs from Python's by the rounding of sums alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from . import checks
from .codec import load_codec
from .errors import DependencyMissing, OutputError, WeightsError
from .files import atomic_write_bytes
from .integer import UNITS_PER_Y
from .model import SketchFusionModel
from .tiling import STRIDE
from .weights_io import load_part

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["FORMAT", "OPSET", "export_web"]

FORMAT = 1
OPSET = 17
MANIFEST = "manifest.json"
# In latent positions: three 3x3 convolutions at stride 16, and the enlargement at the end.
_SKETCH_MARGIN = 4
_TOLERANCE = 1e-3  # of the same graph computed by torch and by ONNX's own evaluator


class _Stage(nn.Module):
    """Decoded integers ``(1, C, h, w)`` in units of 1/8 and quality ``(1,)`` -> RGBA ``(16h, 16w, 4)``, 0 to 255.

    Float, so that two evaluators can be compared; a page's canvas rounds to the nearest.
    """

    def __init__(self, model: SketchFusionModel) -> None:
        super().__init__()
        self.model = model

    def dequantise(self, units: Tensor, quality: Tensor) -> Tensor:
        inverse = self.model.gain(quality)[1]
        return units * (1 / UNITS_PER_Y) * inverse[:, : units.shape[1]]

    @staticmethod
    def pixels(picture: Tensor) -> Tensor:
        rgba = torch.cat([picture, torch.ones_like(picture[:, :1])], dim=1)  # (1, 4, 16h, 16w)
        return rgba[0].clamp(0, 1).permute(1, 2, 0) * 255


class _Sketch(_Stage):
    def forward(self, units: Tensor, quality: Tensor) -> Tensor:
        lines = self.model.renderer(self.dequantise(units, quality)).sigmoid()  # (1, 1, 8h, 8w)
        paper = 1 - F.interpolate(lines, scale_factor=2, mode="bilinear")  # (1, 1, 16h, 16w)
        return self.pixels(paper.repeat(1, 3, 1, 1))


class _Preview(_Stage):
    def forward(self, units: Tensor, quality: Tensor) -> Tensor:
        return self.pixels(self.model.preview(self.dequantise(units, quality), quality))


def export_web(
    sources: Sequence[str | Path], out: str | Path, report: Callable[[str], None] | None = None
) -> dict:
    """Export codecs for a page, a folder for each, named by its model id, and one manifest.

    Args:
        sources: weights files, or names of shipped ones.
        out: folder, made if it is missing; files of an earlier export are replaced, the manifest last.
        report: called with a line per file that was written.

    Returns:
        The manifest.

    Raises:
        ArgumentError: an argument of another type.
        WeightsError: no codec, an ablation that a page does not decode, or a graph that does not compute the same.
        DependencyMissing: ``onnx`` is not installed.
        OutputError: a file cannot be written.
    """
    checks.kind("sources", sources, (list, tuple), "a list of weights files")
    out = checks.path("out", out)
    checks.function("report", report)
    if importlib.util.find_spec("onnx") is None:
        raise DependencyMissing.for_extra("onnx", "web", "the export for browsers")
    models = {}
    for source in sources:
        codec, integers = load_codec(source, "cpu", "float32"), load_part(source, "integer")
        model, entropy, name = codec.model, codec.entropy, Path(source).name
        if model.config.context != "checkerboard" or not entropy.hyper_channels:
            raise WeightsError(f"{name}: a page decodes the checkerboard model alone, no ablation.")
        folder = f"{entropy.model_id:04x}"
        sketch = _graph(_Sketch(model), entropy.structure_channels, name)
        preview = _graph(_Preview(model), model.config.latent_channels, name)
        contents = {
            "entropy": ("entropy.safetensors", save(integers)),
            "sketch": ("sketch.onnx", sketch),
            "preview": ("preview.onnx", preview),
        }
        files = {}
        for stage, (file, data) in contents.items():
            path = f"{folder}/{file}"
            _write(out / path, data)
            if report:
                report(f"{out / path}  {len(data)} bytes")
            sha256 = hashlib.sha256(data).hexdigest()
            files[stage] = {"path": path, "bytes": len(data), "sha256": sha256}
        margin = model.preview.margin // STRIDE
        models[folder] = {"files": files, "margins": {"sketch": _SKETCH_MARGIN, "preview": margin}}
    manifest = {"format": FORMAT, "opset": OPSET, "models": models}
    _write(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be made ({error.strerror}).") from error
    atomic_write_bytes(path, data)


@torch.no_grad()
def _graph(stage: _Stage, channels: int, name: str) -> bytes:
    """A stage as ONNX with weights in float16, checked against torch on random symbols."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    generator = torch.Generator().manual_seed(0)
    units = torch.randint(-16, 17, (1, channels, 3, 2), generator=generator).float()
    quality = torch.tensor([2.3])
    buffer: Any = io.BytesIO()  # torch's annotations know of file names alone
    # The exporter by tracing is called old; the new one needs another package.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            stage, (torch.zeros(1, channels, 5, 4), torch.tensor([1.0])), buffer, dynamo=False, opset_version=OPSET,
            input_names=["units", "quality"], output_names=["pixels"],
            dynamic_axes={"units": {2: "h", 3: "w"}, "pixels": {0: "rows", 1: "columns"}},
        )  # fmt: skip
    graph = _in_halves(onnx.load_from_string(buffer.getvalue()))
    onnx.checker.check_model(graph)
    found: Any = ReferenceEvaluator(graph).run(
        None, {"units": units.numpy(), "quality": quality.numpy()}
    )
    difference = float(np.abs(found[0] - stage(units, quality).numpy()).max())
    if not difference <= 255 * _TOLERANCE:
        raise WeightsError(f"{name}: the exported graph is off by {difference:.3g} of 255.")
    return graph.SerializeToString()


def _in_halves(graph: ModelProto) -> ModelProto:
    """Store weights that float16 holds exactly in float16, each behind a cast."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        halves = values.astype(np.float16)
        if values.dtype == np.float32 and values.size > 1 and (halves == values).all():
            full, tensor.name = tensor.name, f"{tensor.name}.half"
            tensor.CopyFrom(numpy_helper.from_array(halves, tensor.name))
            casts.append(helper.make_node("Cast", [tensor.name], [full], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)
    return graph
