"""The explorer: a photo, a few sliders, and what becomes of it, in JupyterLab or as a page of its own (Voilà).

    controls --> ExplorerModel.update --> (threads) --> snapshot --> pictures, bytes, metrics, errors

The view holds no logic: it hands settings to :class:`.explorer_model.ExplorerModel` and shows its snapshots, which come
from threads, so the kernel stays free and nothing ever freezes. Every control can be reached and moved by keyboard.
"""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path

import ipywidgets as widgets
from IPython.display import HTML
from PIL import Image

from ..codec import SketchFusionCodec, load_codec
from ..errors import SketchFusionError
from ..evaluation.metrics import Metrics
from ..refinement import MAX_STEPS
from ..samples import SAMPLES, Photo
from .before_after import BeforeAfter, before_after, picture_html
from .explorer_model import MAX_UPLOAD_BYTES, ExplorerModel, Settings, Snapshot, Upload
from .figures import MEANING

__all__ = ["Explorer", "explore", "save_link", "score_table", "section_table", "static_view"]

LEAST_BPP, MOST_BPP, BPP_STEP = 0.02, 0.15, 0.0025
STAGES = ("sketch", "preview", "refined")
_AGAINST = {"the photo": "photo", "AVIF": "peer"}
_COLUMNS = {
    "psnr": ("PSNR dB ↑", 2, max),
    "ms_ssim": ("MS-SSIM ↑", 3, max),
    "lpips_alex": ("LPIPS-Alex ↓", 3, min),
    "lpips_vgg": ("LPIPS-VGG ↓", 3, min),
    "dists": ("DISTS ↓", 3, min),
}

_STYLE = """<style>
.skf-explorer{max-width:1180px;gap:10px;overflow:visible}
.skf-explorer .skf-row{flex-flow:row wrap;gap:6px 18px;overflow:visible;align-items:flex-start}
.skf-explorer .skf-row>.skf-panel{flex:1 1 340px;min-width:0;overflow:visible}
.skf-explorer .skf-error{border-left:4px solid #d55e00;padding:4px 10px;background:#fdf1e7;color:#222}
.skf-explorer .skf-progress{width:100%;height:8px;min-height:8px;margin:2px 0}
.skf-explorer .skf-progress .progress{height:8px}
.skf-explorer .skf-status .widget-html-content{line-height:1.4;white-space:normal}
.skf-explorer .skf-peer img{width:100%;height:auto;display:block}
.skf-explorer table.skf-table{border-collapse:collapse;width:100%;font-size:12.5px;line-height:1.5}
.skf-explorer .skf-table caption{text-align:left;font-weight:600;padding:2px 0}
.skf-explorer .skf-table th,.skf-explorer .skf-table td{padding:2px 5px;text-align:right;
 border-bottom:1px solid rgba(128,128,128,.3);white-space:nowrap}
.skf-explorer .skf-table th:first-child{text-align:left;font-weight:normal}
.skf-explorer .skf-table td.skf-bar{width:40%;text-align:left}
.skf-explorer .skf-bar i{display:block;height:11px;background:#0173b2;border-radius:2px}
.skf-explorer button:focus-visible,.skf-explorer a:focus-visible,.skf-explorer [role=slider]:focus-visible,
.skf-explorer .noUi-handle:focus{outline:3px solid #0173b2;outline-offset:1px}
.skf-explorer a.skf-save{display:inline-block;padding:3px 12px;border:1px solid #0173b2;border-radius:3px;
 color:#0173b2;text-decoration:none;font-size:13px}
</style>"""


