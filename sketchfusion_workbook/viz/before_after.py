"""Before/after: two pictures in one frame, and a divider that follows the pointer or the arrow keys.

    before_after_html(before, after) --> one piece of HTML, for any page: no kernel, no network, no script tag
    BeforeAfter(before, after)       --> a widget with the same looks, whose pictures a program can change

There is no script in either: JupyterLab takes scripts, and the names of inputs, out of a widget's HTML. A row of narrow
strips lies unseen above the pictures, one for each place of the divider, and CSS clips the upper picture at the strip
under the pointer, else at the chosen place. On a page the strips are radio buttons: a click leaves the divider there,
arrow keys move it. In the widget a slider below the pictures does both.
"""

from __future__ import annotations

import base64
import io
from html import escape
from itertools import count

import ipywidgets as widgets
from IPython.display import HTML
from PIL import Image

from sketchfusion_lite.errors import ArgumentError

__all__ = ["BeforeAfter", "before_after", "before_after_html", "picture_html"]

_PLACES = 51  # of the divider: every 2 percent
_ZOOMS = {"fit": 0, "1:1": 1, "2:1": 2, "4:1": 4}  # pixels of the page for each of the picture
_RULES = "".join(
    f".skf-ba:has(.skf-places>:nth-child({n + 1}):{state}){{--split:{100 * n / (_PLACES - 1):g}%}}"
    for state in ("checked", "hover")  # the later rule wins
    for n in range(_PLACES)
)
_STYLE = f"""<style>
.skf-ba{{--split:50%;display:grid;position:relative;overflow:hidden;margin:0;line-height:0;background:#eee}}
.skf-ba>*{{grid-area:1/1;margin:0;height:auto;width:auto;min-width:0;max-width:none}}
.skf-ba img{{display:block;width:100%;height:auto;max-width:none;margin:0}}
.skf-ba .skf-after{{clip-path:inset(0 0 0 var(--split));transition:clip-path .1s}}
.skf-cover{{position:absolute;inset:0;height:auto;width:auto;overflow:hidden}}
.skf-labels{{pointer-events:none}}
.skf-cover .widget-html-content{{height:100%}}
.skf-ba .skf-line{{position:absolute;top:0;bottom:0;left:var(--split);width:0;border-left:3px solid #fff;
 outline:1px solid #000;pointer-events:none;transition:left .1s}}
.skf-labels .skf-tag{{position:absolute;top:6px;padding:3px 7px;background:rgba(255,255,255,.88);color:#111;
 font:12px/1.3 sans-serif;border-radius:3px;max-width:46%;box-sizing:border-box}}
.skf-labels .skf-tag-left{{left:6px}}.skf-labels .skf-tag-right{{right:6px}}
.skf-ba .skf-places{{position:absolute;inset:0;display:flex}}
.skf-ba .skf-places>*{{flex:1;min-width:0;height:100%;margin:0;opacity:0;cursor:ew-resize}}
.skf-ba:has(input:focus-visible),.skf-ba:has(.skf-places:focus-visible){{outline:3px solid #0173b2;outline-offset:-3px}}
.widget-box.skf-window{{position:relative;display:grid;min-width:0;min-height:0;overflow:hidden}}
.skf-window .widget-box.skf-view{{display:grid;overflow:auto;container-type:size;aspect-ratio:var(--ratio);
 max-height:75vh;min-width:0;margin:0}}
.skf-window .widget-box.skf-ba{{display:grid;width:var(--size);margin:auto;align-content:start}}
.skf-window>.skf-cover{{position:absolute;inset:0;width:auto;height:auto;margin:0}}
.skf-window .skf-ba img{{aspect-ratio:var(--ratio);image-rendering:var(--pixels)}}
.skf-handles{{display:flex;flex-wrap:wrap;gap:4px 20px;overflow:visible}}
.skf-handles .skf-divider{{flex:1 1 200px;width:auto}}.skf-handles .skf-zoom{{width:auto}}
{_RULES}
</style>"""
_HINT = (
    "Move the pointer over the picture; click to leave the divider there. Arrow keys move it, too."
)
_WIDGET_HINT = (
    "The divider follows the pointer. Scroll, or press arrow keys, to move a magnified picture."
)
# What has the focus scrolls its window by keys; without the last attribute JupyterLab would take them for itself.
_FOCUS = ' tabindex="0" role="group" aria-label="two pictures" data-lm-suppress-shortcuts="true"'
_numbers = count(1)  # radio buttons of one frame share a name that no other frame has


def before_after_html(
    before: Image.Image,
    after: Image.Image,
    labels: tuple[str, str],
    alt: str,
    width: int = 0,
    position: int = 50,
) -> str:
    """Two pictures with a divider, as HTML that carries everything it needs.

    Args:
        before, after: left and right of the divider; of one size.
        labels: what they are.
        alt: what a reader who cannot see it should know.
        width: of the frame in CSS pixels; 0 for that of the pictures. It never exceeds the page.
        position: of the divider, 0 to 100 percent from the left, to the nearest 2.

    Raises:
        ArgumentError: pictures of two sizes, or a position off the picture.
    """
    _check(before, after, position)
    return (
        f'<figure class="skf-ba" role="group" aria-label="{escape(alt)}" '
        f'style="max-width:{width or before.width}px">{_STYLE}'
        f'<div class="skf-before">{picture_html(before, labels[0])}</div>'
        f'<div class="skf-after">{picture_html(after, labels[1])}</div>'
        f'<div class="skf-cover skf-labels">{_tags(labels)}</div>'
        f'<div class="skf-cover">{_divider(position)}</div></figure>'
    )


