"""The command line as a script sees it: exit status, stdout, stderr, and which files appear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

import sketchfusion_lite
from sketchfusion_lite import bitstream, datasets
from sketchfusion_lite.cli import app
from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.errors import CorruptStream, NotAStream
from sketchfusion_lite.images import save_image
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.refiner_io import save_refiner
from sketchfusion_lite.results import read_stream
from sketchfusion_lite.training.recipe import CodecRecipe

from .shell import invoke, python, run


@pytest.fixture
def desk(tmp_path, photo, tiny_codec, tiny_weights, monkeypatch) -> Path:
    """The current folder, with a photo and its stream, one cut short and one damaged."""
    monkeypatch.chdir(tmp_path)
    save_image(photo, "photo.png")
    data = tiny_codec.encode("photo.png", quality=2.0).data
    streams = {
        "photo": data,
        "cut": data[:-3],
        "bad": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
    }
    streams |= {"short": data[:9], "foreign": b"GIF89a"}
    streams["other"] = bitstream.pack(bitstream.Header(144, 96, 10, model_id=1), b"1234", b"", b"")
    for name, stream in streams.items():
        Path(f"{name}.skf").write_bytes(stream)
    return tmp_path


@pytest.fixture
def pictures(desk, photo) -> Path:
    """A folder with two pictures and a broken one between them."""
    folder = Path("pictures")
    folder.mkdir()
    save_image(photo, folder / "a.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8 this is no picture")
    save_image(photo[..., :17, :33], folder / "c.d.jpg")
    return folder


def files_in(folder: Path | str) -> list[str]:
    """All names but the manifest's, hidden ones too: temporary files would show."""
    return sorted(p.name for p in Path(folder).iterdir() if "manifest.jsonl" not in p.name)


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("encode nowhere.png x.skf", 3, "nowhere.png"),
        ("encode photo.png x.skf --bpp 0.05 --quality 2", 2, "exclude each other"),
        ("encode photo.png x.skf --bpp 0", 2, "--bpp"),
        ("encode photo.png x.skf --quality 6", 2, "--quality"),
        ("encode photo.png x.skf --effort 11", 2, "--effort"),
        ("encode photo.png x.skf --device abacus", 2, "--device abacus"),
        ("encode photo.png x.skf --workers 2", 2, "for folders"),
        ("encode photo.png other.jpg", 2, "named like a picture"),
        ("encode photo.png .", 4, "is a folder"),
        ("encode photo.png no/such/folder/x.skf", 4, "Create it"),
        ("encode photo.png photo.skf", 4, "--force"),
        ("encode photo.png x.skf --weights nowhere.safetensors", 30, "--weights FILE"),
        ("encode photo.png x.skf --max-pixels 9", 3, "--max-pixels"),
        ("encode photo.png x.skf --max-bytes 9", 20, "--max-bytes 9. Raise --max-bytes (or --bpp)"),
        ("encode empty out", 3, "nothing to do"),
        ("decode photo.skf out.tiff", 4, "cannot write '.tiff'"),
        ("decode photo.skf out.png --format jpg", 2, "not named .jpg"),
        ("decode photo.skf out.png --stage painting", 2, "painting"),
        ("decode photo.skf out.png --max-pixels 100", 12, "--max-pixels"),
        ("decode photo.skf out.png --stage preview --steps 3", 2, "--steps belongs to"),
        ("decode photo.skf out.png --stage preview --realism 0.5", 2, "--realism belongs to"),
        ("decode photo.skf out.png --stage preview --refiner x", 2, "--refiner belongs to"),
        ("decode photo.skf out.png --realism 0.5", 30, "trained for codec"),  # no preview instead
        ("decode photo.skf out.png --refiner empty", 30, "--stage preview"),
        ("decode nowhere.skf out.png", 10, "nowhere"),
        ("decode foreign.skf out.png", 11, "foreign"),
        ("decode bad.skf out.png", 13, "--keep-going"),
        ("decode short.skf out.png", 14, "short"),
        ("decode other.skf out.png", 15, "other"),
        ("decode empty out", 10, "nothing to do"),
        ("info bad.skf", 13, "--keep-going"),
        ("train no-such-recipe --out run", 32, "no-such-recipe"),
        ("train codec --steps 1 --minutes 1", 2, "exclude each other"),
        ("export empty out.safetensors", 30, "no such file"),
        ("fetch no-such-set", 2, "no-such-set"),
        ("no-such-command", 2, "no-such-command"),
    ],
)
def test_what_is_refused_says_why_and_leaves_nothing(desk, tiny_weights, line, status, words):
    """In the words of the command line: an option, no argument of the library."""
    Path("empty").mkdir()
    before = files_in(desk)
    weights = ["--weights", tiny_weights]
    default = weights if line[:6] in ("encode", "decode") and "--weights" not in line else []
    result = invoke(*line.split(), *default)
    assert result.exit_code == status, result.output
    assert result.stdout == "" and "rror" in result.stderr and "Traceback" not in result.stderr
    assert words in " ".join(result.stderr.split())
    assert not any(f"{name}=" in result.stderr for name in ("max_pixels", "max_bytes", "device"))
    assert [name for name in files_in(desk) if name != "out"] == before


