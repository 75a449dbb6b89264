"""The doors: whatever is passed, an error of ours names the argument or the file; threads; forked processes."""

from __future__ import annotations

import copy
import inspect
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import sketchfusion_lite
from sketchfusion_lite import (
    bitstream,
    codec,
    datasets,
    files,
    hardware,
    images,
    refiner_io,
    samples,
)
from sketchfusion_lite.codec import load_codec
from sketchfusion_lite.conditioning import RefinementCondition
from sketchfusion_lite.errors import SketchFusionError, StreamError, WorkersError
from sketchfusion_lite.evaluation import runner
from sketchfusion_lite.images import save_image
from sketchfusion_lite.refiner import RefinerConfig, RefinerUNet
from sketchfusion_lite.sampler import FlowRefiner, sample

from .shell import python

NAN, INF = float("nan"), float("inf")

# What is wrong for a parameter, by the first of these words in its annotation.
WRONG: dict[str, list[Any]] = {
    "torch.device": ["foo", "cuda:7", "meta", "", 7, b"cpu", 1.5, []],
    "torch.dtype": ["half", torch.int8, "", 32, []],
    "bool": ["no", 2, b"", []],
    "OnStep": ["print", 7],
    "Callable": ["print", 7],
    "OnRow": ["print", 7],
    "Report": ["print", 7],
    "Progress": ["print", 7],
    "Generators": ["seed", 7, []],
    "Sequence": [7, 1.5],
    "Iterable": [7, 1.5],
    "dict": [[], "a", 7],
    "StreamSource": [7, 1.5, [], "", "nowhere.skf", "\0", b"no stream"],
    "ImageSource": [7, 1.5, [], "nowhere.png", b"no picture"],
    "bytes": [7, "text", []],
    "Path": [7, 1.5, b"raw", "", [], "\0"],
    "PathLike": [7, 1.5, b"raw", "", [], "\0"],
    "int": ["many", 1.5, True, NAN, -1, 10**400, b"", [], 2 + 1j],
    "float": ["much", True, NAN, INF, -INF, -1, b"", [], 2 + 1j],
    "str": [7, 1.5, b"text", []],
    "Tensor": [7, "x", None, torch.zeros(0), torch.zeros(2, 2)],
}
RIGHT = {  # what is no mistake all the same
    ("encode", "max_pixels", 10**400),
    ("load_image", "max_pixels", 10**400),
    ("encode", "max_bytes", 1.5),  # a budget of one byte is too small, and says so
    ("trial", "max_pixels", 10**400),
    ("decode", "max_pixels", 10**400),
    ("parse", "max_pixels", 10**400),
    ("decode", "steps", 10**400),  # of the preview, which takes none
    ("SketchFusionCodec", "tile", 10**400),
    ("FlowRefiner", "tile", 10**400),
}
# Ours by type alone: records that hold what the library made, and classes with doors of their own above.
RECORDS = {"Decoded", "Encoded", "StreamInfo", "Stream", "Photo", "Sample", "Manifest", "Metrics"}
ELSEWHERE = {
    "SketchFusionError", "StreamError", "__version__",
    "packaged", "cache_home", "names", "manifest", "inception_weights", "shipped_refiner",
    "bfloat16_units", "describe_choice", "refuse_fork", "load_dists",
    "ImageSource", "crop", "to_uint8", "text_of", "warn_left_out", "list_files", "sha256_of", "lpips_trunk",
    "psnr", "load_lpips", "measure",  # see test_metrics.py
}  # fmt: skip
MODULES = (
    sketchfusion_lite,
    codec,
    bitstream,
    hardware,
    refiner_io,
    samples,
    files,
    datasets,
    images,
)


@pytest.fixture(scope="module")
def unet() -> RefinerUNet:
    torch.manual_seed(0)
    return RefinerUNet(RefinerConfig(8, 6, (8, 8, 8), (1, 1, 1))).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "preview": torch.rand(2, 3, 32, 48, generator=generator),
        "y_hat": torch.randn(2, 8, 2, 3, generator=generator),
        "quality": torch.tensor([2.0, 3.0]),
    }


