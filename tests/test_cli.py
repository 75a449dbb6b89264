"""The command line as a script sees it: exit status, stdout, stderr, and which files appear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import sketchfusion_lite
from sketchfusion_lite import bitstream
from sketchfusion_lite.cli import app
from sketchfusion_lite.codec import SketchFusionCodec, load_codec
from sketchfusion_lite.errors import CorruptStream, NotAStream
from sketchfusion_lite.images import save_image
from sketchfusion_lite.model import SketchFusionModel
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import save_refiner
from sketchfusion_lite.results import read_stream
from sketchfusion_lite.training.recipe import CodecRecipe


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a shell would."""
    package_parent = str(Path(sketchfusion_lite.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package_parent, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sketchfusion_lite.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def picture(tmp_path, photo):
    return save_image(photo, tmp_path / "photo.png")


@pytest.fixture
def pictures(tmp_path, photo):
    """A folder with two pictures and a broken one between them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    save_image(photo, folder / "a.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8 this is no picture")
    save_image(photo[..., :17, :33], folder / "c.d.jpg")
    return folder


@pytest.fixture
def stream(tmp_path, photo, tiny_codec):
    return tiny_codec.encode(photo, quality=2.0).save(tmp_path / "stream.skf")


def cut(stream, tmp_path):
    """The stream without the last byte of its tone section."""
    path = tmp_path / "cut.skf"
    path.write_bytes(stream.read_bytes()[:-3])
    return path


def files_in(folder: Path) -> list[str]:
    """All names but the manifest's, hidden ones too: temporary files would show."""
    return sorted(path.name for path in folder.iterdir() if "manifest.jsonl" not in path.name)


# --------------------------------------------------------------------------------------------------
# encode


def test_encode_prints_one_line_on_stdout(picture, tiny_weights):
    out = picture.with_name("photo.skf")
    result = invoke("encode", picture, out, "--quality", 2, "--weights", tiny_weights)
    assert (result.exit_code, result.stderr) == (0, "")
    size = out.stat().st_size
    bpp = size * 8 / (144 * 96)
    assert result.stdout.startswith(f"photo.png  144x96  {size} bytes  {bpp:.4f} bpp  quality 2.00")
    assert result.stdout.count("\n") == 1


def test_impossible_budget_has_its_own_status(picture, tiny_weights):
    out = picture.with_name("photo.skf")
    result = invoke("encode", picture, out, "--max-bytes", 1, "--weights", tiny_weights)
    assert result.exit_code == 20
    assert result.stderr.startswith("error: 144x96 image needs at least")
    assert not out.exists()


def test_outputs_are_replaced_only_by_force(picture, tiny_weights):
    out = picture.with_name("photo.skf")
    out.write_bytes(b"precious")
    result = invoke("encode", picture, out, "--weights", tiny_weights)
    assert result.exit_code == 4
    assert "--force" in result.stderr
    assert out.read_bytes() == b"precious"
    result = invoke("encode", picture, out, "--quality", 1, "--weights", tiny_weights, "--force")
    assert result.exit_code == 0
    assert out.read_bytes()[:1] == b"S"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nowhere.png", "x.skf"], 3),
        (["photo.png", "photo.skf", "--bpp", 0.05, "--quality", 2], 2),
        (["photo.png", "photo.skf", "--bpp", 0], 2),
        (["photo.png", "photo.skf", "--quality", 6], 2),
        (["photo.png", "photo.skf", "--device", "abacus"], 2),
        (["photo.png", "photo.skf", "--max-pixels", 100], 3),
        (["photo.png", "other.jpg"], 2),
        (["photo.png", "."], 4),
        (["photo.png", "no/such/folder/x.skf"], 4),
        (["photo.png", "x.skf", "--weights", "nowhere.safetensors"], 30),
    ],
)
def test_wrong_arguments_to_encode(picture, tiny_weights, monkeypatch, arguments, status):
    monkeypatch.chdir(picture.parent)
    default = [] if "--weights" in arguments else ["--weights", tiny_weights]
    result = invoke("encode", *arguments, *default)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "rror" in result.stderr
    assert "Traceback" not in result.stderr
    assert files_in(picture.parent) == ["photo.png"]


