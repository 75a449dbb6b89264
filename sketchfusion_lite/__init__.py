"""SketchFusion-Lite: generative image compression at ultra-low rate.

>>> from sketchfusion_lite import load_codec
>>> codec = load_codec()                                  # doctest: +SKIP
>>> encoded = codec.encode("photo.jpg", bpp=0.045)        # doctest: +SKIP
>>> codec.decode(encoded.data).image.save("photo.png")    # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import SketchFusionError

if TYPE_CHECKING:
    from .codec import Decoded, Encoded, SketchFusionCodec, StreamInfo, load_codec, read_info

__version__ = "0.8.0"
__all__ = [
    "Decoded",
    "Encoded",
    "SketchFusionCodec",
    "SketchFusionError",
    "StreamInfo",
    "__version__",
    "load_codec",
    "read_info",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: `sketchfusion --help` and `info` should not wait for it.
    if name in __all__:
        return getattr(import_module(".codec", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
