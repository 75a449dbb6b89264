"""The manifest of a folder of streams: which photo each was made of, and how. It lets a run that was killed go on.

    row: photo a.jpg, sha256, settings, model --> a.skf will have these bytes, this sha256
    then the file, renamed into place         --> row and file agree: done, and never made again

A row is on the disk before its file is. Wherever a run is killed, a file without a row was not made here, and a row
without its file is work still to do.

``manifest.jsonl`` has one JSON object a line; ``pandas.read_json("manifest.jsonl", lines=True)`` reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__, journal
from ..errors import OutputError, ResultsError, SketchFusionError
from ..files import sha256_of
from .coding import Made

__all__ = ["CHANGED", "COLUMNS", "DONE", "NAME", "OTHERWISE", "TODO", "UNKNOWN", "Manifest"]

NAME = "manifest.jsonl"
SCHEMA = 1
OK, FAILED = "ok", "failed"

COLUMNS = (
    "source",  # file name of the photo
    "source_sha256",
    "output",  # file name of the stream, unique in a manifest
    "output_sha256",
    "bytes",  # of the stream
    "bpp",  # bits per pixel
    "width",  # pixels
    "height",
    "quality",  # 0 to 5, that the budget led to
    "settings",  # budget or quality, and effort: what was asked for
    "model",  # model id, and the start of the weights' sha256
    "device",  # that the networks ran on
    "seconds",  # of encoding, on its worker
    "status",  # ok or failed
    "error",  # why it failed, else empty
    "library",  # version
    "schema",
)


# What is known of an output before any work.
TODO = "to do"  # it is not there
DONE = "done"  # it is there, made of this photo with these settings and this model, every byte as recorded
UNKNOWN = "not recorded"  # it is there, but no row says what it is
CHANGED = "changed"  # it is there, but it or its photo is no longer what its row says
OTHERWISE = "made otherwise"  # it is there, made with other settings or another model


class Manifest:
    """Rows of a folder while a run adds to it; use :meth:`opened`."""

    def __init__(self, folder: Path, settings: str, model: str) -> None:
        self.path = folder / NAME
        self.settings, self.model = settings, model
        self._rows: dict[str, dict[str, Any]] = {}

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, settings: str, model: str, report: Callable[[str], None]
    ) -> Iterator[Manifest]:
        """Read the manifest of a folder and keep other runs away; at the end it has one row a file, sorted.

        Args:
            folder: of the outputs.
            settings: of this run, see :attr:`.Encoding.settings`.
            model: of this run.
            report: receives a note where a row was cut off.

        Raises:
            OutputError: another run writes into the folder, or the manifest cannot be written.
            ResultsError: the manifest is damaged, or of another release.
        """
        manifest = cls(folder, settings, model)
        path, rows = manifest.path, manifest._rows
        with journal.exclusive(path, "run"):
            found, is_torn = journal.read(path)
            for row in found:
                if not isinstance(row, dict) or row.get("schema") != SCHEMA:
                    raise ResultsError(
                        f"{path}: no manifest that this release reads. Move it away, or choose another folder."
                    )
                if set(row) != set(COLUMNS):
                    raise journal.damaged(path, f"columns {sorted(set(row) ^ set(COLUMNS))}")
                rows[row["output"]] = row
            if is_torn:
                report(f"{path.name}: its last row was cut off; that photo is encoded again")
                journal.rewrite(path, rows.values())
            try:
                yield manifest
            finally:
                if rows:
                    journal.rewrite(path, [rows[output] for output in sorted(rows)])

    def judge(self, source: Path, target: Path) -> str:
        """What is known of an output: ``TODO``, ``DONE``, ``UNKNOWN``, ``CHANGED`` or ``OTHERWISE``."""
        if not target.exists():
            return TODO
        row = self._rows.get(target.name)
        if row is None or row["status"] != OK:
            return UNKNOWN
        if _hash(target) != row["output_sha256"]:
            return CHANGED
        if (row["settings"], row["model"]) != (self.settings, self.model):
            return OTHERWISE
        return DONE if _hash(source) == row["source_sha256"] else CHANGED

    def otherwise(self, targets: Sequence[Path]) -> OutputError:
        """The error for outputs whose verdict is ``OTHERWISE``: settings are never mixed without a word."""
        row = self._rows[targets[0].name]
        more = f" and {len(targets) - 1} more" if targets[1:] else ""
        return OutputError(
            f"{targets[0]}{more}: made with {row['settings']}, model {row['model']}; this run has {self.settings}, "
            f"model {self.model}. Pass --force to replace, or choose another folder."
        )

    def add(self, source: Path, source_sha256: str, target: Path, made: Made) -> None:
        """Say what an output is about to be; call this before it is written.

        Raises:
            OutputError: the manifest cannot be written.
        """
        self._append(
            source,
            target,
            status=OK,
            source_sha256=source_sha256,
            output_sha256=hashlib.sha256(made.data).hexdigest(),
            bytes=len(made.data),
            bpp=made.bpp,
            width=made.width,
            height=made.height,
            quality=made.quality,
            device=made.device,
            seconds=round(made.seconds, 4),
        )

    def add_failure(self, source: Path, target: Path, error: SketchFusionError) -> None:
        """Record why there is no output; an output that is there keeps its row.

        Raises:
            OutputError: the manifest cannot be written.
        """
        if not target.exists():
            self._append(source, target, status=FAILED, error=" ".join(str(error).split()))

    def _append(self, source: Path, target: Path, **facts: Any) -> None:
        row = dict.fromkeys(COLUMNS) | {"source": source.name, "output": target.name, "error": ""}
        row |= {"settings": self.settings, "model": self.model}
        row |= {"library": __version__, "schema": SCHEMA, **facts}
        journal.append(self.path, row)
        self._rows[target.name] = row


def _hash(path: Path) -> str:
    """Of a file; empty where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""