# --------------------------------------------------------------------------------------------------
# encode


def test_encode_prints_one_line_on_stdout(desk, tiny_weights):
    exact = ("--weights", tiny_weights, "--dtype", "float32")
    result = invoke("encode", "photo.png", "x.skf", "--quality", 2, *exact)
    assert (result.exit_code, result.stderr) == (0, "")
    size = Path("x.skf").stat().st_size
    facts = f"photo.png  144x96  {size} bytes  {size * 8 / (144 * 96):.4f} bpp  quality 2.00"
    assert result.stdout.startswith(facts) and result.stdout.count("\n") == 1
    assert Path("x.skf").read_bytes() == Path("photo.skf").read_bytes()
    forced = ("--quality", 1, "--weights", tiny_weights, "--force")
    assert invoke("encode", "photo.png", "x.skf", *forced).exit_code == 0
    assert Path("x.skf").read_bytes() != Path("photo.skf").read_bytes()


def test_effort_on_the_command_line(desk, tiny_weights):
    options = ("--weights", tiny_weights, "--bpp", 0.5, "--force", "--effort")
    made = []
    for effort in (0, 1):
        result = invoke("encode", "photo.png", "x.skf", *options, effort)
        assert result.exit_code == 0, result.stderr
        made.append(Path("x.skf").read_bytes())
    assert made[0] != made[1] and len(made[1]) <= 0.5 * 96 * 144 / 8
    assert "effort 1" in result.stderr


def test_folder_goes_on_after_a_broken_picture(pictures, tiny_weights):
    out = Path("new/streams")
    out.mkdir(parents=True)
    (out / "a.skf").write_bytes(b"precious")
    result = invoke("encode", pictures, out, "--quality", 2, "--weights", tiny_weights)
    assert result.exit_code == 3
    assert files_in(out) == ["a.skf", "c.d.skf"]
    assert (out / "a.skf").read_bytes() == b"precious"
    assert result.stdout.startswith("c.d.jpg  33x17  ")
    error, skipped = sorted(result.stderr.splitlines())
    assert error.startswith("error: ") and "b.jpg" in error
    assert skipped.startswith("skipped: a.png")
    Path("file").touch()
    assert invoke("encode", pictures, "file").exit_code == 4