def test_folder_goes_on_after_a_broken_picture(pictures, tmp_path, tiny_weights):
    out = tmp_path / "new" / "streams"
    result = invoke("encode", pictures, out, "--quality", 2, "--weights", tiny_weights)
    assert result.exit_code == 3
    assert files_in(out) == ["a.skf", "c.d.skf"]
    lines = result.stdout.splitlines()
    assert lines[0].startswith("a.png  144x96  ")
    assert lines[1].startswith("c.d.jpg  33x17  ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "b.jpg" in result.stderr


def test_a_folder_as_a_phone_leaves_it(pictures, tmp_path, tiny_weights, photo):
    """What is not encoded is named, a link to nothing and clashing names fail, and the others go on."""
    (pictures / "b.jpg").rename(pictures / "e.jfif")
    save_image(photo, pictures / "x.png").rename(pictures / "f.jpe")
    save_image(photo, pictures / "a.webp")
    (pictures / "day2").mkdir()
    (pictures / "notes.txt").write_text("not for encoding")
    (pictures / "gone.jpg").symlink_to("nowhere.jpg")
    latin = pictures / os.fsdecode(b"b\xe4r.png")
    save_image(photo, pictures / "x.png").rename(latin)
    options = ("--quality", 2, "--weights", tiny_weights)
    for _ in range(2):  # the second time, what is done is done
        result = invoke("encode", pictures, tmp_path / "streams", *options)
        assert result.exit_code == 2, "that of the first error"
        assert files_in(tmp_path / "streams") == [os.fsdecode(b"b\xe4r.skf"), "c.d.skf", "f.skf"]
        for name in ("a.png and a.webp would both become a.skf", "e.jfif", "gone.jpg"):
            assert any(name in line for line in result.stderr.splitlines() if "error" in line)
        assert "day2 (folders inside" in result.stderr and "notes.txt" in result.stderr
    assert "skipped: 3 of 5 are done" in result.stderr
    decoded = invoke("decode", tmp_path / "streams", tmp_path / "back", "--weights", tiny_weights)
    assert decoded.exit_code == 0 and decoded.stderr == "", "the manifest is ours, and no news"
    (tmp_path / "streams" / "a.png").touch()
    decoded = invoke("decode", tmp_path / "streams", tmp_path / "back", "--weights", tiny_weights)
    assert "a.png (not named .skf)" in decoded.stderr


def test_folder_skips_what_is_there(pictures, tmp_path, tiny_weights):
    (pictures / "b.jpg").unlink()
    out = tmp_path / "streams"
    out.mkdir()
    (out / "a.skf").write_bytes(b"precious")
    result = invoke("encode", pictures, out, "--quality", 2, "--weights", tiny_weights)
    assert result.exit_code == 0
    assert (out / "a.skf").read_bytes() == b"precious"
    assert result.stderr.startswith("skipped: a.png")
    assert files_in(out) == ["a.skf", "c.d.skf"]


def test_empty_folder_and_file_as_output_folder(tmp_path, pictures):
    (tmp_path / "empty").mkdir()
    assert invoke("encode", tmp_path / "empty", tmp_path / "out").exit_code == 3
    assert invoke("decode", tmp_path / "empty", tmp_path / "out").exit_code == 10
    (tmp_path / "file").write_bytes(b"")
    assert invoke("encode", pictures, tmp_path / "file").exit_code == 4


def test_interrupt_ends_with_130_and_leaves_nothing(pictures, tmp_path, tiny_weights, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sketchfusion_lite.files.os.replace", interrupted)  # at the worst moment
    out = tmp_path / "streams"
    result = invoke("encode", pictures, out, "--quality", 2, "--weights", tiny_weights)
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert files_in(out) == []


# --------------------------------------------------------------------------------------------------
# decode


@pytest.mark.parametrize(("stage", "mode"), [("preview", "RGB"), ("sketch", "L")])
def test_decode_writes_the_picture(stream, tiny_weights, tiny_codec, stage, mode):
    from PIL import Image, ImageChops

    out = stream.with_name("out.png")
    options = ("--stage", stage, "--weights", tiny_weights, "--dtype", "float32")
    result = invoke("decode", stream, out, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("stream.skf  144x96  ")
    with Image.open(out) as image:
        assert (image.mode, image.size) == (mode, (144, 96))
        expected = tiny_codec.decode(stream.read_bytes(), stage).image
        assert ImageChops.difference(image, expected).getbbox() is None


def test_truncated_stream_warns_and_succeeds(stream, tmp_path, tiny_weights):
    out = tmp_path / "out.png"
    result = invoke("decode", cut(stream, tmp_path), out, "--weights", tiny_weights)
    assert result.exit_code == 0
    assert out.exists()
    assert result.stderr.startswith("warning: ")
    assert "tone" in result.stderr
    assert "warning" not in result.stdout


def test_damaged_foreign_and_missing_streams(stream, tmp_path, tiny_weights):
    good = bytearray(stream.read_bytes())
    good[-5] ^= 1
    (tmp_path / "bad.skf").write_bytes(good)
    (tmp_path / "foreign.skf").write_bytes(b"GIF89a")
    (tmp_path / "short.skf").write_bytes(good[:9])
    header = bitstream.Header(144, 96, 10, model_id=1)
    (tmp_path / "other.skf").write_bytes(bitstream.pack(header, b"1234", b"", b""))
    expected = {"bad": 13, "foreign": 11, "short": 14, "nowhere": 10, "other": 15}
    for name, status in expected.items():
        path, out = tmp_path / f"{name}.skf", tmp_path / "out.png"
        result = invoke("decode", path, out, "--weights", tiny_weights)
        assert result.exit_code == status, result.output
        assert result.stderr.startswith("error: ")
        assert name in result.stderr
        assert not out.exists()


def test_decode_folder(stream, tmp_path, tiny_weights):
    streams, out = tmp_path / "streams", tmp_path / "out"
    streams.mkdir()
    (streams / "a.skf").write_bytes(stream.read_bytes())
    (streams / "b.skf").write_bytes(b"GIF89a")
    (streams / "c.SKF").write_bytes(cut(stream, tmp_path).read_bytes())
    (streams / "readme.txt").write_text("not a stream")
    arguments = ("decode", streams, out, "--format", "webp", "--weights", tiny_weights)
    result = invoke(*arguments)
    assert result.exit_code == 11
    assert files_in(out) == ["a.webp", "c.webp"]
    assert [line.split()[0] for line in result.stdout.splitlines()[:2]] == ["a.skf", "c.SKF"]
    assert "b.skf" in result.stderr
    assert "c.SKF: truncated" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["stream.skf", "out.tiff"], 4),
        (["stream.skf", "out.png", "--format", "jpg"], 2),
        (["stream.skf", "out.png", "--stage", "painting"], 2),
        (["stream.skf", "out.png", "--max-pixels", 100], 12),
    ],
)
def test_wrong_arguments_to_decode(stream, tiny_weights, monkeypatch, arguments, status):
    monkeypatch.chdir(stream.parent)
    result = invoke("decode", *arguments, "--weights", tiny_weights)
    assert result.exit_code == status, result.output
    assert files_in(stream.parent) == ["stream.skf"]