@pytest.fixture
def doors(tiny_codec, tiny_weights, photo, tmp_path, unet, inputs) -> dict[str, tuple[Any, dict]]:
    """Every public function with arguments that are right."""
    data = tiny_codec.encode(photo[..., :32, :48], quality=1.0).data
    stream = bitstream.parse(data)
    picture = (
        save_image(photo[..., :32, :48], tmp_path / "photos" / "a.png")
        if ((tmp_path / "photos").mkdir() is None)
        else None
    )
    one = {k: v[:1] for k, v in inputs.items()}
    condition = RefinementCondition(**one, sketch=torch.ones(1, 1, 32, 48), seed=0)
    condition_of = {"condition": condition, "steps": 1, "on_step": None, "realism": 0.5}
    sections = {"hyper": stream.hyper, "structure": stream.structure, "tone": stream.tone}
    cpu = {"device": "cpu", "dtype": "float32"}
    parts = {"model": tiny_codec.model, "entropy": tiny_codec.entropy}
    return {
        "SketchFusionCodec": (codec.SketchFusionCodec, {**parts, **cpu}),
        "encode": (tiny_codec.encode, {"image": picture}),
        "decode": (tiny_codec.decode, {"data": data, "stage": "preview"}),
        "trial": (tiny_codec.trial, {"image": picture}),
        "boundaries": (tiny_codec.boundaries, {"image": picture}),
        "load_codec": (load_codec, {"weights": tiny_weights, **cpu}),
        "export_weights": (
            codec.export_weights,
            {"model": tiny_codec.model, "path": tmp_path / "w.safetensors", "training": {}},
        ),
        "read_info": (sketchfusion_lite.read_info, {"data": data}),
        "Header": (bitstream.Header, {"width": 9, "height": 9, "quality_index": 0, "model_id": 0}),
        "parse": (bitstream.parse, {"data": data}),
        "pack": (bitstream.pack, {"header": stream.header, **sections}),
        "quality_to_index": (bitstream.quality_to_index, {"quality": 1.0}),
        "index_to_quality": (bitstream.index_to_quality, {"index": 9}),
        "choose_device": (hardware.choose_device, {"device": "cpu"}),
        "choose_dtype": (hardware.choose_dtype, {"dtype": "float32", "device": "cpu"}),
        "load_refiner": (refiner_io.load_refiner, {"folder": None, **cpu}),
        "refiner_config": (refiner_io.refiner_config, {"folder": refiner_io.shipped_refiner()}),
        "save_refiner": (
            refiner_io.save_refiner,
            {"unet": unet, "folder": tmp_path / "refiner", "training": {}},
        ),
        "FlowRefiner": (FlowRefiner, {"unet": unet}),
        "refine": (FlowRefiner(unet).refine, condition_of),
        "load_image": (images.load_image, {"source": picture}),
        "image_file": (images.image_file, {"image": photo, "path": "a.png"}),
        "save_image": (images.save_image, {"image": photo, "path": tmp_path / "a.png"}),
        "to_pil": (images.to_pil, {"image": photo}),
        "pad_to_multiple": (images.pad_to_multiple, {"image": photo, "multiple": 16}),
        "load_photo": (samples.load_photo, {"photo": picture}),
        "sample_path": (samples.sample_path, {"name": "coffee"}),
        "list_images": (files.list_images, {"folder": tmp_path / "photos"}),
        "atomic_write_bytes": (files.atomic_write_bytes, {"path": tmp_path / "x", "data": b""}),
        "fetch": (datasets.fetch, {"name": "no such set"}),
        "evaluate": (
            runner.evaluate,
            {"folder": tmp_path / "photos", "codecs": ["jpeg"], "rates": [9.0], "metrics": ["psnr"],
             "out": tmp_path / "t.csv"},
        ),
    }  # fmt: skip


def wrong_for(parameter: inspect.Parameter) -> list[Any]:
    annotation = str(parameter.annotation)
    for word, values in WRONG.items():
        if re.search(rf"\b{re.escape(word)}\b", annotation):
            optional = "None" in annotation or word == "Generators"
            return [*values, *([] if optional or None in values[:3] else [None])]
    return [7, "x", *([] if "None" in annotation else [None])]  # an object of ours


def test_every_public_function_has_a_door(doors):
    public = {
        name
        for module in MODULES
        for name in module.__all__
        if name.islower() or name[1:2].islower()
    }
    assert public - set(doors) - RECORDS - ELSEWHERE == set()


