"""The explorer without a browser: its model, its view, its page. ``test_browser`` looks at it."""

from __future__ import annotations

import base64
import io
import re
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sketchfusion_lite import bitstream
from sketchfusion_lite.cli import app
from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.errors import ArgumentError, ImageError
from sketchfusion_lite.images import to_pil

pytest.importorskip("ipywidgets")

from sketchfusion_workbook.explorer import parts, widget
from sketchfusion_workbook.explorer.latest import Latest
from sketchfusion_workbook.explorer.model import ExplorerModel
from sketchfusion_workbook.explorer.photos import MAX_UPLOAD_BYTES, WORK_PIXELS, open_photo
from sketchfusion_workbook.explorer.state import Settings, Snapshot, Upload, read_bytes
from sketchfusion_workbook.viz.before_after import BeforeAfter, before_after_html

PATIENCE = 300  # seconds; the machine may be busy


class Slow:
    """A refiner that lightens the preview, one step after the other, and counts its steps."""

    max_steps = 8

    def __init__(self) -> None:
        self.steps, self.gate, self.entered = 0, threading.Event(), threading.Event()
        self.gate.set()

    def refine(self, condition, steps, on_step=None, realism=1.0):
        picture = condition.preview
        self.entered.set()
        for step in range(1, steps + 1):
            assert self.gate.wait(PATIENCE)
            self.steps += 1
            picture = torch.lerp(picture, torch.ones_like(picture), 0.3 * realism)
            if on_step:
                on_step(step, picture)
        return picture


@pytest.fixture
def refiner() -> Slow:
    return Slow()


@pytest.fixture
def codec(tiny_weights: Path, refiner: Slow) -> SketchFusionCodec:
    return load_codec(tiny_weights, device="cpu", dtype="float32", refiner=refiner)


@pytest.fixture
def file(photo: torch.Tensor, tmp_path: Path) -> str:
    path = tmp_path / "bay.png"
    to_pil(photo).save(path)
    return str(path)


@pytest.fixture
def model(codec: SketchFusionCodec, file: str):
    model = ExplorerModel(codec, Settings(file, bpp=0.5), metrics=("psnr",))
    yield model
    model.close()


def upload(image: Image.Image, name: str = "mine.png", kind: str = "PNG") -> Upload:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return Upload(name, buffer.getvalue())


# model -------------------------------------------------------------------------------------------


def test_settings_become_a_file_pictures_and_metrics(model: ExplorerModel, codec, file: str):
    model.update()
    snapshot = model.wait(PATIENCE)
    assert (snapshot.activity, snapshot.error) == ("", "")
    assert snapshot.encoded == codec.encode(file, bpp=0.5)
    assert len(snapshot.encoded.data) <= snapshot.budget == int(0.5 * 96 * 144 / 8)
    assert snapshot.stage("sketch").mode == "L" and snapshot.stage("preview").size == (144, 96)
    expected = codec.decode(snapshot.encoded.data).refined
    assert snapshot.stage("refined").tobytes() == expected.tobytes()
    assert {"preview", "refined"} <= set(snapshot.scores)
    assert snapshot.scores["preview"].psnr > snapshot.scores["refined"].psnr, "it was lightened"
    assert len(snapshot.peer.data) <= snapshot.budget and snapshot.scores["AVIF"].psnr > 0


def test_the_encoder_network_runs_once_per_photo(model: ExplorerModel, codec, monkeypatch):
    runs, latent = [], codec.latent
    monkeypatch.setattr(codec, "latent", lambda pixels: runs.append(1) or latent(pixels))
    whole = len(codec.encode(model.settings.photo, quality=5).data)
    runs.clear()
    sizes = []
    for budget in (whole - 60, whole - 30, whole):
        model.update(max_bytes=budget)
        sizes.append(len(model.wait(PATIENCE).encoded.data))
    assert sizes == sorted(sizes) and len(set(sizes)) == 3 and len(runs) == 1


def test_refinement_waits_for_nobody_and_is_cancelled(model: ExplorerModel, refiner: Slow):
    refiner.gate.clear()
    model.update(steps=8)
    deadline = time.monotonic() + PATIENCE
    assert refiner.entered.wait(PATIENCE)
    first = model.snapshot
    assert first.stage("preview") is not None and first.stage("refined") is None
    assert first.activity == "refining"
    model.update(bpp=0.9)  # while the refiner hangs
    while model.snapshot.version == first.version and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.snapshot.decoded is not None and model.snapshot.budget > first.budget
    refiner.gate.set()
    last = model.wait(PATIENCE)
    assert last.steps_done == 8 and last.activity == ""
    assert refiner.steps == 1 + 8, "the first run was to end after its step"