def test_a_folder_as_a_phone_leaves_it(pictures, tiny_weights, photo):
    """What is not encoded is named, a link to nothing and clashing names fail, and the others go on."""
    (pictures / "b.jpg").rename(pictures / "e.jfif")
    save_image(photo, pictures / "x.png").rename(pictures / "f.jpe")
    save_image(photo, pictures / "a.webp")
    (pictures / "day2").mkdir()
    (pictures / "notes.txt").write_text("not for encoding")
    (pictures / "gone.jpg").symlink_to("nowhere.jpg")
    latin = pictures / os.fsdecode(b"b\xe4r.png")
    save_image(photo, pictures / "x.png").rename(latin)
    for _ in range(2):  # the second time, what is done is done
        result = invoke("encode", pictures, "out", "--quality", 2, "--weights", tiny_weights)
        assert result.exit_code == 2, "that of the first error"
        assert files_in("out") == [os.fsdecode(b"b\xe4r.skf"), "c.d.skf", "f.skf"]
        for name in ("a.png and a.webp would both become a.skf", "e.jfif", "gone.jpg"):
            assert any(name in line for line in result.stderr.splitlines() if "error" in line)
        assert "day2 (folders inside" in result.stderr and "notes.txt" in result.stderr
    assert "skipped: 3 of 5 are done" in result.stderr
    decode = ("decode", "out", "back", "--stage", "preview", "--weights", tiny_weights)
    assert (decoded := invoke(*decode)).exit_code == 0
    assert decoded.stderr == "", "the manifest is ours, and no news"
    (Path("out") / "a.png").touch()
    assert "a.png (not named .skf)" in invoke(*decode).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_odd_file_names_take_nobody_along(desk, tiny_weights):
    names = [b"latin-1 \xe4.png", b"new\nline.png", b"-dash.png", b"[red]x.png", b"a=b_c.png"]
    os.mkdir("odd")
    for name in names:
        Path(os.fsdecode(b"odd/" + name)).write_bytes(Path("photo.png").read_bytes())
    Path(os.fsdecode(b"odd/broken \xe4.png")).write_bytes(b"no picture")
    options = ("--weights", tiny_weights, "--quality", 1)
    result = invoke("encode", "odd", "out", *options)
    assert result.exit_code == 3 and isinstance(result.exception, SystemExit), result.output
    made = {name for name in os.listdir(b"out") if name.endswith(b".skf")}
    assert made == {name.replace(b".png", b".skf") for name in names}
    alone = invoke("encode", os.fsdecode(b"odd/" + names[0]), "one.skf", *options)
    assert alone.exit_code == 0, alone.output