def is_right(name: str, parameter: str, value: Any) -> bool:
    return any((name, parameter, type(value), value) == (n, p, type(v), v) for n, p, v in RIGHT)


def complaint(function: Any, arguments: dict, parameter: str) -> str:
    """What is wrong with the answer to a wrong argument; empty if nothing."""
    value = arguments[parameter]
    try:
        function(**arguments)
    except SketchFusionError as error:
        said = str(error)
        named = parameter in said or (isinstance(value, str) and value in said) or "picture" in said
        if not named and not isinstance(value, bytes):  # bytes are called what ``name`` says
            return f"does not name it: {said}"
        return "" if "\n" not in said and len(said) < 600 else f"not one line: {said}"
    except Exception as error:  # what is looked for
        return f"{type(error).__name__}: {error}"
    return "taken"


def test_every_argument_of_a_wrong_type_or_range_is_named(doors):
    """Generated from signatures: an error of ours, which names the argument or what was passed."""
    found, tried = [], 0
    for name, (function, right) in doors.items():
        for parameter in inspect.signature(function).parameters.values():
            for value in wrong_for(parameter):
                if is_right(name, parameter.name, value):
                    continue
                tried += 1
                if said := complaint(function, {**right, parameter.name: value}, parameter.name):
                    found.append(f"{name}({parameter.name}={str(value)[:40]!r}): {said}")
    assert not found, "\n".join(found)
    assert tried > 300


# --------------------------------------------------------------------------------------------------
# Threads and processes


def test_one_codec_refines_in_many_threads(tiny_codec, photo, unet):
    """What is loaded at its first use is loaded once, and every picture is what it is alone."""
    streams = [
        tiny_codec.encode(photo[..., : 48 + 16 * i, :64], quality=2.0).data for i in range(4)
    ]
    refined = codec.SketchFusionCodec(
        tiny_codec.model, tiny_codec.entropy, dtype="float32", refiner=FlowRefiner(unet)
    )
    alone = [refined.decode(data).image.tobytes() for data in streams]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: refined.decode(data).image.tobytes(), streams * 3))
    assert together == alone * 3


def test_a_refiner_is_loaded_once_by_many_threads(shipped_codec, monkeypatch):
    lazy, loads, load = copy.copy(shipped_codec), [], codec.load_refiner
    lazy._refiner = None

    def counted(*arguments):
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(codec, "load_refiner", counted)
    with ThreadPoolExecutor(4) as pool:
        found = {id(refiner) for refiner in pool.map(lambda _: lazy.refiner, range(8))}
    assert len(found) == len(loads) == 1


