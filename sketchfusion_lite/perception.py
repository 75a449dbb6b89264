"""Networks that judge pictures about as people do: LPIPS [1] and DISTS [2], for training, search and evaluation.

    cache --sha256--> trained trunk --+
                                      +--> frozen module, on the CPU
    package lpips, dists-pytorch -----+    (heads, forward pass)

References
    [1] Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    [2] Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2022.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

import torch

from .datasets import lpips_trunk
from .errors import WeightsError

if TYPE_CHECKING:
    from DISTS_pytorch import DISTS
    from lpips import LPIPS

__all__ = ["load_dists", "load_lpips"]

_building = threading.Lock()


def load_lpips(net: str = "alex") -> LPIPS:
    """The LPIPS network with its trained trunk and heads: frozen, in evaluation mode, on the CPU.

    Each call returns a fresh module. Its ``forward(a, b)`` is that of the ``lpips`` package:
    ``a, b`` are ``(B, 3, H, W)`` **in [-1, 1]** (not [0, 1]), the result is ``(B, 1, 1, 1)``;
    gradients flow to the inputs.

    Args:
        net: ``"alex"`` or ``"vgg"``.

    Raises:
        ArgumentError: another net.
        DownloadError: the trunk is neither in the cache nor to be had.
    """
    trunk = lpips_trunk(net)  # first: a wrong name or a missing file should say so at once
    import lpips

    # On "meta" nothing is allocated or initialised: every value below is a loaded one.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision: "pretrained" is deprecated
        model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    model.scaling_layer = lpips.ScalingLayer()
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    state = dict(model.scaling_layer.named_buffers(prefix="scaling_layer"))
    for name in model.state_dict():
        if name.startswith("net.slice"):  # net.slice2.3.weight is torchvision's features.3.weight
            state[name] = torch.from_numpy(trunk["features." + name.split(".", 2)[2]])
        elif name.startswith("lin"):  # lin0.model.1.weight; again as lins.0.model.1.weight
            state[name] = heads[name.replace("lins.", "lin")]
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"LPIPS ({net}): the weights do not fit the installed lpips package ({error}). "
            "Install lpips 0.1.4."
        ) from error
    return model.eval().requires_grad_(False)


def load_dists() -> DISTS:
    """The DISTS network with trained trunk and weights: frozen, in evaluation mode, on the CPU.

    Its ``forward(a, b, require_grad=False)`` takes ``(B, 3, H, W)`` in [0, 1].

    Raises:
        DownloadError: the trunk is neither in the cache nor to be had.
    """
    trunk = {
        n.removeprefix("features."): torch.from_numpy(t) for n, t in lpips_trunk("vgg").items()
    }
    from DISTS_pytorch import DISTS_pt
    from torchvision.models.vgg import vgg16

    with torch.device("meta"):  # as above
        network = vgg16()
    network.features.load_state_dict(trunk, assign=True)
    # The class downloads its trunk while it is built: it is handed the one in the cache. It draws random numbers, too.
    zoo = SimpleNamespace(vgg16=lambda pretrained: network)
    with _building, mock.patch.object(DISTS_pt, "models", zoo), torch.random.fork_rng([]):
        model = DISTS_pt.DISTS(load_weights=False)
    file = Path(DISTS_pt.__file__).with_name("weights.pt")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    model.alpha.data, model.beta.data = weights["alpha"], weights["beta"]
    return model.eval().requires_grad_(False)
