"""Muon: momentum, orthogonalised by Newton-Schulz, for convolution weights; AdamW for the rest.

``torch.optim.Muon`` takes matrices only, reads its learning rate on the host, which a CUDA graph forbids, and iterates
in bfloat16, which most CPUs emulate: 2.9 s a step for this model against 0.1 s in float32. Hence these few lines.

References
    [1] Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    [2] Liu et al., "Muon is Scalable for LLM Training", 2025 (update scaled to AdamW's root mean square).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # [1]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate ``U V^T`` of the singular value decompositions ``U S V^T``: ``(N, m, n)`` -> ``(N, m, n)`` [1]."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_ITERATIONS):
        gram = x @ x.mT  # (N, m, m)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per weight; convolutions flattened to ``(out, in * kh * kw)``.

    Args:
        params: weights of at least two dimensions.
        lr: learning rate, a number or a tensor; the update's root mean square is 0.2 lr, as AdamW's would be [2].
        momentum: decay of the momentum.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            # Weights of one shape go through Newton-Schulz together.
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    by_shape[(p.shape[0], p[0].numel())].append(p)
            for shape, params in by_shape.items():
                grads, moving = (
                    [p.grad for p in params if p.grad is not None],  # all: chosen above
                    [self.state[p]["momentum"] for p in params],
                )
                torch._foreach_lerp_(moving, grads, 1 - momentum)
                updates = torch._foreach_lerp(grads, moving, momentum)
                stacked = torch.stack([update.reshape(shape) for update in updates])
                if stacked.is_cuda:
                    stacked = stacked.bfloat16()  # enough for it [1], and far faster there
                steps = orthogonalise(stacked).float() * (lr * (-0.2 * max(shape) ** 0.5))
                if group["weight_decay"]:
                    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
                changes = [x.reshape(p.shape) for x, p in zip(steps, params, strict=True)]
                torch._foreach_add_(params, changes)


def build_optimizers(
    modules: Iterable[tuple[str, nn.Module]],
    muon_lr: float,
    adamw_lr: float,
    adamw_only: tuple[str, ...],
    gain_vectors: tuple[str, ...] = (),
    gain_lr: float = 0.0,
    weight_decay: float = 0.0,
) -> list[torch.optim.Optimizer]:
    """Split parameters: convolution weights to Muon, the rest to AdamW, gain vectors to an AdamW of their own.

    Args:
        modules: ``(name, module)`` pairs, e.g. ``model.named_children()``.
        muon_lr, adamw_lr: the two learning rates.
        adamw_only: prefixes of parameters that stay with AdamW (last layers, factorised prior).
        gain_vectors: prefixes of the gain vectors.
        gain_lr: their learning rate; 0 leaves them with the rest.
        weight_decay: of the convolution weights.
    """
    matrices, gains, rest = [], [], []
    for prefix, module in modules:
        for name, p in module.named_parameters(prefix=prefix):
            if p.requires_grad:
                if gain_lr and name.startswith(gain_vectors):
                    gains.append(p)
                elif p.ndim == 4 and not name.startswith(adamw_only):
                    matrices.append(p)
                else:
                    rest.append(p)
    muon = Muon(matrices, lr=muon_lr, weight_decay=weight_decay)
    others = ((rest, adamw_lr), (gains, gain_lr))
    return [muon, *(fused_adam(params, lr, (0.9, 0.98)) for params, lr in others if params)]


def fused_adam(
    params: Iterable[Tensor], lr: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW without weight decay, which is Adam, in the form that takes its learning rate from a tensor."""
    params = list(params)
    return torch.optim.AdamW(
        params, lr=lr, betas=betas, weight_decay=0.0, fused=True, capturable=params[0].is_cuda
    )
