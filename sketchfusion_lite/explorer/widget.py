"""The explorer: a photo, a few sliders, and what becomes of it, in JupyterLab or as a page of its own (Voilà).

    controls --> ExplorerModel.update --> (threads) --> snapshot --> pictures, bytes, metrics, errors

The view holds no logic: it hands settings to :class:`.model.ExplorerModel` and shows its snapshots, which come
from threads, so the kernel stays free and nothing ever freezes. Every control can be reached and moved by keyboard.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import ipywidgets as widgets
from IPython.display import HTML

from ..codec import SketchFusionCodec, load_codec
from ..errors import SketchFusionError
from ..latent_search import MAX_EFFORT
from ..sampler import MAX_STEPS
from ..samples import SAMPLES
from ..viz.before_after import BeforeAfter, before_after, picture_html
from .model import ExplorerModel
from .parts import (
    STYLE,
    describe,
    file_name,
    halves,
    peer_caption,
    save_link,
    score_table,
    section_table,
)
from .photos import MAX_UPLOAD_BYTES
from .state import Settings, Snapshot, Upload

__all__ = ["Explorer", "explore", "static_view"]

LEAST_BPP, MOST_BPP, BPP_STEP = 0.02, 0.15, 0.0025
STAGES = ("sketch", "preview", "refined")
_AGAINST = {"the preview": "preview", "the photo": "photo", "AVIF": "peer"}


class Explorer(widgets.VBox):
    """The whole page. Threads start working at once; ``explorer.model.wait()`` blocks until they are done.

    Args:
        codec: to explore; None loads the shipped one.
        settings: to begin with.
        device, dtype: where it runs and in which numbers, if it is loaded here.
        folder: where the button puts files.
    """

    def __init__(
        self,
        codec: SketchFusionCodec | None = None,
        settings: Settings | None = None,
        device: str = "auto",
        folder: str | Path = ".",
        dtype: str = "auto",
    ) -> None:
        self.folder = Path(folder)
        settings = settings or Settings()
        codec = codec or load_codec(device=device, dtype=dtype)
        self.model = ExplorerModel(codec, settings, self._show)
        self._setter = 0  # thread that sets controls on our behalf, not the user's
        self._echo = math.inf  # rate that we set, until the user chooses one
        self._drawn: tuple[object, ...] = ()
        self._drawn_peer: object = None
        self._make_controls(settings)
        self._make_display()
        super().__init__(
            [
                widgets.HTML(STYLE),
                _row(self.photo, self.upload, self.rate, self.bytes, self.effort),
                self.error,
                _row(self.stage, self.against, self.steps, self.realism),
                _row(_panel(self.pictures, self.status, self.progress), self.peer_panel),
                _row(_panel(self.sections), _panel(self.scores)),
                _row(self.save, self.link, self.saved),
            ]
        )
        self.add_class("skf-explorer")
        self.model.update()

    def __repr__(self) -> str:
        snapshot = self.model.snapshot
        size = len(snapshot.encoded.data) if snapshot.encoded else 0
        return f"Explorer({_name(snapshot.settings.photo)}, {size:,} bytes)"

    def _make_controls(self, settings: Settings) -> None:
        self._first = settings.photo
        self.photo = _named(widgets.Dropdown(description="Photo"), "photo")
        self._choose(settings.photo)
        self.upload = _named(
            widgets.FileUpload(
                accept="image/*",
                description="Upload a photo",
                layout=widgets.Layout(width="auto"),
                tooltip=f"a picture file of up to {MAX_UPLOAD_BYTES // 1_000_000} MB",
            ),
            "upload",
        )
        rate = min(max(settings.bpp, LEAST_BPP), MOST_BPP)
        self.rate = _slider(
            widgets.FloatSlider, "Bits per pixel", rate, LEAST_BPP, MOST_BPP, BPP_STEP, "rate"
        )
        self.rate.readout_format = ".4f"
        self.bytes = _named(
            widgets.BoundedIntText(
                settings.max_bytes, 0, 1_000_000, 10, description="Budget, bytes"
            ),
            "bytes",
        )
        self.effort = _slider(
            widgets.IntSlider, "Effort", settings.effort, 0, MAX_EFFORT, 1, "effort"
        )
        self.effort.continuous_update = False  # each value is a search of many seconds
        self.effort.tooltip = "search a better latent for this photo: slow for the sender alone"
        self.steps = _slider(
            widgets.IntSlider, "Refiner steps", settings.steps, 1, MAX_STEPS, 1, "steps"
        )
        self.steps.tooltip = "each is a pass of the refiner's network; one is the default"
        self.realism = _slider(
            widgets.FloatSlider, "Realism", settings.realism, 0.0, 1.0, 0.05, "realism"
        )
        self.realism.tooltip = "0: the most faithful refined picture, 1: the most realistic one"
        self.stage = _named(
            widgets.ToggleButtons(options=STAGES, value="refined", description="Stage"), "stage"
        )
        self.against = _named(
            widgets.ToggleButtons(options=list(_AGAINST), description="Left half"), "against"
        )
        for control in (self.stage, self.against):
            control.style.button_width = "92px"
            control.observe(lambda _: self._draw(self.model.snapshot), "value")
        self.photo.observe(self._on("photo"), "value")
        self.upload.observe(self._on_upload, "value")
        self.rate.observe(self._on_rate, "value")
        self.bytes.observe(self._on("max_bytes"), "value")
        self.effort.observe(self._on("effort"), "value")
        self.steps.observe(self._on("steps"), "value")
        self.realism.observe(self._on("realism"), "value")

    def _make_display(self) -> None:
        self.pictures = BeforeAfter()
        self.status, self.error = widgets.HTML(), _named(widgets.HTML(), "error")
        self.error.layout.display = "none"
        self.status.add_class("skf-status")
        self.progress = widgets.IntProgress(0, 0, MAX_STEPS)
        self.progress.add_class("skf-progress")
        self.progress.tooltip = "steps of the refiner"
        self.peer, self.peer_caption = widgets.HTML(), widgets.HTML()
        self.peer_panel = _panel(self.peer, self.peer_caption)
        self.peer_panel.add_class("skf-peer")
        self.sections, self.scores = widgets.HTML(), widgets.HTML()
        self.save = _named(widgets.Button(description="Save .skf", icon="save"), "store")
        self.save.on_click(self._on_save)
        self.save.disabled = True
        self.link, self.saved = widgets.HTML(), _named(widgets.HTML(), "saved")

    # ----------------------------------------------------------------------------------------------

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Set controls without hearing of it; what the user does meanwhile comes in another thread."""
        before, self._setter = self._setter, threading.get_ident()
        try:
            yield
        finally:
            self._setter = before

    def _on(self, name: str, **others: object) -> Callable[[dict], None]:
        def changed(change: dict) -> None:
            if self._setter != threading.get_ident():
                self.model.update(**{name: change["new"]}, **others)

        return changed

    def _on_rate(self, change: dict) -> None:
        """A browser moves a slider that we set to its next notch, and tells us so: no wish of the user."""
        if abs(change["new"] - self._echo) > BPP_STEP / 2:
            self._echo = math.inf
            self._on("bpp", max_bytes=0)(change)

    def _on_upload(self, change: dict) -> None:
        if not change["new"]:
            return  # emptied by ourselves
        file = change["new"][0]
        upload = Upload(file["name"], bytes(file["content"]))
        self.upload.value = ()  # so that the same file can be chosen again
        self._choose(upload)
        self.model.update(photo=upload)

    def _on_save(self, _: widgets.Button) -> None:
        snapshot = self.model.snapshot
        try:
            path = snapshot.encoded.save(self.folder / file_name(snapshot))
            text = f"saved as {path}"
        except (SketchFusionError, OSError) as error:
            text = f"not saved: {error}"
        self.saved.value = f'<div role="status">{escape(text)}</div>'

    def _choose(self, photo: str | Upload) -> None:
        """Select a photo in the list: samples, the one we began with, and one of the user's own."""
        choices = dict.fromkeys([*SAMPLES, self._first, photo])
        with self._quietly():
            self.photo.options = [(_name(choice), choice) for choice in choices]
            self.photo.value = photo

    def _show(self, snapshot: Snapshot) -> None:
        """Bring everything in step with a snapshot; called from the model's threads."""
        self.error.value = (
            f'<div role="alert">{escape(snapshot.error)}</div>' if snapshot.error else ""
        )
        self.error.layout.display = None if snapshot.error else "none"
        self.status.value = f'<div role="status">{escape(describe(snapshot))}</div>'
        self.progress.max, self.progress.value = snapshot.settings.steps, snapshot.steps_done
        self._set_controls(snapshot)
        if snapshot.decoded is None:
            return
        self._draw(snapshot)
        self.sections.value = section_table(snapshot)
        self.scores.value = score_table(snapshot)
        if file_name(snapshot) not in self.saved.value:
            self.saved.value = ""  # it spoke of another file
        self.link.value, self.save.disabled = save_link(snapshot), False
        self.save.tooltip = (
            f"write {file_name(snapshot)} into the folder {self.folder.resolve().name}"
        )

    def _set_controls(self, snapshot: Snapshot) -> None:
        """Bytes and rate follow each other; the photo is the one before where a new one was unusable."""
        with self._quietly():
            if snapshot.budget and not snapshot.error:
                self.bytes.value = snapshot.budget
            if snapshot.settings.max_bytes and snapshot.photo:
                rate = snapshot.budget * 8 / snapshot.photo.pixels
                self._echo = self.rate.value = min(max(rate, LEAST_BPP), MOST_BPP)
            if self.photo.value != snapshot.settings.photo:
                self._choose(snapshot.settings.photo)

    def _draw(self, snapshot: Snapshot) -> None:
        """The pictures, and only those that changed."""
        if snapshot.decoded is None:
            return
        left, right, labels = halves(snapshot, self.stage.value, _AGAINST[self.against.value])
        if self._drawn != (left, right, labels):
            self._drawn = (left, right, labels)
            self.pictures.show(left, right, labels)
        self.peer_caption.value = escape(peer_caption(snapshot))
        if snapshot.peer is not None and self._drawn_peer is not snapshot.peer:
            self._drawn_peer = snapshot.peer
            self.peer.value = picture_html(snapshot.peer.image, peer_caption(snapshot))


