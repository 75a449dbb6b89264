"""The codecs to compare with: a name, a range of qualities, and two functions over complete files.

    RGB image --> encode(image, quality) --> bytes of a whole file --> decode --> RGB image

JPEG, WebP, AVIF and JPEG 2000 come with Pillow; JPEG XL (libjxl), HEIC (x265 in libheif) and VVC (VVenC [1], run by
ffmpeg) with the packages of the extra ``peers``. Every encoder runs at the settings that serve it best at low rates
(sizes beside them were measured on a busy 768x512 photo), and in one thread, so that a file does not depend on the
number of processors. A further codec is one more :class:`Peer` in ``PEERS``.

References
    [1] Wieckowski et al., "VVenC: An Open and Optimized VVC Encoder Implementation", ICME Workshops 2021.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import PIL
from PIL import Image, features

from ..errors import DependencyMissing, PeerError

__all__ = ["AVIF", "PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """A codec to compare with.

    Attributes:
        name: as printed.
        qualities: settings from the smallest file to the finest picture.
        encode: ``(image, quality) -> bytes`` of a complete file.
        decode: ``bytes -> RGB image``.
        available: whether it can run here.
        package: what to install when it cannot; the extra ``peers`` has it.
        version: of the packages and libraries that do the work.
        multiple: sides must be multiples of it; others are padded before, and cropped after.
        doubling: qualities that double the file, where the search for a budget starts from; None: a guess.
    """

    name: str
    qualities: Sequence[int]
    encode: Callable[[Image.Image, int], bytes]
    decode: Callable[[bytes], Image.Image]
    available: Callable[[], bool] = lambda: True
    package: str = ""
    version: Callable[[], str] = lambda: ""
    multiple: int = 1
    doubling: float | None = None

    def require(self) -> None:
        """Refuse where the codec cannot run.

        Raises:
            DependencyMissing: says what to install.
        """
        if not self.available():
            raise DependencyMissing.for_extra(self.package, "peers", f"the codec {self.name}")


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pillow_encoder(kind: str, **options: Any) -> Callable[[Image.Image, int], bytes]:
    return lambda image, quality: _save(image, kind, quality=quality, **options)


def _pillow_decode(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _encode_jpeg2000(image: Image.Image, quality: int) -> bytes:
    # OpenJPEG takes a compression ratio: 40 qualities double the bits, from 0.01 bit per pixel up.
    ratio = 24 / (0.01 * 2 ** (quality / 40))
    options = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
    return _save(image, "JPEG2000", no_jp2=True, **options)  # a bare codestream: 85 bytes less


def _pillow_peer(name: str, feature: str, qualities: range, encode: Callable) -> Peer:
    library = "libjpeg_turbo" if feature == "jpg" else feature

    def version() -> str:
        return f"Pillow {PIL.__version__}, {library} {features.version(library)}"

    def there() -> bool:
        return bool(features.check(feature))

    return Peer(name, qualities, encode, _pillow_decode, there, "pillow", version)


# Huffman tables made for the photo: 6,154 bytes at quality 1 instead of 10,327; progressive, 6,837.
JPEG = _pillow_peer("JPEG", "jpg", range(1, 101), _pillow_encoder("JPEG", optimize=True))
WEBP = _pillow_peer("WebP", "webp", range(0, 101), _pillow_encoder("WEBP", method=6))
# Speed 4 of 0-10: files are 2-7 % smaller than at Pillow's default of 6, and no larger than at 2,
# which takes four times as long (measured on "coffee" at qualities 0 to 30). Tiles are for threads.
_encode_avif = _pillow_encoder("AVIF", speed=4, max_threads=1, autotiling=False)
AVIF = _pillow_peer("AVIF", "avif", range(0, 101), _encode_avif)
JPEG2000 = _pillow_peer("JPEG 2000", "jpg_2000", range(0, 401), _encode_jpeg2000)


def _installed(module: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(module) is not None


def _encode_jpegxl(image: Image.Image, quality: int) -> bytes:
    import pillow_jxl  # noqa: F401  (registers the format with Pillow)

    # Effort 9 of 10: 10,514 bytes at quality 0 instead of 14,126 at the default of 7.
    return _save(image, "JXL", quality=quality, effort=9, num_threads=0)


def _decode_jpegxl(data: bytes) -> Image.Image:
    import pillow_jxl  # noqa: F401

    return _pillow_decode(data)


def _jpegxl_version() -> str:
    return f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}"


# x265 describes itself in 2.3 kB unless told not to.
_X265 = {"preset": "slow", "x265:info": "0", "x265:pools": "none", "x265:wpp": "0"}


def _encode_heic(image: Image.Image, quality: int) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    picture = pillow_heif.from_pillow(image)
    # The colour profile says what readers assume without it: 20 bytes less.
    picture.save(buffer, quality=quality, save_nclx_profile=False, enc_params=dict(_X265))
    return buffer.getvalue()


def _decode_heic(data: bytes) -> Image.Image:
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data)).to_pillow().convert("RGB")


def _heic_version() -> str:
    import pillow_heif

    libraries = pillow_heif.libheif_info()
    return f"pillow-heif {pillow_heif.__version__}, libheif {libraries['libheif']}, {libraries['HEIF']}"


_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
# An all-intra stream (-g 1) without what only moving pictures need: 115 bytes less.
_VVENC = ["-c:v", "libvvenc", "-qpa", "0", "-preset", "slow", "-g", "1", "-threads", "1"]
_VVENC_PARAMS = "hrdparameterspresent=0:decodedpicturehash=0"


def _encode_vvc(image: Image.Image, quality: int) -> bytes:
    size = f"{image.width}x{image.height}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i", "-", "-frames:v", "1"]
    colours = ["-sws_flags", _FLAGS, "-pix_fmt", "yuv420p10le"]
    target = [*_VVENC, "-qp", str(quality), "-vvenc-params", _VVENC_PARAMS, "-f", "vvc", "-"]
    return _ffmpeg([*source, *colours, *target], image.convert("RGB").tobytes())


def _decode_vvc(data: bytes) -> Image.Image:
    source = ["-threads", "1", "-f", "vvc", "-i", "-", "-frames:v", "1"]
    target = ["-sws_flags", _FLAGS, "-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "-"]
    return _pillow_decode(_ffmpeg([*source, *target], data))


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    """Pipe ``data`` through ffmpeg.

    Raises:
        PeerError: it failed; with the first line it said.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise PeerError(f"VVC: ffmpeg failed ({said[0]}).")
    return done.stdout


