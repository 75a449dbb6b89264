"""CompressAI's models as peers: our file around their strings, honest errors."""

from __future__ import annotations

import urllib.error

import pytest
import torch

from sketchfusion_lite.errors import ArgumentError, DownloadError, PeerError
from sketchfusion_lite.evaluation import zoo
from sketchfusion_lite.evaluation.peers import PeerTrials
from sketchfusion_lite.evaluation.runner import evaluate
from sketchfusion_lite.images import load_image, save_image, to_pil


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Tiny random networks in place of the published weights."""
    from compressai.models import FactorizedPrior, MeanScaleHyperprior

    kinds = {"bmshj2018-factorized": FactorizedPrior, "mbt2018-mean": MeanScaleHyperprior}

    def network(model: str, quality: int, url: str) -> torch.nn.Module:
        torch.manual_seed(quality)
        built = kinds[model](8, 12).eval()
        built.update(force=True)
        return built

    monkeypatch.setattr(zoo, "_pretrained", network)


@pytest.mark.parametrize("model", ["bmshj2018-factorized", "mbt2018-mean"])
def test_files_decode_to_what_the_network_says(untrained, photo, model):
    peer = zoo.zoo_peer(model)
    image = to_pil(photo[..., :65, :97])
    data = peer.encode(image, 2)
    decoded = peer.decode(data)
    assert decoded.size == (97, 65) and decoded.mode == "RGB"
    network = zoo._pretrained(model, 2, "")
    strings = network.compress(zoo.pad_to_multiple(load_image(image), 64)[0])["strings"]
    assert len(data) == 9 + 4 * (len(strings) - 1) + sum(len(one[0]) for one in strings)
    with pytest.raises(PeerError, match="quality 77"):
        peer.decode(bytes([77]) + data[1:])


def test_a_budget_picks_the_quality(untrained, photo):
    trials = PeerTrials(to_pil(photo), zoo.zoo_peer("mbt2018-mean"))
    sizes = [len(trials._encode(1.0, index)) for index in range(8)]
    file = trials.at_most(max(sizes), scales=(1.0,))
    assert len(file.data) <= max(sizes) and file.image.size == (144, 96)


def test_unknown_models_name_the_known_ones():
    with pytest.raises(ArgumentError, match=r"no model 'hific'.*mbt2018-mean \(mse, ms-ssim\)"):
        zoo.zoo_peer("hific")


def test_weights_that_cannot_be_had_are_a_row(photo, tmp_path, monkeypatch):
    def offline(url, **options):
        assert options["check_hash"] and options["weights_only"]
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(DownloadError, match=r"no route to host.*Download https://.*checkpoints"):
        zoo.zoo_peer("mbt2018-mean").encode(to_pil(photo), 1)
    save_image(photo, tmp_path / "a.png")
    (row,) = evaluate(
        tmp_path, ["zoo:model=mbt2018-mean"], [1.0], tmp_path / "t.csv", metrics=["psnr"]
    )
    assert row["status"] == "not installed" and "cannot be had" in row["message"]
    assert row["model"] == "mbt2018-mean mse" and "compressai" in row["peer"]
