"""The explorer: a photo, a few sliders, and what becomes of it, in JupyterLab or as a page of its own (Voilà).

    controls --> ExplorerModel.update --> (threads) --> snapshot --> pictures, bytes, metrics, errors

The view holds no logic: it hands settings to :class:`.model.ExplorerModel` and shows its snapshots, which come
from threads, so the kernel stays free and nothing ever freezes. Every control can be reached and moved by keyboard.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape

import ipywidgets as widgets
from IPython.display import HTML

from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.errors import ArgumentError
from sketchfusion_lite.latent_search import MAX_EFFORT
from sketchfusion_lite.links import check_page
from sketchfusion_lite.sampler import MAX_STEPS
from sketchfusion_lite.samples import SAMPLES

from ..viz.before_after import BeforeAfter, before_after
from . import parts
from .model import ExplorerModel
from .photos import MAX_UPLOAD_BYTES
from .state import Settings, Snapshot, Upload, read_bytes

__all__ = ["Explorer", "explore", "static_view"]

LEAST_BPP, MOST_BPP, BPP_STEP = 0.02, 0.15, 0.0025
STAGES = ("sketch", "preview", "refined")
_AGAINST = {"photo": "photo", "preview": "preview", "AVIF": "peer"}
USUAL_EFFORT = 5  # that the dial begins with; nothing is searched before it is asked for


class Explorer(widgets.VBox):
    """The whole page. Threads start working at once; ``explorer.model.wait()`` blocks until they are done.

    Args:
        codec: to explore.
        settings: to begin with.
        page: address of a page that ``make web`` built, for links; empty: they are shown without it.
    """

    def __init__(
        self, codec: SketchFusionCodec, settings: Settings | None = None, page: str = ""
    ) -> None:
        settings, self.page = settings or Settings(), check_page(page)
        self.model = ExplorerModel(codec, settings, self._show)
        self._setter = 0  # thread that sets controls on our behalf, not the user's
        self._echo = math.inf  # rate that we set, until the user chooses one
        self._complaint = ""  # about what stands in a field; the model works on without it
        self._drawn: tuple[object, ...] = ()
        self._make_controls(settings)
        self._make_display()
        super().__init__([widgets.HTML(parts.STYLE), self._arranged()])
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
                tooltip=f"a picture file of up to {MAX_UPLOAD_BYTES // 1_000_000} MB; it stays on this machine",
            ),
            "upload",
        )
        rate = min(max(settings.bpp, LEAST_BPP), MOST_BPP)
        self.rate = _slider(
            widgets.FloatSlider, "Bits per pixel", rate, LEAST_BPP, MOST_BPP, BPP_STEP, "rate"
        )
        self.rate.readout_format = ".4f"
        # Not a field for numbers: it would put a number of its own in the place of what it cannot read.
        self.bytes = _named(
            widgets.Text(description="or in bytes", continuous_update=False), "bytes"
        )
        effort = settings.effort or USUAL_EFFORT
        self.effort = _slider(widgets.IntSlider, "Effort", effort, 0, MAX_EFFORT, 1, "effort")
        self.search = _named(widgets.Button(description="Search"), "search")
        self.steps = _slider(widgets.IntSlider, "Steps", settings.steps, 1, MAX_STEPS, 1, "steps")
        self.steps.tooltip = "each is a pass of the refiner's network; one is the default"
        self.realism = _slider(
            widgets.FloatSlider, "Realism", settings.realism, 0.0, 1.0, 0.05, "realism"
        )
        self.realism.tooltip = "0: the most faithful refined picture, 1: the most realistic one"
        self.against = _choice("Left", list(_AGAINST), "photo", "against")
        self.stage = _choice("Right", STAGES, "refined", "stage")
        for control in (self.stage, self.against):
            control.observe(lambda _: self._draw(self.model.snapshot), "value")
        self.photo.observe(self._on("photo", effort=0), "value")
        self.upload.observe(self._on_upload, "value")
        self.rate.observe(self._on_rate, "value")
        self.bytes.observe(self._on_bytes, "value")
        self.effort.observe(lambda _: self._say(self.model.snapshot), "value")
        self.search.on_click(self._on_search)
        self.steps.observe(self._on("steps"), "value")
        self.realism.observe(self._on("realism"), "value")

    def _make_display(self) -> None:
        self.pictures = BeforeAfter()
        self.error = _named(widgets.HTML(), "error")
        self.status = _named(widgets.HTML(), "status")
        self.progress = _named(widgets.IntProgress(0, 0, 1), "progress")
        self.summary, self.search_note, self.refiner_note = (widgets.HTML() for _ in "abc")
        self.sections, self.scores, self.link = (widgets.HTML() for _ in "abc")

    def _arranged(self) -> widgets.Box:
        """The picture in the middle, what is chosen and what came of it at its side."""
        title = widgets.HTML("<h2>SketchFusion-Lite</h2>")
        bar = _box("choices", self.against, self.stage, title)
        main = _box("main", bar, self.error, self.pictures, self.progress, self.status)
        search = _box("line-up", self.effort, self.search)
        side = _box(
            "side",
            _box("group", _box("line-up", self.photo, self.upload)),
            _box("group", _heading("File size"), self.summary, self.rate, self.bytes, self.link),
            _box("group", _heading("The sender may search"), search, self.search_note),
            _box("group", _heading("The receiver may refine"), self.steps, self.realism, self.refiner_note),
            _box("group", self.sections),
            _box("group", self.scores),
        )  # fmt: skip
        return _box("page", main, side)

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
            self._echo, self._complaint = math.inf, ""
            self._on("bpp", max_bytes=0, effort=0)(change)

    def _on_bytes(self, change: dict) -> None:
        """Search what fits the bytes that were typed; nonsense stays in its field, with a word on it."""
        if self._setter == threading.get_ident():
            return
        try:
            budget, self._complaint = read_bytes(change["new"]), ""
        except ArgumentError as error:
            self._complaint = str(error)
            self._say(self.model.snapshot)
        else:
            self.model.update(max_bytes=budget, effort=0)

    def _on_upload(self, change: dict) -> None:
        if not change["new"]:
            return  # emptied by ourselves
        file = change["new"][0]
        upload = Upload(file["name"], bytes(file["content"]))
        self.upload.value = ()  # so that the same file can be chosen again
        self._choose(upload)
        self.model.update(photo=upload, effort=0)

    def _on_search(self, _: widgets.Button) -> None:
        if self.model.snapshot.searching:
            self.model.stop()
        else:
            self.model.update(effort=self.effort.value)

    def _choose(self, photo: str | Upload) -> None:
        """Select a photo in the list: samples, the one we began with, and one of the user's own."""
        choices = dict.fromkeys([*SAMPLES, self._first, photo])
        with self._quietly():
            self.photo.options = [(_name(choice), choice) for choice in choices]
            self.photo.value = photo

    def _show(self, snapshot: Snapshot) -> None:
        """Bring everything in step with a snapshot; called from the model's threads."""
        self._set_controls(snapshot)
        self._say(snapshot)
        if snapshot.decoded is None:
            return
        self._draw(snapshot)
        self.summary.value = parts.summary(snapshot)
        self.sections.value = parts.section_table(snapshot)
        self.scores.value = parts.score_table(snapshot)
        self.refiner_note.value = _note(parts.refiner_note(snapshot))
        self.link.value = parts.save_link(snapshot) + parts.share_field(snapshot, self.page)

    def _say(self, snapshot: Snapshot) -> None:
        """What is wrong, what is being done, and what a search would take."""
        error = self._complaint or snapshot.error
        self.error.value = f'<div role="alert">{escape(error)}</div>' if error else ""
        self.error.layout.display = None if error else "none"
        self.status.value = f'<div role="status">{escape(parts.describe(snapshot))}</div>'
        done, total = snapshot.progress
        self.progress.max, self.progress.value = max(total, 1), done
        self.progress.layout.visibility = "visible" if total else "hidden"
        searching, effort = snapshot.searching, self.effort.value
        self.search.description = "Stop" if searching else "Search"
        self.search.disabled = not searching and (
            snapshot.encoded is None or effort == snapshot.effort
        )
        seconds = self.model.expected_seconds(effort)
        self.search_note.value = _note(parts.search_note(snapshot, effort, seconds))

    def _set_controls(self, snapshot: Snapshot) -> None:
        """Bytes and rate follow each other; the photo is the one before where a new one was unusable."""
        with self._quietly():
            if snapshot.budget and not snapshot.error and not self._complaint:
                self.bytes.value = f"{snapshot.budget:,}"
            if snapshot.settings.max_bytes and snapshot.photo:
                rate = snapshot.budget * 8 / snapshot.photo.pixels
                self._echo = self.rate.value = min(max(rate, LEAST_BPP), MOST_BPP)
            if self.photo.value != snapshot.settings.photo:
                self._choose(snapshot.settings.photo)

    def _draw(self, snapshot: Snapshot) -> None:
        """The pictures, and only those that changed."""
        for dial in (self.steps, self.realism):  # the other stages do not hear them
            dial.disabled = self.stage.value != "refined"
        if snapshot.decoded is None:
            return
        left, right, labels = parts.halves(snapshot, self.stage.value, _AGAINST[self.against.value])
        if self._drawn != (left, right, labels):
            self._drawn = (left, right, labels)
            self.pictures.show(left, right, labels)


