"""One interface to everything that can be evaluated: a photo and a budget in bytes give a decoded picture.

    CodecSpec --> Workbench.open --> _Ours | _Peer | _Pics
                                           |
    Picture, max_bytes --------------------+--> Coded(data, image, quality, scale, seconds)

**A codec of others is plugged in here, in one of two ways.** If it makes a file at a quality, and a picture of a file,
it is a :class:`.Peer`: add it to ``PEERS`` in :mod:`.peer_codecs`, and it has a name on the command line, smaller sizes
and the search for a budget. Models of CompressAI become peers in :mod:`.zoo`. If it keeps to a budget by itself, as
PICS does, it is a class with ``at_most`` like those below, named in :mod:`.operating` and in ``Workbench.open``.

What is dear is done once: a process loads each network once, and two stages of one stream, or one peer at two rates,
share the files that were made of the picture under way. Nothing is shared that would change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from PIL import Image

from ..errors import ArgumentError, DependencyMissing, PeerError, WeightsError
from ..files import sha256_of
from ..images import load_image, to_pil
from ..refiner_io import shipped_refiner
from ..weights_io import weights_file
from .operating import OURS, PEER_NAMES, CodecSpec
from .peers import PEERS, Coded, PeerTrials, timed

if TYPE_CHECKING:
    from ..codec import SketchFusionCodec

__all__ = ["Codec", "Coded", "Picture", "Workbench"]

_T = TypeVar("_T")


class Picture:
    """A photo, and what was already made of it.

    Args:
        path: of the file.
        data: its content, where it is known already; None: the file is read.
        caption: content of ``NAME.txt`` beside it; None: it is read, too, if there is one.

    Raises:
        ImageError: no usable picture.
    """

    def __init__(self, path: Path, data: bytes | None = None, caption: bytes | None = None) -> None:
        self.path, self._caption = path, caption
        self.image: Image.Image = to_pil(load_image(path if data is None else data, name=str(path)))
        self._made: dict[Hashable, Any] = {}

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.image.width * self.image.height

    def caption(self) -> str:
        """A person's words about the photo, for PICS; empty where there are none.

        Raises:
            PeerError: the file beside the photo cannot be read, or is no text.
        """
        beside = self.path.with_suffix(".txt")
        try:
            if self._caption is None:
                self._caption = beside.read_bytes() if beside.is_file() else b""
            return self._caption.decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PeerError(
                f"{beside}: no caption in UTF-8 ({error}). Save it as one, or remove it."
            ) from error

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The result of ``make()``, which runs at the first call with this key only."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class Codec(Protocol):
    """A codec that is ready to run."""

    @property
    def model(self) -> str:
        """Which weights; empty for classical codecs."""

    @property
    def version(self) -> str:
        """Of the packages that do the work, besides ours."""

    def at_most(self, picture: Picture, max_bytes: int) -> Coded:
        """The best file within a budget; :class:`.BudgetTooSmall` where there is none."""


@dataclass
class Workbench:
    """What a process has loaded.

    Attributes:
        weights: our codec's weights file; None for the shipped one.
        refiner: folder of our second stage; None for the shipped one.
        device: where networks run.
    """

    weights: str | None = None
    refiner: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._open: dict[CodecSpec, Codec] = {}
        self._ours: dict[tuple[bool, str], SketchFusionCodec] = {}

    def open(self, spec: CodecSpec) -> Codec:
        """Get a codec ready; the second time it is there at once.

        Raises:
            DependencyMissing: a package or a pipeline is missing; says what to install or to pass.
            WeightsError, DownloadError: weights are missing.
        """
        if spec not in self._open:
            kinds: dict[str, Callable] = {**dict.fromkeys(OURS, _Ours), "pics": _Pics}
            self._open[spec] = kinds.get(spec.name, _Peer)(self, spec)
        return self._open[spec]

    def ours(self, name: str, dtype: str = "float32") -> SketchFusionCodec:
        """Our codec: ``"lines"``, or the one that every other stage is decoded with.

        In float32 unless asked otherwise: a table shall not depend on the processor it was made on.
        """
        from ..codec import load_codec

        lines = name == "lines"
        if (lines, dtype) not in self._ours:
            weights, refiner = ("lines", None) if lines else (self.weights, self.refiner)
            self._ours[lines, dtype] = load_codec(weights, self.device, dtype, refiner)
        return self._ours[lines, dtype]


class _Ours:
    """A stage of our receiver. The stream is made once per budget, whatever is decoded from it."""

    version = ""

    def __init__(self, bench: Workbench, spec: CodecSpec) -> None:
        self.lines, self.dtype = spec.name == "lines", str(spec.option("dtype", "float32"))
        self.codec = bench.ours(spec.name, self.dtype)
        self.stage = "preview" if self.lines else spec.name
        self.effort = int(spec.option("effort", 0))
        self.dials: dict[str, Any] = {k: v for k, v in spec.options if k in ("steps", "realism")}
        if not 0 <= self.effort <= 10 or not 0 <= self.dials.get("realism", 0) <= 1:
            raise ArgumentError(f"{spec.text!r}: effort is from 0 to 10, realism from 0 to 1.")
        self._files = [weights_file("lines" if self.lines else bench.weights)]
        if self.stage == "refined":
            most = self.codec.refiner.max_steps
            if not 1 <= self.dials.get("steps", 1) <= most:
                raise ArgumentError(f"{spec.text!r}: steps are from 1 to {most}.")
            folder = Path(bench.refiner) if bench.refiner else shipped_refiner()
            self._files += sorted(folder.rglob("*.safetensors"))

    @cached_property
    def model(self) -> str:
        """Model id, and the hash of every weights file that takes part."""
        return "-".join([f"{self.codec.model_id:#06x}", *(sha256_of(f)[:12] for f in self._files)])

    def at_most(self, picture: Picture, max_bytes: int) -> Coded:
        encode = self.codec.encode
        encoded, encode_s = picture.once(
            ("ours", self.lines, self.dtype, self.effort, max_bytes),
            lambda: timed(lambda: encode(picture.image, max_bytes=max_bytes, effort=self.effort)),
        )

        def decode() -> Image.Image:
            decoded = self.codec.decode(encoded.data, self.stage, **self.dials)
            return decoded.image.convert("RGB")  # a sketch is grey

        image, decode_s = timed(decode)
        return Coded(encoded.data, image, encoded.quality, 1.0, encode_s, decode_s)


class _Peer:
    """A codec with a range of qualities, at one size or several."""

    def __init__(self, bench: Workbench, spec: CodecSpec) -> None:
        self.scales, self.model = spec.scales, ""
        if spec.name == "zoo":
            from .zoo import zoo_peer

            model, metric = str(spec.option("model", "")), str(spec.option("metric", "mse"))
            self.peer = zoo_peer(model, metric, bench.device)
            self.model = self.peer.name
        else:
            self.peer = PEERS[PEER_NAMES[spec.name]]
        self.peer.require()
        self.version = self.peer.version()

    def at_most(self, picture: Picture, max_bytes: int) -> Coded:
        trials = picture.once(
            ("peer", self.peer.name), lambda: PeerTrials(picture.image, self.peer)
        )
        return trials.at_most(max_bytes, self.scales)


class _Pics:
    """PICS with a pipeline of one's own."""

    def __init__(self, bench: Workbench, spec: CodecSpec) -> None:
        folder = Path(str(spec.option("pipeline", "none given")))
        if not (folder / "model_index.json").is_file():
            raise DependencyMissing(
                "PICS needs a StableDiffusionControlNetPipeline with a ControlNet for white lines on black, which "
                "does not come with this library. Save one with save_pretrained, and pass "
                "pics:pipeline=FOLDER; it needs pip install 'sketchfusion-lite[priors]'."
            )
        from ..priors import import_diffusers

        diffusers = import_diffusers("decoding PICS")
        try:
            self.pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).to(bench.device)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{folder}: no PICS pipeline that loads ({reason}).") from error
        self.pipeline.set_progress_bar_config(disable=True)
        self.dials: dict[str, Any] = {"steps": spec.option("steps", 20)}
        self.dials["guidance_scale"] = spec.option("guidance", 7.5)
        self.detector = bench.ours("preview").boundaries
        self.model, self.version = folder.name, f"diffusers {diffusers.__version__}"

    def at_most(self, picture: Picture, max_bytes: int) -> Coded:
        from .pics import decode_pics, encode_pics

        image, caption = picture.image, picture.caption()
        stream, encode_s = timed(
            lambda: encode_pics(image, caption, self.detector, max_bytes=max_bytes)
        )
        painted, decode_s = timed(lambda: decode_pics(stream.data, self.pipeline, **self.dials))
        return Coded(stream.data, to_pil(painted), stream.threshold, 1.0, encode_s, decode_s)