def before_after(
    before: Image.Image,
    after: Image.Image,
    labels: tuple[str, str],
    alt: str,
    width: int = 0,
    position: int = 50,
) -> HTML:
    """:func:`before_after_html`, to be the last line of a notebook's cell."""
    return HTML(before_after_html(before, after, labels, alt, width, position))


class BeforeAfter(widgets.VBox):
    """A before/after frame whose pictures change while the divider, and the magnified place, stay where they are.

    Fitted to its window, or magnified; then both pictures scroll together: by wheel, by touch, by arrow keys.

    Args:
        position: of the divider, 0 to 100 percent from the left.
    """

    def __init__(self, position: int = 50) -> None:
        # Not widgets.Image: it has no alt text, and Voilà 0.5 loses binary state while a page loads.
        self.before, self.after = widgets.HTML(), widgets.HTML()
        self._labels, self._place, strips = widgets.HTML(), widgets.HTML(), widgets.HTML()
        strips.value = f'{_STYLE}<span class="skf-line"></span>{_strips("<i></i>" * _PLACES, _FOCUS, _WIDGET_HINT)}'
        frame = widgets.Box([self.before, self.after, self._place, strips])
        view = widgets.Box([frame])
        window = widgets.Box([view, self._labels])
        self._class, self._size = f"skf-frame-{next(_numbers)}", (3, 2)
        named = {frame: "skf-ba", self.before: "skf-before", self.after: "skf-after"}
        named |= {view: "skf-view", window: "skf-window", strips: "skf-cover"}
        for widget, name in named.items():
            widget.add_class(name)
        for name in ("skf-cover", "skf-labels"):
            self._labels.add_class(name)
        for widget in (frame, window):
            widget.add_class(self._class)
        self.divider = widgets.IntSlider(position, 0, 100, 2, description="Divider", readout=False)
        self.divider.add_class("skf-divider")
        self.zoom = widgets.ToggleButtons(options=_ZOOMS, description="Zoom")
        self.zoom.add_class("skf-zoom")
        for control in (self.divider, self.zoom):
            control.observe(self._arrange, "value")
        self._arrange()
        handles = widgets.Box([self.divider, self.zoom])
        handles.add_class("skf-handles")
        super().__init__([window, handles])

    def _arrange(self, _: object = None) -> None:
        """Style sheets of this frame alone: where the divider is, and how large the pictures are."""
        (width, height), zoom = self._size, self.zoom.value
        size = f"{width * zoom}px" if zoom else f"min(100cqw,100cqh*{width / height:.4f})"
        self._place.value = (
            f"<style>.skf-ba.{self._class}{{--split:{self.divider.value}%;--size:{size};"
            f"--pixels:{'pixelated' if zoom > 1 else 'auto'}}}"
            f".skf-window.{self._class}{{--ratio:{width}/{height}}}</style>"
        )

    def show(
        self, before: Image.Image, after: Image.Image, labels: tuple[str, str] = ("", "")
    ) -> None:
        """Change the pictures (of one size) and what is written in their corners."""
        _check(before, after, 0)
        if self._size != before.size:
            self._size = before.size
            self._arrange()
        for widget, image, label in zip(
            (self.before, self.after), (before, after), labels, strict=True
        ):
            widget.value = picture_html(image, label)
        self._labels.value = _tags(labels)


def picture_html(image: Image.Image, alt: str) -> str:
    """An ``<img>`` that carries its picture: a WebP, far finer than what it shows."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=88, method=2)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/webp;base64,{data}" alt="{escape(alt)}">'


def _check(before: Image.Image, after: Image.Image, position: int) -> None:
    if before.size != after.size:
        raise ArgumentError(
            f"before has {before.width}x{before.height} pixels, after {after.width}x{after.height}: "
            "a divider needs two pictures of one size."
        )
    if not 0 <= position <= 100:
        raise ArgumentError(f"position={position}: give 0 (left) to 100 (right).")


def _tags(labels: tuple[str, str]) -> str:
    sides = zip(("left", "right"), labels, strict=True)
    return "".join(
        f'<span class="skf-tag skf-tag-{side}">{escape(label)}</span>' for side, label in sides
    )


def _divider(position: int) -> str:
    chosen, name = round(position * (_PLACES - 1) / 100), f"skf-divider-{next(_numbers)}"
    places = "".join(
        f'<input type="radio" name="{name}" aria-label="divider at {100 * n // (_PLACES - 1)} %"'
        f"{' checked' if n == chosen else ''}>"
        for n in range(_PLACES)
    )
    role = ' role="radiogroup" aria-label="divider between the two pictures"'
    return f'<span class="skf-line"></span>{_strips(places, role)}'


def _strips(strips: str, role: str = "", hint: str = _HINT) -> str:
    return f'<div class="skf-places" title="{hint}"{role}>{strips}</div>'