@pytest.fixture
def refiner_folder(tmp_path, tiny_codec):
    torch.manual_seed(0)
    config = RefinerConfig(8, 6, (8, 8, 8), (1, 1, 1), codec_id=tiny_codec.model_id)
    unet = RefinerUNet(config)
    for end in (unet.faithful, unet.realistic):
        torch.nn.init.normal_(end.to_pixels.weight, std=0.1)
    save_refiner(unet, tmp_path / "refiner", {})
    return tmp_path / "refiner"


def test_the_dials_of_the_refined_stage(stream, tmp_path, tiny_weights, refiner_folder):
    def decoded(name: str, stage: str, *options: object) -> bytes:
        target = tmp_path / name
        result = invoke("decode", stream, target, "--weights", tiny_weights, *options)
        assert result.exit_code == 0, result.stderr
        assert f"  {stage}  " in result.stdout, "the line says the stage"
        return target.read_bytes()

    refiner = ("--refiner", refiner_folder)
    preview = decoded("preview.png", "preview")
    assert decoded("asked_preview.png", "preview", "--stage", "preview") == preview
    one = decoded("one.png", "refined", *refiner)
    asked = ("--stage", "refined", "--steps", 1, "--realism", 1)
    assert decoded("asked.png", "refined", *refiner, *asked) == one
    four = decoded("four.png", "refined", *refiner, "--steps", 4)
    half, none = (
        decoded(f"{dial}.png", "refined", *refiner, "--realism", dial) for dial in (0.5, 0)
    )
    assert len({preview, one, four, half, none}) == 5


def test_a_dial_asks_for_the_refined_stage(stream, tmp_path, tiny_weights):
    result = invoke(
        "decode", stream, tmp_path / "out.png", "--weights", tiny_weights, "--realism", 0.5
    )
    assert result.exit_code > 2 and "trained for codec" in result.stderr, "no preview instead"


