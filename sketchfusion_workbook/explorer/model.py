"""What the explorer knows and does, without a single widget: settings go in, snapshots come out.

    update(bpp=0.06) --> quick lane: photo -> latent (once) -> rate search -> preview ----> snapshot
                                                                        |
               slow lane: effort -> refiner's steps -> AVIF -> metrics <+ -- after each --> snapshot

Each lane is a thread that works on the newest settings alone. Work for older ones ends at the next step of the
search or the refiner, or the next metric, so that a slider's answer waits for nothing that nobody wants any more.
Every snapshot is immutable, and an older one never follows a newer one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import isnan
from time import perf_counter
from typing import Any

from PIL import Image
from torch import Tensor

from sketchfusion_lite.codec import SketchFusionCodec
from sketchfusion_lite.errors import ArgumentError, BudgetTooSmall, SketchFusionError
from sketchfusion_lite.evaluation.metrics import Metrics, measure
from sketchfusion_lite.evaluation.peers import PeerTrials
from sketchfusion_lite.hardware import describe_choice
from sketchfusion_lite.images import to_pil
from sketchfusion_lite.latent_search import ITERATIONS
from sketchfusion_lite.rate_search import Trial, search_rate
from sketchfusion_lite.results import Encoded

from .latest import Latest, Superseded
from .photos import open_photo
from .state import Settings, Snapshot, Upload

__all__ = ["LIVE_METRICS", "ExplorerModel"]

LIVE_METRICS = ("psnr", "ms_ssim", "lpips_alex")
# Seconds of a step of the search over those of a refined decode in one step, measured on two cores (600 x 400 and
# 451 x 300 pixels: 1.8 to 2.3).
_STEP_OVER_DECODE = 2.1

_Dial = tuple[bytes, int, float]  # file, steps, realism

_log = logging.getLogger(__name__)


class _Opened:
    """A photo with everything that is computed once for it."""

    def __init__(self, codec: SketchFusionCodec, source: str | Upload) -> None:
        self.source = source
        self.photo, self.remark = open_photo(source)
        self.trial: Trial = codec.trial(self.photo.image)
        self.peers = PeerTrials(self.photo.image)


class ExplorerModel:
    """Keeps a snapshot in step with the settings.

    Args:
        codec: that encodes and decodes; from here on it belongs to the model's threads.
        settings: to begin with. Nothing is computed before :meth:`update`.
        on_change: called with every new snapshot, from the model's threads, one call at a time.
        metrics: to measure, cheap ones first; out of :data:`~sketchfusion_lite.evaluation.metrics.METRICS`.
    """

    def __init__(
        self,
        codec: SketchFusionCodec,
        settings: Settings | None = None,
        on_change: Callable[[Snapshot], None] = lambda snapshot: None,
        metrics: tuple[str, ...] = LIVE_METRICS,
    ) -> None:
        self.codec, self.on_change, self.metrics = codec, on_change, metrics
        self._lock = threading.RLock()
        self._wanted = Snapshot(settings or Settings())  # newest settings
        self._shown = self._wanted
        self._opened: _Opened | None = None
        self._refined: dict[_Dial, Image.Image] = {}  # the last one, by what it is of
        self._decoding = 0.0  # seconds per pixel of a decode; 0: none was timed
        self._quick: Latest[Snapshot] = Latest(self._guarded(self._make_preview), "skf-quick")
        self._slow: Latest[Snapshot] = Latest(self._guarded(self._make_rest), "skf-slow")

    @property
    def settings(self) -> Settings:
        """The newest, whether already answered or not."""
        return self._wanted.settings

    @property
    def snapshot(self) -> Snapshot:
        """The last one that was published."""
        return self._shown

    def update(self, **changes: Any) -> None:
        """Change settings by name; returns at once.

        Raises:
            TypeError: no such setting.
        """
        with self._lock:
            wanted = replace(self._wanted.settings, **changes)
            self._wanted = Snapshot(wanted, self._wanted.version + 1)
            self._quick.submit(self._wanted)

    def stop(self) -> None:
        """End a search at its next step; the file of before stays. Returns at once."""
        if self._shown.searching:
            self.update(effort=self._shown.effort)

    def expected_seconds(self, effort: int) -> float | None:
        """How long a search for the photo on show would take here, in seconds; None before anything was timed.

        Args:
            effort: 0 to 10.
        """
        photo, pace = self._shown.photo, _STEP_OVER_DECODE * self._decoding
        return ITERATIONS[effort] * pace * photo.pixels if pace and photo else None

    def wait(self, timeout: float | None = None) -> Snapshot:
        """Block until all is done (or ``timeout`` seconds are over), and return the snapshot."""
        if self._quick.wait(timeout):  # it hands over to the slow lane before it is done
            self._slow.wait(timeout)
        return self._shown

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            self._wanted = replace(self._wanted, version=self._wanted.version + 1)
        self._quick.close()
        self._slow.close()

    # ----------------------------------------------------------------------------------------------

    def _publish(self, snapshot: Snapshot) -> Snapshot:
        """Show a snapshot, unless a newer one is wanted.

        Raises:
            Superseded: then.
        """
        with self._lock:
            if snapshot.version != self._wanted.version:
                raise Superseded
            self._shown = snapshot
            self.on_change(snapshot)
        return snapshot

    def _guarded(self, work: Callable[[Snapshot], None]) -> Callable[[Snapshot], None]:
        """Work whose errors become snapshots: a thread that dies would be a page that froze."""

        def guarded(snapshot: Snapshot) -> None:
            try:
                work(snapshot)
            except Superseded:
                pass
            except Exception as error:
                message = str(error)
                if not isinstance(error, SketchFusionError):
                    _log.exception("the explorer met an error that it does not know")
                    message = f"unexpected {type(error).__name__}: {error}"
                with suppress(Exception):  # on_change itself may be what fails
                    self._publish_old(snapshot, error=message)

        return guarded

    def _publish_old(self, wanted: Snapshot, activity: str = "", error: str = "") -> None:
        """The pictures of before, with newer settings and a word on them."""
        old = replace(self._shown, settings=self.settings, version=wanted.version)
        self._publish(replace(old, activity=activity, progress=(0, 0), error=error))

    def _make_preview(self, wanted: Snapshot) -> None:
        """The quick lane: everything up to the preview."""
        started, settings = perf_counter(), wanted.settings
        if self._opened is None or self._opened.source != settings.photo:
            self._publish_old(wanted, activity="opening the photo")
            self._opened = self._open(wanted)
        opened = self._opened
        budget = settings.max_bytes or int(settings.bpp * opened.photo.pixels / 8)
        last = self._shown
        same = last.photo is opened.photo and last.budget == budget and last.decoded is not None
        if (
            last.effort and not settings.effort
        ):  # back from a search: the encoder's file is made anew
            same = False
        if same:
            _, encoded, decoded = last.made
        else:
            encoded = self._encode(opened, budget)
            decoded = self.codec.decode(encoded.data, "preview")
        effort = last.effort if same else 0
        refined = self._refined.get((encoded.data, settings.steps, settings.realism))
        kept = refined is not None and refined is last.refined
        snapshot = replace(
            wanted,
            photo=opened.photo,
            remark=opened.remark,
            budget=budget,
            encoded=encoded,
            decoded=decoded,
            effort=effort,
            networks=describe_choice(self.codec.device, self.codec.dtype),
            refined=refined,
            steps_done=settings.steps if refined else 0,
            peer=last.peer if same else None,
            scores={k: v for k, v in last.scores.items() if kept or k != "refined"} if same else {},
            activity="refining" if effort == settings.effort else "searching",
            preview_seconds=last.preview_seconds if same else perf_counter() - started,
        )
        self._slow.submit(self._publish(snapshot))

    def _encode(self, opened: _Opened, budget: int) -> Encoded:
        try:
            return search_rate(opened.trial, budget)
        except BudgetTooSmall as error:  # whose own words are those of arguments
            raise ArgumentError(
                f"{opened.photo.name}: {budget:,} bytes are too few. This photo needs at least "
                f"{error.needed_bytes:,}: raise the budget, or take a smaller photo."
            ) from error

    def _open(self, wanted: Snapshot) -> _Opened:
        """Open the photo; if it is unusable, the one before stays, so that the sliders keep working."""
        try:
            return _Opened(self.codec, wanted.settings.photo)
        except SketchFusionError:
            with self._lock:
                if self._opened is not None and wanted.version == self._wanted.version:
                    settings = replace(wanted.settings, photo=self._opened.source)
                    self._wanted = replace(wanted, settings=settings)
            raise

    def _make_rest(self, snapshot: Snapshot) -> None:
        """The slow lane: a better latent, the refined picture, then the peer, then the metrics."""
        if snapshot.effort != snapshot.settings.effort:
            snapshot = self._search(snapshot)
        if snapshot.refined is None:
            snapshot = self._refine(snapshot)
        if snapshot.peer is None:
            snapshot = self._publish(replace(snapshot, activity="making AVIF"))
            assert self._opened is not None  # its preview is made
            with suppress(BudgetTooSmall):  # no AVIF of this photo fits; the view says so
                snapshot = replace(snapshot, peer=self._opened.peers.at_most(snapshot.budget))
            snapshot = self._publish(snapshot)
        self._publish(replace(self._measure(snapshot), activity=""))

    def _search(self, snapshot: Snapshot) -> Snapshot:
        """Search a better latent within the same budget; says how long it will take."""
        effort, photo = snapshot.settings.effort, snapshot.made[0]

        def on_progress(done: int, total: int, numbers: dict[str, float]) -> None:
            activity = f"effort {effort}: step {done} of {total}, {numbers['seconds']:.0f} s left"
            self._publish(replace(snapshot, activity=activity, progress=(done, total)))

        encoded = self.codec.encode(
            photo.image, max_bytes=snapshot.budget, effort=effort, on_progress=on_progress
        )
        decoded = self.codec.decode(encoded.data, "preview")
        scores = {k: v for k, v in snapshot.scores.items() if k == "AVIF"}
        snapshot = replace(snapshot, encoded=encoded, decoded=decoded, effort=effort, scores=scores)
        return self._publish(replace(snapshot, refined=None, steps_done=0, activity="refining"))

    def _refine(self, snapshot: Snapshot) -> Snapshot:
        """Refine, and show every step."""
        settings, began = snapshot.settings, perf_counter()
        photo, encoded, _ = snapshot.made

        def on_step(done: int, tensor: Tensor) -> None:
            if done == 1:
                self._decoding = (perf_counter() - began) / photo.pixels
            picture, progress = to_pil(tensor), (done, settings.steps)
            self._publish(replace(snapshot, refined=picture, steps_done=done, progress=progress))

        steps, realism = settings.steps, settings.realism
        refined = self.codec.decode(
            encoded.data, "refined", steps=steps, realism=realism, on_step=on_step
        ).image
        self._refined = {(encoded.data, steps, realism): refined}
        return self._publish(replace(snapshot, refined=refined, steps_done=settings.steps))

    def _measure(self, snapshot: Snapshot) -> Snapshot:
        """Add the metrics one by one."""
        photo, _, decoded = snapshot.made
        pictures = {"preview": decoded.image}
        if snapshot.refined is not None:
            pictures["refined"] = snapshot.refined
        if snapshot.peer is not None:
            pictures["AVIF"] = snapshot.peer.image
        for metric, (name, picture) in product(self.metrics, pictures.items()):
            known = snapshot.scores.get(name, Metrics())
            if isnan(getattr(known, metric)):  # else measured before
                found = getattr(measure(photo.image, picture, (metric,)), metric)
                scores = {**snapshot.scores, name: replace(known, **{metric: found})}
                snapshot = self._publish(replace(snapshot, scores=scores, activity="measuring"))
        return snapshot