def test_interrupt_ends_with_130_and_leaves_nothing(pictures, tiny_weights, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sketchfusion_lite.files.os.replace", interrupted)  # at the worst moment
    result = invoke("encode", pictures, "out", "--quality", 2, "--weights", tiny_weights)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert files_in("out") == []


# --------------------------------------------------------------------------------------------------
# decode


@pytest.mark.parametrize(("stage", "mode"), [("preview", "RGB"), ("sketch", "L")])
def test_decode_writes_the_picture(desk, tiny_weights, tiny_codec, stage, mode):
    options = ("--stage", stage, "--weights", tiny_weights, "--dtype", "float32")
    result = invoke("decode", "photo.skf", "out.png", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("photo.skf  144x96  ") and f"  {stage}  " in result.stdout
    with Image.open("out.png") as image:
        assert (image.mode, image.size) == (mode, (144, 96))
        expected = tiny_codec.decode("photo.skf", stage).image
        assert ImageChops.difference(image, expected).getbbox() is None


def test_what_is_cut_off_or_damaged_is_said_and_the_rest_decodes(desk, tiny_weights):
    weights = ("--weights", tiny_weights)
    result = invoke("decode", "cut.skf", "out.png", *weights)
    assert result.exit_code == 0 and Path("out.png").exists()
    assert result.stderr.startswith("warning: cut.skf: truncated") and "tone" in result.stderr
    assert "warning" not in result.stdout
    os.rename("bad.skf", "max_pixels=9.skf")
    result = invoke("decode", "max_pixels=9.skf", "x.png", *weights)
    assert "error: max_pixels=9.skf: " in result.stderr, "a name is no advice"
    result = invoke("decode", "max_pixels=9.skf", "x.png", *weights, "--keep-going")
    assert result.exit_code == 0 and "without tone" in result.stderr and Path("x.png").exists()
    result = invoke("info", "max_pixels=9.skf", *weights, "--keep-going")
    assert result.exit_code == 0 and "tone (missing)" in result.stdout


def test_decode_folder(desk, tiny_weights):
    os.mkdir("streams")
    for name, new in (("photo", "a.skf"), ("foreign", "b.skf"), ("cut", "c.SKF")):
        os.rename(f"{name}.skf", f"streams/{new}")
    result = invoke("decode", "streams", "out", "--format", "webp", "--weights", tiny_weights)
    assert result.exit_code == 11
    assert files_in("out") == ["a.webp", "c.webp"]
    assert [line.split()[0] for line in result.stdout.splitlines()[:2]] == ["a.skf", "c.SKF"]
    assert "b.skf" in result.stderr and "c.SKF: truncated" in result.stderr


def test_the_dials_of_the_refined_stage(desk, tiny_weights, tiny_codec):
    torch.manual_seed(0)
    config = RefinerConfig(8, 6, (8, 8, 8), (1, 1, 1), codec_id=tiny_codec.model_id)
    unet = RefinerUNet(config)
    for end in (unet.faithful, unet.realistic):
        torch.nn.init.normal_(end.to_pixels.weight, std=0.1)
    save_refiner(unet, "refiner", {})

    def decoded(stage: str, *options: object) -> bytes:
        common = ("--weights", tiny_weights, "--force")
        result = invoke("decode", "photo.skf", "out.png", *common, *options)
        assert result.exit_code == 0, result.stderr
        assert f"  {stage}  " in result.stdout, "the line says the stage"
        return Path("out.png").read_bytes()

    refiner = ("--refiner", "refiner")
    preview, one = decoded("preview"), decoded("refined", *refiner)
    asked = ("--stage", "refined", "--steps", 1, "--realism", 1)
    assert decoded("refined", *refiner, *asked) == one
    four = decoded("refined", *refiner, "--steps", 4)
    half, none = (decoded("refined", *refiner, "--realism", dial) for dial in (0.5, 0))
    assert len({preview, one, four, half, none}) == 5


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


def test_info_json_accounts_for_every_byte(desk, tiny_weights):
    result = invoke("info", "photo.skf", "--json", "--weights", tiny_weights)
    assert (result.exit_code, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert list(facts) == [
        "file", "bytes", "format_version", "width", "height", "bpp", "quality", "quality_index",
        "model_id", "weights", "sections", "missing",
    ]  # fmt: skip
    assert facts["bytes"] == Path("photo.skf").stat().st_size
    assert (facts["width"], facts["height"], facts["quality"]) == (144, 96, 2.0)
    assert facts["bpp"] == pytest.approx(facts["bytes"] * 8 / (144 * 96))
    assert list(facts["sections"]) == ["header", "crc", "hyper", "structure", "tone"]
    assert sum(section["bytes"] for section in facts["sections"].values()) == facts["bytes"]
    assert sum(section["share"] for section in facts["sections"].values()) == pytest.approx(1)
    assert facts["missing"] == []
    own = {"file": tiny_weights.name, "model_id": facts["model_id"], "decodes": True}
    assert facts["weights"] == own


def test_info_for_people(desk, tiny_weights):
    result = invoke("info", "cut.skf", "--weights", tiny_weights)
    assert result.exit_code == 0
    for words in ("cut.skf: 144x96", f"{tiny_weights.name} decodes it", "tone (missing)"):
        assert words in result.stdout
    assert result.stderr.startswith("warning: ")
    assert "\x1b" not in result.output
    assert "not decodable with" in invoke("info", "other.skf", "--weights", tiny_weights).stdout


# --------------------------------------------------------------------------------------------------
# train, export, fetch


def test_train_and_resume(desk, photo, monkeypatch):
    """A boundary detector run that takes a second."""
    pytest.importorskip("accelerate")
    monkeypatch.setattr("sketchfusion_lite.training.loop.LOG_EVERY", 1)
    Path("photos").mkdir()
    for name in ("a", "b"):
        save_image(photo, f"photos/{name}.png")
        save_image(photo[:, :1], f"photos/{name}_boundary.png")
    Path("tiny.toml").write_text(
        'task = "cues"\nphotos = ["elsewhere"]\nhold_out = 1\nminutes = 60.0\nphases = [[0.0, 32, 1]]\n'
    )
    arguments, folder = ("train", "tiny.toml", "--photos", "photos"), Path("runs/tiny")
    result = invoke(*arguments, "--steps", 2)  # wins over the recipe's minutes
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{folder}  2 steps") and "detector.safe" in result.stdout
    assert "photos to train on; held out to validate on: " in result.stderr
    steps = [line.split(" %")[0] for line in result.stderr.splitlines() if "loss" in line]
    assert steps == ["step 1  50.0", "step 2  100.0"]
    assert invoke(*arguments, "--steps", 3).exit_code == 32  # there is a run already
    result = invoke(*arguments, "--steps", 3, "--resume")
    assert result.stdout.startswith(f"{folder}  3 steps")
    assert invoke("export", folder, "x.safetensors").exit_code == 30  # of a cues run


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "sketchfusion_lite.training.loop", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    result = invoke("train", "cues", "--out", tmp_path / "run")
    assert result.exit_code == 33 and "sketchfusion-lite[train]" in result.stderr


def test_export_makes_loadable_weights(tmp_path, tiny_model, tiny_codec):
    recipe = CodecRecipe(photos=["some/where/photos"], model=tiny_model.config.to_dict())
    state = {"recipe": recipe.to_dict(), "step": 7, "seconds": 90.0}
    checkpoint, out = tmp_path / "checkpoint.pt", tmp_path / "out.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    assert invoke("export", tmp_path, out).exit_code == 30
    torch.save({"recipe": {"task": "codec", "model": {}}}, checkpoint)
    assert invoke("export", tmp_path, out).exit_code == 30 and not out.exists()
    torch.save({**state, "modules": {"model": tiny_model.state_dict()}}, checkpoint)
    result = invoke("export", tmp_path, out)
    assert result.exit_code == 0, result.output
    codec = load_codec(out, device="cpu", dtype="float32")
    assert codec.model_id == tiny_codec.model_id
    assert f"model {codec.model_id:#06x}  {out.stat().st_size} bytes  step 7" in result.stdout
    assert b"some/where" not in out.read_bytes()
    assert invoke("export", tmp_path, out).exit_code == 4


def test_fetch(tmp_path, monkeypatch):
    def fake(name: str, *, report, progress) -> Path:
        report(f"{name}: on its way")
        progress("file", 1, 0)
        progress("file", 2, 2)
        return tmp_path / name

    monkeypatch.setattr(datasets, "fetch", fake)
    result = invoke("fetch", "kodak")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'kodak'}\n")
    assert result.stderr == "kodak: on its way\n"


# --------------------------------------------------------------------------------------------------
# The program as a whole

COMMANDS = {
    "encode": ["photo.png", "x.skf"],
    "decode": ["photo.skf", "x.png"],
    "info": ["photo.skf"],
    "evaluate": ["photos", "--codec", "jpeg", "--metrics", "psnr", "--out", "x.csv"],
    "fid": ["photos", "photos"],
    "train": ["cues", "--out", "run"],
    "export": ["run", "x.safetensors"],
    "sweep": ["grid.yaml"],
    "fetch": ["nothing"],
    "link": ["photo.skf"],
    "explore": ["coffee", "--no-browser"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_options_end_with_an_error_and_never_a_traceback(desk, command):
    """Generated from the commands: every option that takes a value, with values that fit none."""
    import typer

    os.mkdir("photos")
    os.rename("photo.png", "photos/a.png")
    parameters = typer.main.get_command(app).commands[command].params
    taking = {p.opts[0] for p in parameters if not getattr(p, "is_flag", 0)} - {"--pictures"}
    for option in sorted(name for name in taking if name.startswith("--")):
        for value in ("", "nowhere/at-all"):
            result = invoke(command, *COMMANDS[command], option, value)
            shown = f"{command} {option} {value!r}: {result.exit_code}: {result.stderr}"
            assert result.exit_code not in (0, 1), shown
            assert "rror" in result.stderr and "Traceback" not in result.stderr, shown
            assert isinstance(result.exception, SystemExit), shown
    result = invoke(command, "", *COMMANDS[command][1:])  # would mean the current folder
    assert result.exit_code == 2 and "empty argument" in result.stderr, result.output


def test_version_help_and_debug(monkeypatch):
    assert invoke("--version").stdout == f"sketchfusion {sketchfusion_lite.__version__}\n"
    for command in (*COMMANDS, "export-web"):
        result = invoke(command, "--help")
        assert result.exit_code == 0 and "--help" in result.stdout
    assert "Traceback" not in invoke("info", "nowhere.skf").stderr
    shown = invoke("--debug", "info", "nowhere.skf")
    assert shown.exit_code == 10 and "Traceback" in shown.stderr
    monkeypatch.setenv("SKETCHFUSION_DEBUG", "1")
    assert "Traceback" in invoke("info", "nowhere.skf").stderr


def test_as_a_shell_sees_it(desk, tiny_weights):
    told = {"capture_output": True, "text": True}
    options = ("--quality", 2, "--weights", tiny_weights)
    result = run("encode", "photo.png", "x.skf", *options, **told)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("photo.png  144x96  ")
    result = run("info", "photo.png", **told)
    assert (result.returncode, result.stdout) == (11, "") and result.stderr.startswith("error: ")


def test_help_and_info_import_nothing_heavy(desk, tiny_weights):
    code = (
        "import sys\n"
        "from tests.shell import invoke\n"
        "for args in (['--help'], ['encode', '--help'], ['sweep', '--help'], ['info', *sys.argv[1:]]):\n"
        "    result = invoke(*args)\n"
        "    assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'dask', 'distributed', 'matplotlib', 'scipy', 'diffusers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = python("-c", code, "photo.skf", "--weights", tiny_weights, stderr=subprocess.PIPE)
    assert result.returncode == 0, result.stderr


# --------------------------------------------------------------------------------------------------
# Pipes


def test_a_dash_is_standard_input_and_output(desk, tiny_weights):
    weights = ("--weights", tiny_weights, "--dtype", "float32")
    preview = ("--stage", "preview", *weights)
    invoke("decode", "photo.skf", "a.png", *preview)
    photo, stream = Path("photo.png").read_bytes(), Path("photo.skf").read_bytes()
    encoded = invoke("encode", "-", "-", "--quality", 2, *weights, stdin=photo)
    assert (encoded.exit_code, encoded.stdout_bytes) == (0, stream)
    assert encoded.stderr.startswith("stdin  144x96  "), "words go beside the stream"
    decoded = invoke("decode", "-", "-", *preview, stdin=stream)
    assert (decoded.exit_code, decoded.stdout_bytes) == (0, Path("a.png").read_bytes())
    webp = invoke("decode", "-", "-", "--format", "webp", *preview, stdin=stream)
    assert webp.stdout_bytes[8:12] == b"WEBP"
    told = invoke("info", "-", *weights[:2], stdin=stream)
    assert told.exit_code == 0 and told.stdout.startswith("stdin: 144x96")
    for arguments, given in ((["encode", "-", "x.skf"], b"text"), (["decode", "-", "x.png"], b"x")):
        refused = invoke(*arguments, *weights, stdin=given)
        assert refused.exit_code > 2 and refused.stderr.startswith("error: stdin: ")
    os.mkdir("photos")
    os.rename("photo.png", "photos/a.png")
    assert invoke("encode", "photos", "-", *weights).exit_code == 2


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout on this system")
def test_other_names_of_standard_output_are_not_spoilt(desk, tiny_weights):
    os.symlink("/dev/stdout", "link.skf")
    options = ("--weights", tiny_weights, "--quality", 2, "--dtype", "float32")
    with open("photo.png", "rb") as photo, open("b.skf", "wb") as out:
        pipes = {"stdin": photo, "stdout": out, "stderr": subprocess.PIPE}
        done = run("encode", "/dev/stdin", "link.skf", *options, **pipes)
    assert Path("b.skf").read_bytes() == Path("photo.skf").read_bytes()
    assert b"144x96" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_went_away_is_no_error(desk):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = run("info", "photo.skf", stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")