@pytest.mark.parametrize("dial", [("--steps", 3), ("--realism", 0.5), ("--refiner", "folder")])
def test_dials_belong_to_the_refined_stage(stream, tmp_path, dial):
    result = invoke("decode", stream, tmp_path / "out.png", "--stage", "preview", *dial)
    assert result.exit_code == 2 and f"{dial[0]} belongs to" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_effort_on_the_command_line(picture, tiny_weights):
    common = (picture, "--weights", tiny_weights, "--bpp", 0.5)
    for name, effort in (("plain.skf", 0), ("searched.skf", 1)):
        target = picture.with_name(name)
        result = invoke("encode", common[0], target, *common[1:], "--effort", effort)
        assert result.exit_code == 0, result.stderr
    plain, searched = (picture.with_name(n).read_bytes() for n in ("plain.skf", "searched.skf"))
    assert plain != searched and len(searched) <= 0.5 * 96 * 144 / 8
    assert invoke("encode", picture, "x.skf", "--effort", 11).exit_code == 2


def test_long_files_are_read_within_bounds(tmp_path):
    film = tmp_path / "film.skf"
    with film.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(NotAStream):
        read_stream(film)
    header = bitstream.Header(1, 1, 0, model_id=0)
    with film.open("r+b") as file:
        file.write(bitstream.pack(header, b"", b"", b""))
    with pytest.raises(CorruptStream, match="follow the end"):
        read_stream(film)
    # A hyper section longer than what is read first.
    header = bitstream.Header(4096, 4096, 0, model_id=0)
    film.write_bytes(long := bitstream.pack(header, bytes(80_000), b"1234", b""))
    assert read_stream(film) == long


# --------------------------------------------------------------------------------------------------
# info


def test_info_json_accounts_for_every_byte(stream, tiny_weights):
    result = invoke("info", stream, "--json", "--weights", tiny_weights)
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert list(facts) == [
        "file", "bytes", "format_version", "width", "height", "bpp", "quality", "quality_index",
        "model_id", "weights", "sections", "missing",
    ]  # fmt: skip
    assert facts["bytes"] == stream.stat().st_size
    assert (facts["width"], facts["height"], facts["quality"]) == (144, 96, 2.0)
    assert facts["bpp"] == pytest.approx(facts["bytes"] * 8 / (144 * 96))
    assert list(facts["sections"]) == ["header", "crc", "hyper", "structure", "tone"]
    assert sum(section["bytes"] for section in facts["sections"].values()) == facts["bytes"]
    assert sum(section["share"] for section in facts["sections"].values()) == pytest.approx(1)
    assert facts["missing"] == []
    assert facts["weights"] == {
        "file": tiny_weights.name,
        "model_id": facts["model_id"],
        "decodes": True,
    }


def test_info_for_people(stream, tmp_path, tiny_weights):
    result = invoke("info", cut(stream, tmp_path), "--weights", tiny_weights)
    assert result.exit_code == 0
    assert "cut.skf: 144x96" in result.stdout
    assert f"{tiny_weights.name} decodes it" in result.stdout
    assert "tone (missing)" in result.stdout
    assert result.stderr.startswith("warning: ")
    assert "\x1b" not in result.output


# --------------------------------------------------------------------------------------------------
# train, export, fetch