def test_snapshots_arrive_in_order_and_show_every_step(codec, file: str):
    seen = []
    model = ExplorerModel(codec, Settings(file, bpp=0.5), seen.append, metrics=("psnr",))
    for bpp in (0.4, 0.5, 0.6, 0.7):
        model.update(bpp=bpp, steps=3)
    model.wait(PATIENCE)
    model.close()
    versions = [snapshot.version for snapshot in seen]
    assert versions == sorted(versions) and versions[-1] == 4
    assert {s.steps_done for s in seen if s.version == 4} == {0, 1, 2, 3}


def test_turning_the_dial_refines_anew_and_nothing_else(model: ExplorerModel, refiner: Slow):
    model.update(realism=1.0)
    full, taken = model.wait(PATIENCE), refiner.steps
    model.update(realism=0.0)
    none = model.wait(PATIENCE)
    assert refiner.steps == taken + 1 and none.decoded is full.decoded and none.peer is full.peer
    assert none.refined.tobytes() == none.decoded.preview.tobytes()
    assert none.scores["refined"].psnr == none.scores["preview"].psnr


def test_errors_are_shown_and_the_last_picture_stays(
    model: ExplorerModel, codec, monkeypatch, caplog
):
    with pytest.raises(TypeError, match="bbp"):
        model.update(bbp=1)
    with monkeypatch.context() as broken:
        broken.setattr(codec, "latent", lambda pixels: 1 / 0)
        model.update()
        assert "ZeroDivisionError" in model.wait(PATIENCE).error
        assert "does not know" in caplog.text, "an error nobody foresaw is shown too"
    model.update()
    good = model.wait(PATIENCE)
    for change, words in (
        ({"max_bytes": 5}, "bay: 5 bytes are too few. This photo needs at least"),
        ({"photo": "nowhere"}, "neither a file nor a sample"),
        ({"photo": Upload("x.png", b"no picture")}, "x.png: not a picture"),
        ({"photo": Upload("x.png", bytes(MAX_UPLOAD_BYTES + 1))}, "an upload may have"),
    ):
        model.update(**change)
        bad = model.wait(PATIENCE)
        assert words in bad.error and bad.activity == "" and bad.decoded is good.decoded
        assert bad.settings.photo == good.settings.photo, "an unusable photo is not kept"
    model.update(max_bytes=0)
    assert model.wait(PATIENCE).error == ""


@pytest.mark.filterwarnings("ignore:no LPIPS trunk")
def test_effort_first_shows_what_is_there_then_searches_and_says_how_long(codec, file: str):
    seen: list[Snapshot] = []
    model = ExplorerModel(codec, Settings(file, bpp=0.5), seen.append, metrics=("psnr",))
    model.update()
    plain = model.wait(PATIENCE)
    model.update(effort=1)
    found = model.wait(PATIENCE)
    assert (found.effort, found.activity, found.error) == (1, "", "")
    assert len(found.encoded.data) <= found.budget == plain.budget
    assert found.encoded.data == codec.encode(file, max_bytes=plain.budget, effort=1).data
    shown = codec.decode(found.encoded.data, "preview").preview
    assert found.decoded.preview.tobytes() == shown.tobytes()
    told = [s.activity for s in seen if s.activity.startswith("effort 1: step ")]
    assert len(told) >= 2 and "step 0 of" in told[0] and told[0].endswith("s left")
    model.update(effort=0)
    assert model.wait(PATIENCE).encoded == plain.encoded
    model.close()