def explore(
    photo: str = "coffee", device: str = "auto", folder: str | Path = ".", dtype: str = "auto"
) -> Explorer:
    """The explorer with the shipped codec, to be the last line of a notebook's cell."""
    return Explorer(settings=Settings(photo), device=device, folder=folder, dtype=dtype)


def static_view(snapshot: Snapshot, stage: str = "refined", against: str = "preview") -> HTML:
    """What the explorer shows, as HTML that needs no kernel: pictures with a divider, and both tables."""
    left, right, labels = halves(snapshot, stage, against)
    frame = before_after(left, right, labels, describe(snapshot), width=720).data
    tables = section_table(snapshot) + "<br>" + score_table(snapshot)
    return HTML(
        f'<div class="skf-explorer" style="max-width:720px">{STYLE}{frame}'
        f"<p>{escape(describe(snapshot))}</p>{tables}</div>"
    )


def _name(photo: str | Upload) -> str:
    return photo.name if isinstance(photo, Upload) else photo


def _slider(kind: type, text: str, value: float, low: float, high: float, step: float, name: str):
    layout = widgets.Layout(width="340px")
    slider = kind(value=value, min=low, max=high, step=step, description=text, layout=layout)
    return _named(slider, name)


def _named(control: widgets.DOMWidget, name: str) -> widgets.DOMWidget:
    """A class for style sheets and tests, and room for the description."""
    control.add_class(f"skf-{name}")
    if hasattr(control, "style") and hasattr(control.style, "description_width"):
        control.style.description_width = "96px"
    return control


def _row(*children: widgets.Widget) -> widgets.Box:
    row = widgets.Box(children)
    row.add_class("skf-row")
    return row


def _panel(*children: widgets.Widget) -> widgets.VBox:
    panel = widgets.VBox(children)
    panel.add_class("skf-panel")
    return panel
