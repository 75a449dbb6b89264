"""Notebook 03: coding with float networks, to see how that fails; in JavaScript; starts of a file; where its bits go.

    float networks --FloatNets--> SketchCoder --stream--> SketchCoder(other threads, sums, data type) --> wrong numbers
    data --cut at n bytes--> decode --> preview --> metrics     for several n
    Symbols --tables--> bits of each symbol --> sum over channels --> (h, w) per group

A decoder whose networks differ from the encoder's in one rounded mean or table row reads garbage from there on, and
cannot know: the reason for :mod:`sketchfusion_lite.integer`.

References
    [1] Balle et al., "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sketchfusion_lite.bitstream import SECTIONS, parse
from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.coding import SketchCoder, Symbols
from sketchfusion_lite.entropy import SCALE_LEVELS, EntropyModel
from sketchfusion_lite.evaluation.metrics import measure
from sketchfusion_lite.integer import UNITS_PER_Y, IntegerConv, IntegerEntropyModel, Tables

from .sketch_encoder import unfold

__all__ = [
    "FloatNets",
    "bits_per_place",
    "measure_prefixes",
    "misread",
    "on_device",
    "prefix_lengths",
    "reversed_sums",
    "run_node",
]


class FloatNets:
    """What a :class:`.SketchCoder` asks of an entropy model, answered by float networks.

    Args:
        nets: the trained networks; copied.
        tables: frequency tables to code with, the shipped ones for a fair comparison.
        dtype: data type that the copy computes in.
    """

    carrier = torch.float64  # of decoded values, whatever the networks compute in

    def __init__(
        self, nets: EntropyModel, tables: Tables, dtype: torch.dtype = torch.float32
    ) -> None:
        self.nets, self.tables, self.dtype = copy.deepcopy(nets).to(dtype), tables, dtype
        self.structure_channels, self.tone_channels = nets.structure_channels, nets.tone_channels
        self.hyper_channels = nets.prior.channels if nets.prior is not None else 0

    @torch.no_grad()
    def psi(self, z_hat: Tensor, quality_index: int, height: int, width: int) -> Tensor:
        """Hyper features, see :meth:`.IntegerEntropyModel.psi`; floats ``(1, P, height, width)``."""
        quality = torch.tensor([quality_index * 5 / 255], dtype=self.dtype)
        return self.nets.synthesis(z_hat.to(self.dtype), quality)[..., :height, :width]

    @torch.no_grad()
    def predict(
        self, group: str, psi: Tensor, known: Tensor | None, seen: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means and rows, rounded, see :meth:`.IntegerEntropyModel.predict`."""
        if known is None:
            known = torch.zeros(1, self.structure_channels, *seen.shape)
        values, mask = (known / UNITS_PER_Y).to(self.dtype), seen.to(self.dtype)[None, None]
        net = self.nets.structure_context if group == "structure" else self.nets.tone_context
        means, rows = net(psi, values, mask)
        numbers = UNITS_PER_Y * means, rows.clamp(0, SCALE_LEVELS - 1)
        means, rows = (x[0].flatten(1)[:, places].round().long() for x in numbers)
        return means, rows


def reversed_sums(nets: nn.Module) -> nn.Module:
    """A copy whose convolutions, float or integer, add up their input channels in the opposite order."""
    nets = copy.deepcopy(nets)
    for layer in nets.modules():
        if isinstance(layer, nn.Conv2d | IntegerConv):
            layer.weight.data = layer.weight.data.flip(1)
            for name, axis in {"forward": 1, "points": 0}.items():
                if plain := getattr(layer, name, None):
                    setattr(layer, name, lambda x, f=plain, axis=axis: f(x.flip(axis)))
    return nets


def on_device(nets: nn.Module, device: str) -> nn.Module:
    """A copy whose convolutions run on another device; what goes in and comes out stays here."""
    nets = copy.deepcopy(nets)
    for layer in nets.modules():
        if isinstance(layer, nn.Conv2d | IntegerConv):
            moved = copy.deepcopy(layer).to(device)
            for name in {"forward", "points"} & {*dir(layer)}:
                there = getattr(moved, name)
                setattr(layer, name, lambda x, there=there: there(x.to(device)).cpu())
    return nets


