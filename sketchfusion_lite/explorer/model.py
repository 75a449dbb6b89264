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
from time import perf_counter

from torch import Tensor

from ..codec import SketchFusionCodec
from ..errors import ArgumentError, BudgetTooSmall, SketchFusionError
from ..evaluation.metrics import Metrics, measure
from ..evaluation.peers import PeerTrials
from ..hardware import describe_choice
from ..images import to_pil
from ..rate_search import Trial, search_rate
from .latest import Latest, Superseded
from .photos import open_photo
from .state import Settings, Snapshot, Upload

__all__ = ["LIVE_METRICS", "ExplorerModel"]

LIVE_METRICS = ("psnr", "ms_ssim", "lpips_alex")

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

    def update(self, **changes: object) -> None:
        """Change settings by name; returns at once.

        Raises:
            TypeError: no such setting.
        """
        with self._lock:
            wanted = replace(self._wanted.settings, **changes)
            self._wanted = Snapshot(wanted, self._wanted.version + 1)
            self._quick.submit(self._wanted)

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
            self._check(snapshot)
            self._shown = snapshot
            self.on_change(snapshot)
        return snapshot

    def _check(self, snapshot: Snapshot) -> None:
        if snapshot.version != self._wanted.version:
            raise Superseded

    def _guarded(self, work: Callable[[Snapshot], None]) -> Callable[[Snapshot], None]:
        """Work whose errors become snapshots: a thread that dies would be a page that froze."""

        def guarded(snapshot: Snapshot) -> None:
            try:
                try:
                    work(snapshot)
                except SketchFusionError as error:
                    self._fail(snapshot, str(error))
                except Superseded:
                    raise
                except Exception as error:
                    _log.exception("the explorer met an error that it does not know")
                    self._fail(snapshot, f"unexpected {type(error).__name__}: {error}")
            except Superseded:
                pass
            except Exception:  # of on_change, which was called twice by now
                _log.exception("the explorer cannot show its snapshots")

        return guarded

    def _fail(self, snapshot: Snapshot, message: str) -> None:
        self._publish(
            replace(
                self._shown,
                settings=self.settings,
                version=snapshot.version,
                activity="",
                error=message,
            )
        )

    def _make_preview(self, wanted: Snapshot) -> None:
        """The quick lane: everything up to the preview."""
        started, settings = perf_counter(), wanted.settings
        opened = self._opened
        if opened is None or opened.source != settings.photo:
            self._publish(
                replace(
                    self._shown,
                    settings=settings,
                    version=wanted.version,
                    error="",
                    activity="opening the photo",
                )
            )
            self._opened = opened = self._open(wanted)
        budget = settings.max_bytes or int(settings.bpp * opened.photo.pixels / 8)
        if budget < 1:
            raise ArgumentError(f"a budget of {budget} bytes: give 1 or more.")
        last = self._shown
        same = (
            last.photo is opened.photo
            and last.budget == budget
            and last.decoded is not None
            and last.effort == settings.effort
        )
        if same:
            encoded, decoded = last.encoded, last.decoded
        else:
            encoded = search_rate(opened.trial, budget)
            decoded = self.codec.decode(encoded.data, "preview")
        snapshot = replace(
            wanted,
            photo=opened.photo,
            remark=opened.remark,
            budget=budget,
            encoded=encoded,
            decoded=decoded,
            effort=settings.effort if same else 0,
            networks=describe_choice(self.codec.device, self.codec.dtype),
            peer=last.peer if same else None,
            scores={k: v for k, v in last.scores.items() if k != "refined"} if same else {},
            activity="refining",
            preview_seconds=perf_counter() - started,
        )
        self._slow.submit(self._publish(snapshot))

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
        self._check(snapshot)
        if snapshot.effort != snapshot.settings.effort:
            snapshot = self._search(snapshot)
        snapshot = self._refine(snapshot)
        if snapshot.peer is None:
            snapshot = self._publish(replace(snapshot, activity="AVIF"))
            with suppress(BudgetTooSmall):  # no AVIF of this photo fits; the view says so
                snapshot = replace(snapshot, peer=self._opened.peers.at_most(snapshot.budget))
            snapshot = self._publish(snapshot)
        self._publish(replace(self._measure(snapshot), activity=""))

    def _search(self, snapshot: Snapshot) -> Snapshot:
        """Search a better latent within the same budget; says how long it will take."""
        effort = snapshot.settings.effort

        def on_progress(done: int, total: int, numbers: dict[str, float]) -> None:
            activity = f"effort {effort}: step {done} of {total}, {numbers['seconds']:.0f} s left"
            self._publish(replace(snapshot, activity=activity))

        photo = snapshot.photo.image
        encoded = self.codec.encode(
            photo, max_bytes=snapshot.budget, effort=effort, on_progress=on_progress
        )
        decoded = self.codec.decode(encoded.data, "preview")
        return self._publish(
            replace(snapshot, encoded=encoded, decoded=decoded, effort=effort, activity="refining")
        )

    def _refine(self, snapshot: Snapshot) -> Snapshot:
        """Refine, and show every step."""
        settings = snapshot.settings

        def on_step(done: int, picture: Tensor) -> None:
            self._publish(replace(snapshot, refined=to_pil(picture), steps_done=done))

        refined = self.codec.decode(
            snapshot.encoded.data,
            "refined",
            steps=settings.steps,
            realism=settings.realism,
            on_step=on_step,
        ).refined
        return self._publish(replace(snapshot, refined=refined, steps_done=settings.steps))

    def _measure(self, snapshot: Snapshot) -> Snapshot:
        """Add the metrics one by one."""
        pictures = {"preview": snapshot.decoded.preview, "refined": snapshot.refined}
        if snapshot.peer is not None:
            pictures["AVIF"] = snapshot.peer.image
        for metric in self.metrics:
            scores = dict(snapshot.scores)
            for name, picture in pictures.items():
                known = scores.get(name, Metrics())
                if getattr(known, metric) == getattr(known, metric):  # not nan: measured before
                    continue
                self._check(snapshot)
                found = getattr(measure(snapshot.photo.image, picture, (metric,)), metric)
                scores[name] = replace(known, **{metric: found})
            snapshot = self._publish(replace(snapshot, scores=scores, activity="measuring"))
        return snapshot
