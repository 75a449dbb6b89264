"""``sketchfusion info``. Nothing about a stream imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .. import __version__, bitstream
from ..errors import WeightsError
from .console import note, say, show
from .options import KeepGoing, MaxPixels, option
from .pipes import label, stream_from

_STREAM = "Stream to describe, - for standard input; without one, this installation is described."
_WEIGHTS = "Weights file (.safetensors) whose model id to compare. Default: the shipped one."


def info(
    source: Annotated[Path | None, typer.Argument(metavar="[IN.skf]", help=_STREAM)] = None,
    as_json: Annotated[bool, option("Print one JSON object and nothing else.", "--json")] = False,
    weights: Annotated[Path | None, option(_WEIGHTS)] = None,
    max_pixels: MaxPixels = bitstream.DEFAULT_MAX_PIXELS,
    keep_going: KeepGoing = False,
) -> None:
    """Account for every byte of a stream: header fields, sections, what is missing.

    Needs neither weights nor torch. A truncated stream is described as far as it goes. Without a stream it says which
    models are installed, and on what device and in which numbers networks run here.
    """
    if source is None:
        here = describe_installation(weights)
        rows = [f"{name}: {value}" for name, value in here.items()]
        say(json.dumps(here) if as_json else "\n".join(rows))
        return
    data, source = stream_from(source, max_pixels), label(source)
    stream = bitstream.parse(data, max_pixels, str(source), keep_going)
    facts = describe(source, data, stream, weights)
    if as_json:
        say(json.dumps(facts))
        return
    say(
        f"{source.name}: {facts['width']}x{facts['height']}, {facts['bytes']} bytes, "
        f"{facts['bpp']:.4f} bpp, quality {facts['quality']:.2f}"
    )
    say(f"model {facts['model_id']}: {_verdict(facts['weights'])}")
    table = Table("section")
    for column in ("bytes", "share"):
        table.add_column(column, justify="right")
    for name, section in facts["sections"].items():
        shown = f"{name} (missing)" if name in facts["missing"] else name
        table.add_row(shown, str(section["bytes"]), f"{100 * section['share']:.1f} %")
    table.add_section()
    table.add_row("total", str(len(data)), "100.0 %")
    show(table)
    if facts["missing"]:
        note(f"warning: {missing_text(source, facts['missing'], keep_going)}")


def describe_installation(weights: Path | None = None) -> dict[str, str]:
    """Version, models and what ``--device auto --dtype auto`` means here; the one thing here that imports torch."""
    import torch

    from ..hardware import choose_device, choose_dtype, describe_choice

    device = choose_device("auto")
    models = {name: f"{own:#06x}" for name, own in _codecs(weights).items()}
    networks = describe_choice(device, choose_dtype("auto", device))
    threads = f"{torch.get_num_threads()} threads"
    return {"version": __version__, **models, "networks (auto)": networks, "processor": threads}


def missing_text(source: Path, missing: Sequence[str], keep_going: bool) -> str:
    """Say what a truncated or damaged stream lacks."""
    what = "truncated or damaged" if keep_going else "truncated"
    return f"{source}: {what}, without {' and '.join(missing)} section; it decodes coarser"


def describe(
    path: Path, data: bytes, stream: bitstream.Stream, weights: Path | None = None
) -> dict[str, Any]:
    """Everything that ``info --json`` prints of a stream, checked against ``weights``, None for the shipped ones."""
    header = stream.header
    return {
        "file": str(path),
        "bytes": len(data),
        "format_version": bitstream.VERSION,
        "width": header.width,
        "height": header.height,
        "bpp": len(data) * 8 / header.pixels,
        "quality": header.quality,
        "quality_index": header.quality_index,
        "model_id": f"{header.model_id:#06x}",
        "weights": _matching_weights(header.model_id, weights),
        "sections": {
            name: {"bytes": size, "share": size / len(data)}
            for name, size in stream.section_bytes.items()
        },
        "missing": list(stream.missing),
    }


def _matching_weights(model_id: int, weights: Path | None) -> dict[str, Any] | None:
    """Whether the weights at hand decode a stream of ``model_id``; None if there are none."""
    for name, own in sorted(_codecs(weights).items(), key=lambda item: item[1] != model_id):
        return {"file": name, "model_id": f"{own:#06x}", "decodes": own == model_id}
    return None


def _codecs(weights: Path | None) -> dict[str, int]:
    """Model id of every codec among a weights file, or the shipped ones."""
    shipped = Path(__file__).parents[1] / "weights"
    files = [weights] if weights else sorted(shipped.glob("*.safetensors"))
    found = {file.name: entropy_model_id(file) for file in files}
    return {name: own for name, own in found.items() if own is not None}


def _verdict(weights: dict[str, Any] | None) -> str:
    if weights is None:
        return "no weights at hand to compare with"
    if weights["decodes"]:
        return f"{weights['file']} decodes it"
    return f"not decodable with {weights['file']}, which is model {weights['model_id']}"


def entropy_model_id(weights: Path) -> int | None:
    """The id of a weights file, as ``integer.model_id`` computes it, but without torch.

    Returns:
        The id, or None if the file holds no codec.

    Raises:
        WeightsError: missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    digest, prefix, found = hashlib.sha256(), "integer.", False
    try:
        with safe_open(weights, framework="numpy") as file:
            for name in sorted(key for key in file.keys() if key.startswith(prefix)):  # noqa: SIM118
                array, found = file.get_tensor(name), True
                digest.update(f"{name[len(prefix) :]}torch.{array.dtype}{array.shape}".encode())
                digest.update(array.tobytes())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{weights}: missing, damaged or not safetensors ({error}).") from error
    return int.from_bytes(digest.digest()[:2], "little") if found else None
