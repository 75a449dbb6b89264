"""Real photos that installed packages bring along: no download, no copy in this repository.

    "coffee"       --> the file inside scikit-image --+--> Photo(name, image, credit, licence)
    "holiday.jpg"  --> your own picture --------------+

Only photos that ship *inside* their package are listed; scikit-image fetches its others on demand.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from . import checks
from .errors import DependencyMissing, ImageError
from .images import load_image, to_pil

__all__ = ["SAMPLES", "Photo", "Sample", "load_photo", "packaged", "sample_path"]


@dataclass(frozen=True)
class Sample:
    """Where a sample photo lies, and whose it is.

    Attributes:
        module, file: the package as imported, and the path inside it.
        package: the package as installed.
        credit, licence: as its package states them.
    """

    module: str
    file: str
    package: str
    credit: str
    licence: str


def _skimage(file: str, credit: str, licence: str) -> Sample:
    return Sample("skimage", f"data/{file}", "scikit-image", credit, licence)


def _sklearn(file: str, credit: str) -> Sample:
    return Sample("sklearn", f"datasets/images/{file}", "scikit-learn", credit, "CC BY 2.0")


SAMPLES = {
    "coffee": _skimage("coffee.png", "Rachel Michetti", "CC0"),
    "astronaut": _skimage("astronaut.png", "NASA", "public domain"),
    "chelsea": _skimage("chelsea.png", "Stefan van der Walt", "CC0"),
    "rocket": _skimage("rocket.jpg", "SpaceX", "public domain"),
    "china": _sklearn("china.jpg", "danielbuechele"),
    "flower": _sklearn("flower.jpg", "danielbuechele, vultilion"),
}


@dataclass(frozen=True)
class Photo:
    """A loaded photo.

    Attributes:
        name: short name, fit for file names.
        image: upright, 8-bit RGB.
        credit, licence: of a sample photo, else empty.
    """

    name: str
    image: Image.Image
    credit: str = ""
    licence: str = ""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.image.width * self.image.height


def sample_path(name: str) -> Path:
    """Path of a sample photo, one of ``SAMPLES``.

    Raises:
        ImageError: no sample of this name.
        DependencyMissing: its package is not installed, or ships without it.
    """
    if checks.text("name", name) not in SAMPLES:
        raise ImageError(f"name={name!r}: no such sample photo. There are: {', '.join(SAMPLES)}.")
    sample = SAMPLES[name]
    return packaged(sample.module, sample.file, sample.package)


def packaged(module: str, file: str, package: str) -> Path:
    """Path of a file inside an installed package, without importing it.

    Raises:
        DependencyMissing: the package is not installed, or ships without the file.
    """
    spec = importlib.util.find_spec(module)  # does not import the package
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / file).is_file():
            return path
    raise DependencyMissing.for_extra(package, "workbook", f"the picture {Path(file).name!r}")


def load_photo(photo: str | Path) -> Photo:
    """Load a sample photo by its name, or any picture file by its path.

    Raises:
        ArgumentError: ``photo`` is no text and no path.
        ImageError: neither a sample nor a readable picture.
        DependencyMissing: the package of the sample is not installed.
    """
    path = checks.path("photo", photo)
    if str(photo) in SAMPLES:
        sample = SAMPLES[str(photo)]
        image = to_pil(load_image(sample_path(str(photo))))
        return Photo(str(photo), image, sample.credit, sample.licence)
    if not os.path.exists(path):
        raise ImageError(
            f"{photo}: neither a file nor a sample photo. The samples are: {', '.join(SAMPLES)}."
        )
    return Photo(path.stem, to_pil(load_image(path)))
