"""FID and KID: how far a set of decoded pictures is from the set of their originals, as Inception-v3 sees them.

    picture --> 256x256 patches --> Inception-v3 --> features, one row per patch --+
                                                                                   +--> Gaussians:     FID
    original -> 256x256 patches --> Inception-v3 --> features ---------------------+--> kernel means:  KID

Unlike the metrics of :mod:`.metrics`, these compare no picture with its original: a decoder may invent, as long as what
it invents is as common in photos. The protocol goes back to Mentzer et al. [1], patches are cut as in the public code
of MS-ILLM [4]; network and formulas are those of the package ``torch-fidelity``, the weights are the original ones,
pinned by their hash.

**Bias.** FID [2] of few patches is far too large: covariances of 2,048 features need many thousands. Kodak's 24 photos
give 192, where [1] used 28,650. Such FIDs rank codecs on the *same* photos at best, and never compare with published
ones. KID [3] is unbiased however few the patches. Its usual estimate supposes independent sets; here each patch has its
original on the other side. So these pairs are left out (a U-statistic): equal sets give exactly 0, and with many
patches nothing changes.

References:
    [1] Mentzer et al., "High-Fidelity Generative Image Compression" (HiFiC), NeurIPS 2020, appendix.
    [2] Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", NeurIPS 2017.
    [3] Binkowski et al., "Demystifying MMD GANs", ICLR 2018.
    [4] Muckley et al., "Improving Statistical Fidelity for Neural Image Compression ...", ICML 2023.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__, datasets
from ..errors import ArgumentError, DependencyMissing, ImageError
from ..files import atomic_write_bytes, text_of
from ..hardware import choose_device
from ..images import ImageSource, load_image, to_uint8
from .pictures import PictureSet

__all__ = ["Realism", "cut_patches", "inception", "measure_sets", "patch_fid", "write_sets"]

PATCH = 256  # pixels a side
MIN_PATCHES = 4
KID_SUBSETS = 100
KID_SUBSET = 1000  # patches; half of them all where there are fewer than 2,000
_BATCH = 32

Network = Callable[[Tensor], Tensor]  # uint8 (N, 3, 256, 256) -> features (N, D)


@dataclass(frozen=True)
class Realism:
    """How far two sets of pictures are apart; 0 would be: not at all.

    Attributes:
        fid: Frechet Inception distance, 0 (but for rounding) or more; biased upwards, see the module.
        kid: kernel Inception distance (cubic kernel): mean over 100 random subsets; may be slightly negative by chance.
        kid_std: standard deviation over these subsets.
        pictures, patches: in either set.
    """

    fid: float
    kid: float
    kid_std: float
    pictures: int
    patches: int


def patch_fid(
    originals: Sequence[ImageSource],
    decoded: Sequence[ImageSource],
    *,
    network: Network | None = None,
    device: str | torch.device = "cpu",
) -> Realism:
    """FID and KID between photos and what became of them. Read the module's text on bias first.

    Args:
        originals: photos, as :func:`.load_image` takes them.
        decoded: one picture per photo, in the same order and of the same size.
        network: what sees the patches; None for Inception-v3.
        device: where that runs.

    Raises:
        ArgumentError: not as many pictures as photos, one of another size, or fewer than 4 patches.
        ImageError: a picture cannot be read.
        DependencyMissing, DownloadError: package or weights are absent; says what to do.
    """
    _torch_fidelity()
    if len(originals) != len(decoded):
        raise ArgumentError(f"{len(originals)} originals, {len(decoded)} decoded pictures.")
    see = partial(_features, network or inception(device))
    return _between([*map(see, originals)], [*map(see, decoded)])


_COLUMNS = ("codec", "rate", "pictures", "patches", "fid", "kid", "kid_std", "message")


def measure_sets(
    sets: Iterable[PictureSet], network: Network, on_set: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """FID and KID of each set; the network sees each original once.

    Args:
        sets: from :func:`.pictures.kept_sets` or :func:`.pictures.sets_of_folder`.
        network: from :func:`inception`.
        on_set: receives the name of the set that comes next.

    Returns:
        Per set ``codec``, ``rate``, ``pictures``, ``patches``, ``fid``, ``kid``, ``kid_std``, and ``message``: why
        there is no value, else empty.
    """
    see, rows = partial(_features, network), []
    see_once = cache(see)
    for each in sets:
        if on_set:
            on_set(f"{each.codec} {each.rate or ''}".strip())
        row = dict.fromkeys(_COLUMNS) | {"codec": each.codec, "rate": each.rate, "message": ""}
        try:
            originals = [see_once(original) for original, _ in each.pairs]
            row |= vars(_between(originals, [see(decoded) for _, decoded in each.pairs]))
        except (ArgumentError, ImageError) as error:
            row["message"] = text_of(" ".join(str(error).split()))
        rows.append(row)
    return rows


def write_sets(path: str | Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write what :func:`measure_sets` found as CSV, with the versions that made it.

    Raises:
        OutputError: it cannot be written.
    """
    (entry,) = datasets.manifest("inception").files
    made = {"patch": PATCH, "weights": entry["sha256"][:16]}
    made |= {"torch_fidelity": _torch_fidelity().__version__, "torch": torch.__version__}
    made["library"] = __version__
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[*_COLUMNS, *made], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | made for row in rows)
    return atomic_write_bytes(path, text_of(text.getvalue()).encode())