@pytest.fixture
def tiny_recipe(tmp_path: Path, photo: torch.Tensor) -> Path:
    """A boundary detector run that takes a second."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        save_image(photo, folder / f"{name}.png")
        save_image(photo[:, :1], folder / f"{name}_boundary.png")
    path = tmp_path / "tiny.toml"
    path.write_text(
        'task = "cues"\nphotos = ["elsewhere"]\nhold_out = 1\nminutes = 60.0\n'
        "phases = [[0.0, 32, 1]]\n"
    )
    return path


def test_train_and_resume(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setattr("sketchfusion_lite.training.loop.LOG_EVERY", 1)
    monkeypatch.chdir(tmp_path)
    arguments = ("train", tiny_recipe, "--photos", tmp_path / "photos")
    result = invoke(*arguments, "--steps", 2)  # wins over the recipe's minutes
    assert result.exit_code == 0, result.output
    run_folder = Path("runs") / "tiny"
    assert result.stdout.startswith(f"{run_folder}  2 steps")
    assert "detector.safetensors" in result.stdout
    assert "photos to train on; held out to validate on: " in result.stderr
    assert [line.split(" %")[0] for line in result.stderr.splitlines() if "loss" in line] == [
        "step 1  50.0",
        "step 2  100.0",
    ]
    assert invoke(*arguments, "--steps", 3).exit_code == 32  # there is a run already
    result = invoke(*arguments, "--steps", 3, "--resume")
    assert result.stdout.startswith(f"{run_folder}  3 steps")
    assert invoke("export", run_folder, "x.safetensors").exit_code == 30  # of a cues run


def test_wrong_arguments_to_train(tmp_path: Path) -> None:
    assert invoke("train", "no-such-recipe", "--out", tmp_path / "run").exit_code == 32
    assert invoke("train", "codec", "--steps", 1, "--minutes", 1).exit_code == 2
    assert files_in(tmp_path) == []


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sketchfusion_lite.training.loop", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    result = invoke("train", "cues", "--out", tmp_path / "run")
    assert result.exit_code == 33
    assert "sketchfusion-lite[train]" in result.stderr


def test_export_makes_loadable_weights(
    tmp_path: Path, tiny_model: SketchFusionModel, tiny_codec: SketchFusionCodec
) -> None:
    recipe = CodecRecipe(photos=["some/where/photos"], model=tiny_model.config.to_dict())
    state = {
        "recipe": recipe.to_dict(),
        "step": 7,
        "seconds": 90.0,
        "modules": {"model": tiny_model.state_dict()},
    }
    torch.save(state, tmp_path / "checkpoint.pt")
    out = tmp_path / "out.safetensors"
    result = invoke("export", tmp_path, out)
    assert result.exit_code == 0, result.output
    codec = load_codec(out, device="cpu", dtype="float32")
    assert codec.model_id == tiny_codec.model_id
    assert f"model {codec.model_id:#06x}  {out.stat().st_size} bytes  step 7" in result.stdout
    assert b"some/where" not in out.read_bytes()
    assert invoke("export", tmp_path, out).exit_code == 4


def test_export_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert invoke("export", tmp_path, out).exit_code == 30
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    assert invoke("export", tmp_path, out).exit_code == 30
    torch.save({"recipe": {"task": "codec", "model": {}}}, tmp_path / "checkpoint.pt")
    assert invoke("export", tmp_path, out).exit_code == 30
    assert not out.exists()


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sketchfusion_lite import datasets

    def fake(name: str, *, report, progress) -> Path:
        report(f"{name}: on its way")
        progress("file", 1, 0)
        progress("file", 2, 2)
        return tmp_path / name

    monkeypatch.setattr(datasets, "fetch", fake)
    result = invoke("fetch", "kodak")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'kodak'}\n")
    assert result.stderr == "kodak: on its way\n"
    monkeypatch.undo()
    assert invoke("fetch", "no-such-set").exit_code == 2


# --------------------------------------------------------------------------------------------------
# The program as a whole


def test_version_and_help():
    assert invoke("--version").stdout == f"sketchfusion {sketchfusion_lite.__version__}\n"
    for command in ("encode", "decode", "info", "train", "export", "fetch"):
        result = invoke(command, "--help")
        assert result.exit_code == 0
        assert "--help" in result.stdout
    assert invoke("no-such-command").exit_code == 2


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    arguments = ("info", tmp_path / "nowhere.skf")
    assert "Traceback" not in invoke(*arguments).stderr
    shown = invoke("--debug", *arguments)
    assert shown.exit_code == 10
    assert "Traceback" in shown.stderr
    monkeypatch.setenv("SKETCHFUSION_DEBUG", "1")
    assert "Traceback" in invoke(*arguments).stderr


def test_as_a_shell_sees_it(picture, tiny_weights):
    out = picture.with_name("photo.skf")
    result = run("encode", picture, out, "--quality", 2, "--weights", tiny_weights)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("photo.png  144x96  ")
    result = run("info", out, "--json", "--weights", tiny_weights)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["weights"]["decodes"] is True
    result = run("info", picture)
    assert (result.returncode, result.stdout) == (11, "")
    assert result.stderr.startswith("error: ")


def test_help_and_info_import_nothing_heavy(stream, tiny_weights):
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from sketchfusion_lite.cli import app\n"
        "for args in (['--help'], ['encode', '--help'], ['sweep', '--help'], ['info', *sys.argv[1:]]):\n"
        "    result = CliRunner().invoke(app, args)\n"
        "    assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'dask', 'distributed', 'matplotlib', 'scipy', 'diffusers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sketchfusion_lite.__file__).parents[1])}
    command = [sys.executable, "-c", code, str(stream), "--weights", str(tiny_weights)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0, result.stderr