def run_node(program: str, folder: str | Path, given: bytes, *arguments: str | Path) -> bytes:
    """What a JavaScript module writes to its standard output under Node; empty where that cannot run.

    Args:
        program: source of the module.
        folder: that its imports start from.
        given: standard input.
        arguments: files, named from here.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    node = shutil.which("node")
    if not node or not Path(folder).is_dir():
        return b""
    if subprocess.run([node, "-e", "[].at(0)"], capture_output=True).returncode:  # before 16.6
        return b""
    paths = [str(Path(a).resolve()) for a in arguments]
    command = [node, "--input-type=module", "-e", program, *paths]
    return subprocess.run(
        command, cwd=folder, input=given, stdout=subprocess.PIPE, check=True
    ).stdout


def misread(
    entropy: IntegerEntropyModel | FloatNets, payload: bytes, quality_index: int, y_hat: Tensor
) -> Tensor:
    """Where a decoder with these networks reads something else than was sent.

    Args:
        entropy: the decoder's.
        payload: the whole rANS stream.
        quality_index: it was made at, 0 to 255.
        y_hat: what the encoder coded ``(1, C, h, w)``, in units of 1/8.

    Returns:
        Boolean, of the shape of ``y_hat``.
    """
    coder = SketchCoder(entropy, strict=False)  # it would stop at what is to be counted
    found = coder.decode(payload, quality_index, y_hat.shape[2], y_hat.shape[3], ())
    return found != y_hat


def prefix_lengths(data: bytes, count: int = 12) -> list[int]:
    """Lengths at which to cut a whole file: evenly spread, and both sides of every section's end.

    Args:
        data: a whole ``.skf`` file.
        count: lengths between the shortest start that decodes and the whole, at least 2.

    Returns:
        Increasing lengths in bytes, the first without any but the hyper section, the last ``len(data)``.
    """
    used = parse(data).section_bytes
    end = used["header"] + 2 + used["hyper"]
    lengths = {end, *np.linspace(end, len(data), count).astype(int).tolist()}
    for section in SECTIONS[1:]:
        if used[section]:
            end += used[section] + 2
            lengths |= {end - 1, end}
    return sorted(lengths)


def measure_prefixes(
    codec: SketchFusionCodec,
    original: Image.Image,
    data: bytes,
    lengths: Iterable[int] | None = None,
    only: Sequence[str] = ("psnr", "lpips_alex"),
) -> list[tuple[int, dict[str, float]]]:
    """Decode the starts of a file and measure their previews.

    Args:
        codec: made the file.
        original: the photo.
        data: a whole ``.skf`` file.
        lengths: bytes that arrive; None for those of :func:`prefix_lengths`.
        only: metrics.

    Returns:
        (length in bytes, metric -> value), in the order of ``lengths``. Equal pictures are measured once.
    """
    measured: dict[bytes, dict[str, float]] = {}
    points = []
    for length in prefix_lengths(data) if lengths is None else lengths:
        preview = codec.decode(data[:length], "preview").image
        key = preview.tobytes()
        if key not in measured:
            scores = measure(original, preview, only=only).as_dict()
            measured[key] = {name: scores[name] for name in only}
        points.append((length, measured[key]))
    return points


def bits_per_place(symbols: Symbols, tables: Tables) -> dict[str, Tensor]:
    """Ideal code length of each place of the sketch, 16x16 pixels of the photo.

    Args:
        symbols: from :meth:`.SketchCoder.quantise`.
        tables: of the entropy model that predicted them.

    Returns:
        ``"structure"`` and ``"tone"`` -> bits ``(h, w)``, float64; each sums to its entry of ``symbols.bits``.
    """
    sides = symbols.y_hat.shape[-2:]
    return {
        name: unfold(tables.bits(values, rows).double(), *sides).sum(dim=0)
        for name, values, rows in zip(
            ("structure", "tone"), symbols.symbols[1:], symbols.rows[1:], strict=True
        )
    }