def test_pipelines_that_share_a_scheduler_wait_for_each_other(unet, inputs):
    from sketchfusion_lite.refinement import RefinementPipeline

    first = RefinementPipeline.of(unet)
    second = RefinementPipeline(**first.components)

    def refined(task: tuple[RefinementPipeline, int]) -> torch.Tensor:
        pipeline, seed = task
        pipeline.set_progress_bar_config(disable=True)
        options = {"num_inference_steps": 1 + seed % 4, "output_type": "pt"}
        generator = torch.Generator().manual_seed(seed)
        return pipeline(**inputs, **options, generator=generator).images

    tasks = [((first, second)[i % 2], i) for i in range(8)]
    alone = [refined(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(refined, tasks))
    assert all(map(torch.equal, alone, together))


@pytest.mark.parametrize("through", ["pipeline", "sampler"])
def test_a_generator_for_each_picture_makes_a_batch_of_its_pictures(unet, inputs, through):
    pipeline = FlowRefiner(unet).pipeline
    pipeline.set_progress_bar_config(disable=True)

    def refined(part: slice, seeds: list[int], as_list: bool = True) -> torch.Tensor:
        told = {name: tensor[part] for name, tensor in inputs.items()}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        generator = generators if as_list else generators[0]
        if through == "pipeline":
            return pipeline(**told, generator=generator, output_type="pt").images
        return sample(
            unet, **told, times=[1.0], advance=lambda step, x, x0: x0, generator=generator
        )

    both = refined(slice(0, 2), [5, 6])
    for i, seed in enumerate((5, 6)):
        own = slice(i, i + 1)
        assert torch.allclose(both[own], refined(own, [seed], as_list=False), atol=1e-5)
    with pytest.raises(SketchFusionError, match="generator"):
        refined(slice(0, 2), [5])


_FORKED = """
import multiprocessing, sys, torch
from sketchfusion_lite import load_codec
torch.set_num_threads(2)
codec = load_codec(sys.argv[1], device="cpu", dtype="float32")
photo = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0))
data = codec.encode(photo, quality=1.0).data
def work(threads):
    if threads:
        torch.set_num_threads(threads)
    try:
        return len(codec.decode(data, "preview").image.tobytes())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
with multiprocessing.get_context("fork").Pool(1) as pool:
    for threads in (0, 1):
        print(pool.apply_async(work, (threads,)).get(60))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_says_that_it_would_hang(tiny_weights):
    """And the remedy that it names helps."""
    two = {"OMP_NUM_THREADS": "2"}
    done = python("-c", _FORKED, tiny_weights, env=two, stdout=subprocess.PIPE, text=True)
    refused, decoded = done.stdout.splitlines()
    assert refused.startswith(WorkersError.__name__) and "spawn" in refused
    assert int(decoded) == 3 * 256 * 256


# --------------------------------------------------------------------------------------------------
# What is given back


def test_decode_and_info_take_bytes_paths_and_what_encode_returned(tiny_codec, photo, tmp_path):
    encoded = tiny_codec.encode(photo, quality=1.0)
    path = encoded.save(tmp_path / "a.skf")
    expected = tiny_codec.decode(encoded.data, "preview").image.tobytes()
    for source in (path, str(path), encoded, bytearray(encoded.data), memoryview(encoded.data)):
        assert tiny_codec.decode(source, "preview").image.tobytes() == expected
        assert sketchfusion_lite.read_info(source).bpp == encoded.bpp
    path.write_bytes(encoded.data[:9])
    with pytest.raises(StreamError, match=re.escape(str(path))):
        tiny_codec.decode(path)
    with pytest.raises(StreamError, match="nowhere"):
        sketchfusion_lite.read_info(tmp_path / "nowhere.skf")


def test_what_is_shown_of_objects_is_short(tiny_codec, photo):
    encoded = tiny_codec.encode(photo, quality=4.0)
    decoded = tiny_codec.decode(encoded, "preview")
    for shown, words in (
        (repr(encoded), [f"{len(encoded.data)} bytes", "bpp", "quality 4.0"]),
        (repr(decoded), ["preview", "144x96"]),
        (repr(tiny_codec), ["tiny.safetensors", f"{tiny_codec.model_id:#06x}", "cpu", "float32"]),
    ):
        assert len(shown) < 200 and all(word in shown for word in words), shown


def test_a_path_of_the_wrong_kind_is_named(tiny_codec, tmp_path, photo):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    long = tmp_path / ("n" * 300)
    for call in (
        lambda: load_codec(tmp_path / "folder"),
        lambda: load_codec(long),
        lambda: tiny_codec.decode(tmp_path / "folder"),
        lambda: tiny_codec.decode(long),
        lambda: tiny_codec.encode(tmp_path / "folder"),
        lambda: tiny_codec.encode(long),
        lambda: tiny_codec.encode(photo, quality=1.0).save(tmp_path / "folder"),
        lambda: tiny_codec.encode(photo, quality=1.0).save(tmp_path / "file" / "a.skf"),
        lambda: tiny_codec.encode(photo, quality=1.0).save(long),
        lambda: refiner_io.load_refiner(tmp_path / "file"),
        lambda: refiner_io.load_refiner(long),
        lambda: files.list_images(tmp_path / "file"),
        lambda: files.list_images(long),
        lambda: samples.load_photo(long),
    ):
        with pytest.raises(SketchFusionError, match=re.escape(str(tmp_path))):
            call()


@pytest.mark.parametrize("name", ["bpp", "max_bytes"])
def test_the_bad_file_is_named_whatever_the_budget(tiny_codec, name):
    with pytest.raises(SketchFusionError, match=r"holiday\.heic"):
        tiny_codec.encode(b"no picture", **{name: 100.0}, name="holiday.heic")
