"""Metrics against formulas and independent implementations, on synthetic pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sketchfusion_lite import datasets
from sketchfusion_lite.errors import ArgumentError, DownloadError, EvaluationError, ImageError
from sketchfusion_lite.evaluation import metrics
from sketchfusion_lite.evaluation.metrics import METRICS, Comparison, measure
from sketchfusion_lite.images import to_uint8
from sketchfusion_lite.perception import load_dists, load_lpips
from sketchfusion_lite.trunks import LAYERS


def picture(height: int = 192, width: int = 208) -> Tensor:
    """Waves, a disc and a checkerboard ``(1, 3, H, W)``: the same values on every machine."""
    y = torch.arange(height, dtype=torch.float64)[:, None]
    x = torch.arange(width, dtype=torch.float64)[None, :]
    waves = torch.stack([(x * f / 31 + y * (3 - f) / 17).sin() for f in (0.5, 1.0, 2.0)])
    disc = ((x - 90).square() + (y - 70).square() < 50**2).double()
    board = ((x // 8 + y // 8) % 2) * (x > 130) * (y > 100)
    return (0.5 + 0.3 * waves + 0.2 * disc - 0.25 * board).clamp(0, 1).float()[None]


def damaged(image: Tensor) -> Tensor:
    """What a bad codec makes of it: blurred, and each 8x8 block shifted in tone."""
    blurred = F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    blocks = F.avg_pool2d(blurred, 8) * 7.3 % 0.1 - 0.05
    return (blurred + F.interpolate(blocks, scale_factor=8.0)).clamp(0, 1)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    first = picture()
    return first, damaged(first)


@pytest.fixture(scope="module", autouse=True)
def _trunks() -> None:
    try:
        datasets.fetch("lpips")
    except DownloadError as error:  # pragma: no cover
        pytest.fail(f"these tests need the LPIPS trunks; run: sketchfusion fetch lpips ({error})")


def test_identity(pair: tuple[Tensor, Tensor]) -> None:
    result = measure(pair[0], pair[0])
    assert result.psnr == math.inf
    assert result.ms_ssim == pytest.approx(1, abs=1e-6)
    assert result.lpips_alex == result.lpips_vgg == 0
    assert result.dists == pytest.approx(0, abs=1e-5)


def test_psnr_against_formula(pair: tuple[Tensor, Tensor]) -> None:
    first, second = torch.zeros(1, 3, 4, 5), torch.full((1, 3, 4, 5), 10 / 255)
    assert metrics.psnr(first, second) == pytest.approx(20 * math.log10(255 / 10))
    first, second = (to_uint8(x).numpy().astype(np.int64) for x in pair)
    expected = 10 * np.log10(255**2 / np.mean((first - second) ** 2))
    assert metrics.psnr(*pair) == pytest.approx(expected, rel=1e-12)
    nearly = pair[0] + (to_uint8(pair[0]).float() / 255 - pair[0]) * 0.5  # rounds to the same
    assert measure(pair[0], nearly, ("psnr",)).psnr == math.inf


def test_every_kind_of_picture(pair: tuple[Tensor, Tensor]) -> None:
    eight_bit = to_uint8(pair[1])
    array = eight_bit[0].permute(1, 2, 0).numpy()
    expected = measure(*pair, ("psnr",))
    assert [k for k, v in expected.as_dict().items() if not math.isnan(v)] == ["psnr"]
    for image in (eight_bit, pair[1][0], array, Image.fromarray(array)):
        assert measure(pair[0], image, ("psnr",)) == expected


def reference_ms_ssim(first: Tensor, second: Tensor) -> float:
    """Wang, Simoncelli and Bovik (2003), written out in double precision."""
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    x = torch.arange(11, dtype=torch.float64) - 5
    line = (-x.square() / (2 * 1.5**2)).exp()
    window = (line[:, None] * line[None, :] / line.sum().square()).expand(3, 1, 11, 11)
    a, b = (to_uint8(image).double() for image in (first, second))

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=3)

    result = torch.ones(3, dtype=torch.float64)
    for level, weight in enumerate(weights):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
        covariance = blur(a * b) - mean_a * mean_b
        term = (2 * covariance + 58.5225) / (var_a + var_b + 58.5225)  # (0.03 * 255)^2
        if level == len(weights) - 1:
            term = term * (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
        result *= term.mean(dim=(0, 2, 3)).clamp_min(0) ** weight
        # Odd sides are padded by one zero row, as the common implementations do.
        padding = [side % 2 for side in a.shape[2:]]
        a, b = (F.avg_pool2d(image, 2, padding=padding) for image in (a, b))
    return result.mean().item()


def test_ms_ssim_against_formula(pair: tuple[Tensor, Tensor]) -> None:
    found = measure(*pair, "ms_ssim").ms_ssim
    assert found == pytest.approx(reference_ms_ssim(*pair), abs=1e-5)


def reference_lpips(net: str, first: Tensor, second: Tensor) -> float:
    """LPIPS 0.1 from the trunk's tensors alone, in double precision."""
    import lpips

    trunk = {k: torch.from_numpy(v).double() for k, v in datasets.lpips_trunk(net).items()}
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    x = torch.cat([to_uint8(image).double() / 127.5 - 1 for image in (first, second)])
    x = (x - shift) / scale
    if net == "alex":
        pools, taps, window, strides = {3, 6}, (0, 3, 6, 8, 10), 3, {0: 4}
    else:
        pools, taps, window, strides = {5, 10, 17, 24}, (2, 7, 14, 21, 28), 2, {}
    distance = 0.0
    for index in LAYERS[net]:
        weight = trunk[f"features.{index}.weight"]
        if index in pools:
            x = F.max_pool2d(x, window, 2)
        padding = 2 if weight.shape[-1] in (5, 11) else 1
        x = F.conv2d(x, weight, trunk[f"features.{index}.bias"], strides.get(index, 1), padding)
        x = x.relu()
        if index in taps:
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            head = heads[f"lin{taps.index(index)}.model.1.weight"].double()
            distance += ((unit[:1] - unit[1:]).square() * head).sum(1).mean().item()
    return distance