class Search:
    """Stands in for a codec's search: after its first step it waits until it may go on."""

    def __init__(self, codec: SketchFusionCodec, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.gate, self.efforts = threading.Event(), threading.Event(), []
        self._encode = codec.encode
        monkeypatch.setattr(codec, "encode", self.encode)

    def encode(self, image, max_bytes, effort, on_progress):
        self.efforts.append(effort)
        on_progress(0, 2, {"seconds": 9.0})
        on_progress(1, 2, {"seconds": 4.5})
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        on_progress(2, 2, {"seconds": 0.0})
        return self._encode(image, max_bytes=max_bytes)


def test_a_search_can_be_stopped_and_nothing_is_lost(
    model: ExplorerModel, codec, refiner: Slow, monkeypatch
):
    search = Search(codec, monkeypatch)
    model.stop()  # there is none: nothing happens
    model.update()
    before, steps = model.wait(PATIENCE), refiner.steps
    model.update(effort=5)
    assert search.entered.wait(PATIENCE)
    during = model.snapshot
    assert during.searching and during.progress == (1, 2)
    assert during.refined is before.refined and during.scores == before.scores
    model.stop()
    search.gate.set()
    after = model.wait(PATIENCE)
    assert (after.effort, after.settings.effort, after.searching, after.error) == (0, 0, False, "")
    assert after.encoded is before.encoded and after.refined is before.refined
    assert after.scores == before.scores and refiner.steps == steps, "nothing was done twice"


def test_a_search_is_told_in_seconds_beforehand(model: ExplorerModel):
    assert model.expected_seconds(5) is None, "nothing was timed"
    model.update()
    model.wait(PATIENCE)
    told = [model.expected_seconds(effort) for effort in (0, 1, 5, 10)]
    assert told[0] == 0 and told == sorted(told) and len(set(told)) == 4


def test_budgets_as_people_write_them():
    assert [read_bytes(text) for text in ("1350", "1,350", " 1 350 ", "1_350")] == 4 * [1350]
    for text in ("-5", "0", "", "lots", "1.5", "1e3", "²", "9" * 5000):
        with pytest.raises(ArgumentError) as caught:
            read_bytes(text)
        assert repr(text[:40]) in str(caught.value) and len(str(caught.value)) < 150


def test_uploads_are_bounded_shrunk_and_named():
    photo, remark = open_photo(upload(Image.new("RGB", (2000, 1000)), "C:\\my photos\\a b/ü?.png"))
    width, height = photo.image.size
    assert photo.pixels <= WORK_PIXELS and abs(width - 2 * height) <= 2
    assert "2000 x 1000" in remark and photo.name == "ü_"
    small, remark = open_photo(upload(Image.new("RGB", (20, 10)), "small.jpg", "JPEG"))
    assert (small.image.size, remark, small.name) == ((20, 10), "", "small")
    with pytest.raises(ImageError, match="over the limit"):
        open_photo(upload(Image.new("1", (6000, 5000))))


def test_the_newest_item_wins():
    begun, go, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        go.wait(PATIENCE)
        done.append(item)

    lane: Latest[int] = Latest(work, "test")
    assert lane.wait(0), "nothing to do yet"
    lane.submit(1)
    assert begun.wait(PATIENCE) and not lane.wait(0.01)
    for item in (2, 3, 4):
        lane.submit(item)
    go.set()
    assert lane.wait(PATIENCE) and done == [1, 4]
    lane.close()


# view --------------------------------------------------------------------------------------------


@pytest.fixture
def explorer(codec, file: str):
    explorer = widget.Explorer(codec, Settings(file, bpp=0.5))
    explorer.model.metrics = ("psnr",)
    explorer.model.wait(PATIENCE)
    yield explorer
    explorer.model.close()


def test_controls_drive_the_picture(explorer: widget.Explorer):
    before = explorer.pictures.after.value
    assert "data:image/webp" in before and explorer.bytes.value == "864"
    explorer.stage.value = "sketch"
    assert (
        before != explorer.pictures.after.value and 'alt="sketch"' in explorer.pictures.after.value
    )
    explorer.against.value = "AVIF"
    assert 'alt="AVIF' in explorer.pictures.before.value
    explorer.rate.value = 0.14
    snapshot = explorer.model.wait(PATIENCE)
    assert f"{snapshot.budget:,}" == explorer.bytes.value == str(int(0.14 * 96 * 144 / 8))
    explorer.bytes.value = "220"
    assert explorer.model.wait(PATIENCE).budget == 220
    assert explorer.rate.value == pytest.approx(220 * 8 / (96 * 144)), "the two follow each other"
    explorer.rate.value = 0.1275  # what a browser makes of it: the next notch of the slider
    assert explorer.model.settings.max_bytes == 220
    explorer.rate.value = 0.1375
    assert explorer.model.settings.max_bytes == 0 and explorer.model.settings.bpp == 0.1375


def test_an_upload_becomes_the_photo_and_a_bad_one_an_alert(explorer: widget.Explorer, file: str):
    def choose(picture: Upload) -> None:
        facts = {"name": picture.name, "type": "", "size": len(picture.data), "last_modified": 0}
        explorer._on_upload({"new": [facts | {"content": memoryview(picture.data)}]})

    choose(upload(Image.new("RGB", (64, 48), "teal"), "teal.png"))
    snapshot = explorer.model.wait(PATIENCE)
    assert snapshot.photo.name == "teal" and snapshot.photo.image.size == (64, 48)
    assert f'download="teal-{snapshot.budget}.skf"' in explorer.link.value
    choose(Upload("<b>bad</b>.png", b"nothing"))
    explorer.model.wait(PATIENCE)
    assert 'role="alert"' in explorer.error.value and "not a picture" in explorer.error.value
    assert explorer.photo.value == explorer.model.settings.photo == snapshot.settings.photo


def test_what_is_shown_accounts_for_the_file(explorer: widget.Explorer):
    """Bytes, scores and captions of the snapshot on show, and of others that lack something."""
    snapshot = explorer.model.snapshot
    total = len(snapshot.encoded.data)
    sizes = re.findall(r"<td>([\d,]+) B</td>", explorer.sections.value)
    assert sum(int(size.replace(",", "")) for size in sizes) == total
    assert f"({total:,} bytes)" in explorer.link.value
    assert explorer.scores.value.count('scope="row"') == 3 and "<b>" in explorer.scores.value
    assert f"{total:,} of 864 bytes" in explorer.status.value
    assert repr(explorer).startswith("Explorer(") and len(repr(explorer)) < 200

    assert (explorer.stage.value, explorer.against.value) == ("refined", "photo")
    photo, preview, refined = snapshot.photo.image, snapshot.decoded.preview, snapshot.refined
    for stage, against, left, right in (
        ("refined", "photo", photo, refined),
        ("refined", "preview", preview, refined),
        ("preview", "preview", photo, preview),
    ):
        shown = parts.halves(snapshot, stage, against)
        assert shown[0] is left and shown[1] is right and shown[2][1].startswith(stage)
    bare = replace(snapshot, peer=None, scores={})
    assert "none fits this budget" in parts.score_table(bare)
    assert "to come" in parts.score_table(replace(bare, activity="making AVIF"))
    assert parts.score_table(bare).count('scope="row"') == 3
    left, _, labels = parts.halves(replace(bare, refined=None), "refined", "peer")
    assert left is photo and "to come" in labels[1]
    lighter = preview.point(lambda level: min(level + 3, 255))
    for picture, levels in ((lighter, "3.0"), (preview, "0.0")):
        assert f"by {levels} of" in parts.refiner_note(replace(snapshot, refined=picture))


def test_the_browser_gets_file_and_link_and_the_page_writes_none(
    explorer: widget.Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    field = r'<input readonly value="(.*?)#skf=([\w-]+)"'
    for budget in ("700", "600"):
        explorer.bytes.value = budget
        data = explorer.model.wait(PATIENCE).encoded.data
        assert f'download="bay-{budget}.skf"' in explorer.link.value
        saved = re.search(r"base64,([^\"]+)", explorer.link.value)[1]
        page, carried = re.search(field, explorer.link.value).groups()
        assert base64.b64decode(saved) == base64.urlsafe_b64decode(carried + "===") == data
        assert page == "" and not list(folder.iterdir())
    snapshot = explorer.model.snapshot
    odd = parts.share_field(snapshot, 'https://example.org/"><script>#old')
    assert re.search(field, odd)[2] == carried and "<script" not in odd and "old" not in odd
    words = bytes(1 << 14)
    data = bitstream.pack(bitstream.Header(4000, 4000, 0, 1), words, words, words)
    long = replace(snapshot, encoded=replace(snapshot.encoded, data=data))
    assert "Too long" in parts.share_field(long)
    odd = replace(snapshot, photo=replace(snapshot.photo, name="<script>"), remark="<b>")
    assert not re.search("<script|<b> ", widget.static_view(odd).data + parts.save_link(odd))


def test_what_is_no_budget_stays_in_its_field_with_a_word_on_it(explorer: widget.Explorer):
    before = explorer.model.wait(PATIENCE)
    explorer.bytes.value = "-5"
    assert "-5" in explorer.error.value and 'role="alert"' in explorer.error.value
    explorer.realism.value = 0.5  # work goes on, and neither word nor field is lost over it
    after = explorer.model.wait(PATIENCE)
    assert (after.error, after.budget) == ("", before.budget)
    assert explorer.bytes.value == "-5" and "-5" in explorer.error.value
    explorer.bytes.value = " 7 00"
    assert explorer.model.wait(PATIENCE).budget == 700
    assert explorer.bytes.value == "700" and explorer.error.value == ""


def test_the_bar_is_there_while_steps_are_counted_and_no_longer(explorer: widget.Explorer):
    layout, seen = explorer.progress.layout, []
    assert layout.visibility == "hidden"
    layout.observe(lambda change: seen.append(change["new"]), "visibility")
    explorer.steps.value = 4
    explorer.model.wait(PATIENCE)
    assert seen[0] == "visible" and layout.visibility == "hidden"
    explorer.bytes.value = "5"
    explorer.model.wait(PATIENCE)
    assert explorer.error.value and layout.visibility == "hidden"


def test_a_search_is_asked_for_by_its_button_alone(explorer: widget.Explorer, monkeypatch):
    search = Search(explorer.model.codec, monkeypatch)
    explorer.effort.value = 7
    assert explorer.model.wait(PATIENCE).effort == 0
    assert re.search(r"about \d+ (s|min)", explorer.search_note.value)
    explorer.search.click()
    assert search.entered.wait(PATIENCE) and search.efforts == [7]
    assert explorer.search.description == "Stop"
    search.gate.set()
    assert explorer.model.wait(PATIENCE).effort == 7
    assert explorer.search.description == "Search" and explorer.search.disabled
    explorer.rate.value = 0.14  # another file, and no search of it that nobody asked for
    assert explorer.model.wait(PATIENCE).effort == 0 and search.efforts == [7]


# before/after ------------------------------------------------------------------------------------


def test_before_after_needs_no_kernel_and_no_network():
    pictures = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    page = before_after_html(*pictures, ("a < b", "after"), 'says "what"', position=30)
    again = before_after_html(*pictures, ("a", "b"), "")
    names = [set(re.findall(' name="(.*?)"', each)) for each in (page, again)]
    assert len(names[0]) == len(names[1]) == 1 and names[0] != names[1], "of two dividers one moves"
    assert page.count("data:image/webp;base64,") == 2 and "<script" not in page
    assert "http" not in page and page.count('type="radio"') == 51
    assert 'aria-label="divider at 30 %" checked' in page
    assert "a &lt; b" in page and "says &quot;what&quot;" in page
    with pytest.raises(ArgumentError, match="position"):
        before_after_html(*pictures, ("", ""), "", position=101)
    with pytest.raises(ArgumentError, match="one size"):
        before_after_html(pictures[0], Image.new("RGB", (4, 3)), ("", ""), "")


def test_the_widget_keeps_its_divider_while_pictures_change():
    frame = BeforeAfter(30)
    pictures, divider = frame.children[0].children[0].children[0], frame.divider
    place = pictures.children[2]
    for colour in ("red", "green"):
        frame.show(Image.new("L", (8, 8)), Image.new("RGB", (8, 8), colour), ("a", colour))
        assert colour in frame.after.value and "--split:30%" in place.value
    divider.value = 60
    assert "--split:60%" in place.value
    assert "cqw" in place.value, "it fits its window"
    frame.zoom.value = frame.zoom.options["2:1"]
    assert "--size:16px" in place.value and "--split:60%" in place.value
    assert "<script" not in str([child.value for child in pictures.children])
    assert set(frame.children[0]._dom_classes) != set(BeforeAfter().children[0]._dom_classes)


# page --------------------------------------------------------------------------------------------


def test_the_page_is_the_explorer_on_loopback_with_a_token(tmp_path: Path):
    pytest.importorskip("voila", reason="voila is not installed: make install")
    import nbformat

    from sketchfusion_workbook.explorer import page

    path = page.write_page(tmp_path / "explorer.ipynb", 'odd "name".png', "cpu", links="https://a")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    compile(notebook.cells[-1].source, "cell", "exec")
    assert "page='https://a'" in notebook.cells[-1].source
    config = page.server_config(4321, "secret").Voila
    assert (config.ip, config.port, config.token) == ("127.0.0.1", 4321, "secret")
    policy = config.tornado_settings["headers"]["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy and "*" not in policy
    assert config.tornado_settings["websocket_max_message_size"] > 2 * MAX_UPLOAD_BYTES


def test_what_cannot_be_served_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("voila", reason="voila is not installed: make install")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = ("--port", str(taken.getsockname()[1]))
        for arguments, code, words in (
            (port, 2, "cannot be used"),
            ((str(tmp_path / "none.jpg"),), 3, "neither a file"),
            ((str(bad),), 3, "not a picture"),
        ):
            done = CliRunner().invoke(app, ["explore", *arguments, "--no-browser"])
            assert done.exit_code == code and words in done.output, done.output
    monkeypatch.delitem(sys.modules, "sketchfusion_workbook.explorer.page", raising=False)
    monkeypatch.setitem(sys.modules, "voila", None)
    monkeypatch.setitem(sys.modules, "voila.app", None)
    done = CliRunner().invoke(app, ["explore"])
    assert done.exit_code == 33 and "sketchfusion-lite[workbook]" in done.output, done.output