def explore(
    photo: str = "coffee", device: str = "auto", dtype: str = "auto", page: str = ""
) -> Explorer:
    """The explorer with the shipped codec, to be the last line of a notebook's cell."""
    return Explorer(load_codec(device=device, dtype=dtype), Settings(photo), page)


def static_view(snapshot: Snapshot, stage: str = "refined", against: str = "photo") -> HTML:
    """What the explorer shows, as HTML that needs no kernel: pictures with a divider, and both tables."""
    left, right, labels = parts.halves(snapshot, stage, against)
    frame = before_after(left, right, labels, parts.describe(snapshot), width=720).data
    tables = parts.section_table(snapshot) + "<br>" + parts.score_table(snapshot)
    return HTML(
        f'<div class="skf-explorer" style="max-width:720px">{parts.STYLE}{frame}'
        f"<p>{escape(parts.describe(snapshot))}</p>{tables}</div>"
    )


def _name(photo: str | Upload) -> str:
    return photo.name if isinstance(photo, Upload) else photo


def _slider(kind: type, text: str, value: float, low: float, high: float, step: float, name: str):
    return _named(kind(value=value, min=low, max=high, step=step, description=text), name)


def _choice(text: str, options: Sequence[str], value: str, name: str) -> widgets.ToggleButtons:
    return _named(widgets.ToggleButtons(options=options, value=value, description=text), name)


def _named(control: widgets.DOMWidget, name: str) -> widgets.DOMWidget:
    """A class for style sheets and tests."""
    control.add_class(f"skf-{name}")
    return control


def _box(name: str, *children: widgets.Widget) -> widgets.Box:
    return _named(widgets.Box(children), name)


def _heading(text: str) -> widgets.HTML:
    return widgets.HTML(f"<h3>{text}</h3>")


def _note(text: str) -> str:
    return f'<p class="skf-note">{escape(text)}</p>'