# Values of this pair, pinned: what any correct LPIPS 0.1 and DISTS give.
PINNED = {"lpips_alex": 0.177544, "lpips_vgg": 0.274297, "dists": 0.229708}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_against_formula_and_pin(net: str, pair: tuple[Tensor, Tensor]) -> None:
    name = f"lpips_{net}"
    value = getattr(measure(*pair, name), name)
    assert value == pytest.approx(reference_lpips(net, *pair), rel=1e-4)
    assert value == pytest.approx(PINNED[name], rel=1e-4)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_load_lpips_is_frozen_and_fresh(net: str) -> None:
    model = load_lpips(net)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert not any(t.is_meta for t in model.state_dict().values())
    image = (picture(64, 64) * 2 - 1).requires_grad_()
    distance = model(image, -image.detach())
    assert distance.shape == (1, 1, 1, 1)
    distance.sum().backward()
    assert image.grad.abs().sum() > 0
    assert load_lpips(net) is not model, "a caller may move or change its own"


@pytest.mark.filterwarnings("ignore:.*pretrained|.*weight enum:UserWarning")
def test_lpips_heads_are_the_packages() -> None:
    import lpips

    ours = load_lpips("alex").state_dict()
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).state_dict()
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        if not name.startswith("net."):
            assert torch.equal(ours[name], values), name


def test_dists_is_the_published_one(pair: tuple[Tensor, Tensor]) -> None:
    before = torch.get_rng_state()
    ours = load_dists()
    assert torch.equal(torch.get_rng_state(), before), "a training that goes on draws as before"
    assert ours.alpha.sum() + ours.beta.sum() == pytest.approx(1, abs=1e-5)
    assert not any(t.is_meta or t.requires_grad for t in ours.state_dict(keep_vars=True).values())
    assert measure(*pair, "dists").dists == pytest.approx(PINNED["dists"], rel=1e-4)


def test_worse_pictures_measure_worse(pair: tuple[Tensor, Tensor]) -> None:
    mild = measure(pair[0], pair[0] * 0.8 + pair[1] * 0.2)
    strong = measure(*pair)
    assert mild.psnr > strong.psnr and mild.ms_ssim > strong.ms_ssim
    assert mild.lpips_alex < strong.lpips_alex and mild.lpips_vgg < strong.lpips_vgg
    assert mild.dists < strong.dists


def test_small_pictures() -> None:
    small = picture(160, 168)
    result = measure(small, damaged(small), ("psnr", "ms_ssim", "lpips_alex"))
    assert math.isnan(result.ms_ssim) and result.psnr > 0 and result.lpips_alex > 0
    tiny = picture(1, 1)
    assert measure(tiny, 1 - tiny).as_dict().keys() == set(METRICS)
    smallest = picture(32, 33)
    values = measure(smallest, 1 - smallest, ("lpips_alex", "lpips_vgg", "dists"))
    assert min(values.lpips_alex, values.lpips_vgg, values.dists) > 0


def test_comparison_is_measure() -> None:
    """Also where another one came between, and never with another size."""
    original, first = picture(96, 144), damaged(picture(96, 144))
    second, only = (original + 0.1).clamp(0, 1), ("psnr", "lpips_alex", "lpips_vgg", "dists")
    expected = [str(measure(original, image, only)) for image in (first, second)]  # nan is no nan
    comparison, other = Comparison(original, only), Comparison(first, only[1:])
    assert [str(comparison.measure(image)) for image in (first, second)] == expected
    assert str(other.measure(second)) == str(measure(first, second, only[1:]))
    assert str(comparison.measure(second)) == expected[1], "still right"
    with pytest.raises(ArgumentError, match="differ in size: 144x96 and 143x96"):
        comparison.measure(original[..., 1:])


def test_wrong_arguments(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ArgumentError, match="differ in size: 208x192 and 200x192"):
        measure(pair[0], pair[1][..., :200])
    with pytest.raises(ArgumentError, match=r"unknown metrics.*fid.*there are: psnr"):
        measure(*pair, ("psnr", "fid"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x * 255,
        lambda x: x * 2 - 1,
        lambda x: x * torch.nan,
        lambda x: (x * 255).long(),
        lambda x: x > 0.5,
        lambda x: x[:, :1],
        lambda x: x.repeat(2, 1, 1, 1),
        lambda x: x[..., :0],
        lambda x: x[0].permute(1, 2, 0).numpy() * 255,
        lambda x: "no-such-picture.png",
    ],
    ids=["0..255", "-1..1", "nan", "int64", "bool", "grey", "batch", "empty", "array", "absent"],
)
def test_one_door_for_all_metrics(spoil, pair: tuple[Tensor, Tensor]) -> None:
    wrong = spoil(pair[1])
    for compute in (metrics.psnr, measure, lambda a, b: Comparison(a, ()).measure(b)):
        for both in ((pair[0], wrong), (wrong, pair[0])):
            with pytest.raises(ImageError):
                compute(*both)


def test_a_metric_that_is_no_number_is_an_error(
    pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_value", lambda *_: math.nan)
    for compute in (measure, lambda a, b: Comparison(a).measure(b)):
        with pytest.raises(EvaluationError, match="psnr is nan"):
            compute(*pair)