def inception(device: str | torch.device = "cpu") -> Network:
    """The network under FID: Inception-v3 of 2015 up to its 2,048 pooled features.

    The weights are fetched if they are not in the cache (96 MB).

    Raises:
        ArgumentError: no such device here.
        DependencyMissing: torch-fidelity is not installed.
        DownloadError: the weights are neither in the cache nor to be had.
    """
    device = choose_device(device)
    fidelity = _torch_fidelity()
    data, own = io.BytesIO(datasets.inception_weights()), io.BytesIO()
    # The package unpickles whatever it is given: it gets what was read safely.
    torch.save(torch.load(data, map_location="cpu", weights_only=True), own)
    own.seek(0)
    network = fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=own
    ).to(device)

    @torch.inference_mode()
    def features(patches: Tensor) -> Tensor:
        return network(patches.to(device))[0]

    return features


def cut_patches(picture: ImageSource, size: int = PATCH) -> Tensor:
    """Patches of a picture, cut as in [4]: a grid from the corner, and again from ``size // 2`` right and below.

    What is left over at the right and below is not seen. 768x512 pixels give 3x2 and 2x1 patches of 256.

    Args:
        picture: as :func:`.load_image` takes it.
        size: pixels a side.

    Returns:
        uint8 ``(N, 3, size, size)``; N is 0 where the picture is smaller.

    Raises:
        ImageError: no usable picture.
    """
    whole = to_uint8(load_image(picture))[0].cpu()  # (3, H, W)
    grids = []
    for start in (0, size // 2):
        planes = whole[:, start:, start:]
        if min(planes.shape[1:]) >= size:
            # (3, rows, columns, size, size)
            grid = planes.unfold(1, size, size).unfold(2, size, size)
            grids.append(grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size))
    return torch.cat(grids) if grids else whole.new_empty((0, 3, size, size))


def _features(network: Network, picture: ImageSource) -> Tensor:
    """Features ``(patches, D)``, float64; ``(0, 0)`` for a picture smaller than a patch."""
    batches = cut_patches(picture).split(_BATCH)
    parts = [network(batch).cpu().double() for batch in batches if len(batch)]
    return torch.cat(parts) if parts else torch.empty((0, 0), dtype=torch.float64)


def _between(originals: list[Tensor], decoded: list[Tensor]) -> Realism:
    """Distances between features, given per picture; raises as :func:`patch_fid` does."""
    for number, (first, second) in enumerate(zip(originals, decoded, strict=True), start=1):
        if len(first) != len(second):
            raise ArgumentError(
                f"picture {number}: {len(second)} patches, its original has {len(first)}. Are they of one size?"
            )
    pictures, patches = len(originals), sum(map(len, originals))
    if patches < MIN_PATCHES:
        raise ArgumentError(
            f"{pictures} pictures give {patches} patches of {PATCH}x{PATCH} pixels; FID and KID need {MIN_PATCHES} at "
            "least, and hundreds to mean something."
        )
    first, second = (torch.cat([each for each in s if len(each)]) for s in (originals, decoded))
    mean, deviation = _kid(first, second)
    return Realism(_fid(first, second), mean, deviation, pictures, patches)


def _fid(first: Tensor, second: Tensor) -> float:
    """Frechet distance of features ``(N, D)``, by the package's formula."""
    from torch_fidelity import metric_fid

    both = torch.cat([first, second])
    if len(both) < both.shape[1]:
        # Few patches span few dimensions. Turned into a basis of these, distances stay what they are, and the
        # eigenvalues of 2048x2048 matrices, over a minute for each pair of sets, become those of small ones.
        basis = torch.linalg.qr(both.T).Q
        first, second = first @ basis, second @ basis
    statistics = [metric_fid.fid_features_to_statistics(each) for each in (first, second)]
    return metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]


def _kid(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Kernel distance of features ``(N, D)``, row by row of the same patch: mean and deviation over subsets."""
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    one, two = first.numpy(), second.numpy()
    size, random = min(KID_SUBSET, len(one) // 2), np.random.default_rng(0)
    distances = []
    for _ in range(KID_SUBSETS):
        # The same of both: pairs are on the diagonal.
        chosen = random.choice(len(one), size, replace=False)
        x, y = one[chosen], two[chosen]
        kernels = kernel_poly(x, x), kernel_poly(x, y), kernel_poly(y, y)
        distances.append(mmd2(*kernels, mmd_est="u-statistic"))
    return float(np.mean(distances)), float(np.std(distances))


def _torch_fidelity() -> ModuleType:
    try:
        import torch_fidelity
    except ImportError as error:
        raise DependencyMissing.for_extra("torch-fidelity", "fid", "FID and KID") from error
    return torch_fidelity