def _vvc_version() -> str:
    import imageio_ffmpeg

    package = metadata.version("imageio-ffmpeg")
    return f"imageio-ffmpeg {package}, ffmpeg {imageio_ffmpeg.get_ffmpeg_version()} (libvvenc)"


JPEGXL = Peer(  # quality 100 would be lossless
    "JPEG XL", range(0, 100), _encode_jpegxl, _decode_jpegxl,
    _installed("pillow_jxl"), "pillow-jxl-plugin", _jpegxl_version,
)  # fmt: skip
HEIC = Peer(
    "HEIC", range(0, 101), _encode_heic, _decode_heic,
    _installed("pillow_heif"), "pillow-heif", _heic_version,
)  # fmt: skip
# QP: the highest makes the smallest file; at 16, VVenC fails on tiny pictures. 4:2:0 has no odd sides. A file doubles
# over 4 steps below 0.1 bpp; above, over 6.
VVC = Peer(
    "VVC", range(63, 21, -1), _encode_vvc, _decode_vvc,
    _installed("imageio_ffmpeg"), "imageio-ffmpeg", _vvc_version, multiple=2, doubling=4,
)  # fmt: skip

PEERS = {peer.name: peer for peer in (JPEG, WEBP, AVIF, JPEG2000, JPEGXL, HEIC, VVC)}