class Explorer(widgets.VBox):
    """The whole page. Threads start working at once; ``explorer.model.wait()`` blocks until they are done.

    Args:
        codec: to explore; None loads the shipped one.
        settings: to begin with.
        device: where it runs, if it is loaded here.
        folder: where the button puts files.
    """

    def __init__(
        self,
        codec: SketchFusionCodec | None = None,
        settings: Settings | None = None,
        device: str = "auto",
        folder: str | Path = ".",
    ) -> None:
        self.folder = Path(folder)
        settings = settings or Settings()
        self.model = ExplorerModel(codec or load_codec(device=device), settings, self._show)
        self._setter = 0  # thread that sets controls on our behalf, not the user's
        self._echo = math.inf  # rate that we set, until the user chooses one
        self._drawn: tuple[object, ...] = ()
        self._drawn_peer: object = None
        self._make_controls(settings)
        self._make_display()
        super().__init__(
            [
                widgets.HTML(_STYLE),
                _row(self.photo, self.upload, self.rate, self.bytes, self.steps, self.realism),
                self.error,
                _row(self.stage, self.against),
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
        self.steps = _slider(
            widgets.IntSlider, "Refiner steps", settings.steps, 1, MAX_STEPS, 1, "steps"
        )
        self.realism = _slider(
            widgets.FloatSlider, "Realism", settings.realism, 0.0, 1.0, 0.05, "realism"
        )
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
        self.save.tooltip = f"write {file_name(snapshot)} into the folder {self.folder.resolve()}"

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


def explore(photo: str = "coffee", device: str = "auto", folder: str | Path = ".") -> Explorer:
    """The explorer with the shipped codec, to be the last line of a notebook's cell."""
    return Explorer(settings=Settings(photo), device=device, folder=folder)


def static_view(snapshot: Snapshot, stage: str = "refined", against: str = "photo") -> HTML:
    """What the explorer shows, as HTML that needs no kernel: pictures with a divider, and both tables."""
    left, right, labels = halves(snapshot, stage, against)
    frame = before_after(left, right, labels, describe(snapshot), width=720).data
    tables = section_table(snapshot) + "<br>" + score_table(snapshot)
    return HTML(
        f'<div class="skf-explorer" style="max-width:720px">{_STYLE}{frame}'
        f"<p>{escape(describe(snapshot))}</p>{tables}</div>"
    )


# --------------------------------------------------------------------------------------------------
# Parts of the page, each a function of the snapshot


def halves(
    snapshot: Snapshot, stage: str, against: str
) -> tuple[Image.Image, Image.Image, tuple[str, str]]:
    """Left picture, right picture and their labels; what is not there yet is stood in for by what is.

    Args:
        stage: ``"sketch"``, ``"preview"`` or ``"refined"``.
        against: ``"photo"`` or ``"peer"``.
    """
    photo: Photo = snapshot.photo
    right, label = snapshot.stage(stage), stage
    if right is None:
        right, label = snapshot.decoded.preview, "preview, refined picture to come"
    elif stage == "refined":
        done, wanted = snapshot.steps_done, snapshot.settings.steps
        steps = f"{wanted}" if done == wanted else f"{done} of {wanted}"
        label = f"refined, {steps} steps, realism {snapshot.settings.realism:g}"
    if against == "peer" and snapshot.peer is not None:
        return snapshot.peer.image, right, (snapshot.peer.label, label)
    return photo.image, right, (photo.name, label)


def describe(snapshot: Snapshot) -> str:
    """One line: file, rate, quality, what is being worked on."""
    parts = []
    if snapshot.encoded is not None:
        photo, encoded = snapshot.photo, snapshot.encoded
        parts = [
            f"{photo.name}, {photo.image.width} x {photo.image.height}",
            f"{len(encoded.data):,} of {snapshot.budget:,} bytes",
            f"{encoded.bpp:.4f} bits per pixel",
            f"quality {encoded.quality:.2f} of 5",
            f"preview after {snapshot.preview_seconds:.2f} s",
        ]
    parts += [snapshot.remark] if snapshot.remark else []
    parts += [f"{snapshot.activity} ..."] if snapshot.activity else []
    return " · ".join(parts)


def peer_caption(snapshot: Snapshot) -> str:
    """What stands under the other codec's picture."""
    if snapshot.peer is not None:
        return f"{snapshot.peer.label}: {len(snapshot.peer.data):,} bytes of the same budget"
    if snapshot.activity:
        return "AVIF within the same budget: to come"
    return "AVIF makes no file of this photo within the budget, not even at 1/8 size"


def section_table(snapshot: Snapshot) -> str:
    """Every byte of the file by its use, as an HTML table with bars."""
    sections = snapshot.decoded.info.section_bytes
    total = sum(sections.values())
    rows = "".join(
        f'<tr><th scope="row">{MEANING[name]}</th><td>{size:,} B</td><td>{size / total:.1%}</td>'
        f'<td class="skf-bar"><i style="width:{100 * size / total:.1f}%"></i></td></tr>'
        for name, size in sections.items()
    )
    return f'<table class="skf-table"><caption>Where the {total:,} bytes go</caption>{rows}</table>'


def score_table(snapshot: Snapshot) -> str:
    """Metrics of both stages and of the other codec, the best of each column in bold, as an HTML table."""
    sizes = {name: len(snapshot.encoded.data) for name in ("preview", "refined")}
    if snapshot.peer is not None:
        sizes["AVIF"] = len(snapshot.peer.data)
    scores = {name: snapshot.scores.get(name, Metrics()).as_dict() for name in sizes}
    shown = [m for m in _COLUMNS if any(not math.isnan(s[m]) for s in scores.values())]
    head = "".join(f'<th scope="col">{_COLUMNS[metric][0]}</th>' for metric in shown)
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{size:,}</td>'
        + "".join(_score(scores, name, metric) for metric in shown)
        + "</tr>"
        for name, size in sizes.items()
    )
    return (
        '<table class="skf-table"><caption>At equal bytes (bold: best)</caption>'
        f'<tr><th></th><th scope="col">bytes</th>{head}</tr>{rows}</table>'
    )


def _score(scores: Mapping[str, Mapping[str, float]], name: str, metric: str) -> str:
    value, (_, digits, choose) = scores[name][metric], _COLUMNS[metric]
    if math.isnan(value):
        return "<td>–</td>"
    best = choose(s[metric] for s in scores.values() if not math.isnan(s[metric]))
    text = f"{value:.{digits}f}"
    return f"<td><b>{text}</b></td>" if value == best else f"<td>{text}</td>"


def file_name(snapshot: Snapshot) -> str:
    """``coffee-1350.skf``: the photo and the budget."""
    return f"{snapshot.photo.name}-{snapshot.budget}.skf"


def save_link(snapshot: Snapshot) -> str:
    """A link that downloads the file; it carries the bytes, so it works without the server, too."""
    data = base64.b64encode(snapshot.encoded.data).decode("ascii")
    name = escape(file_name(snapshot))
    return (
        f'<a class="skf-save" download="{name}" href="data:application/octet-stream;base64,{data}">'
        f"Download {name} ({len(snapshot.encoded.data):,} bytes)</a>"
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
