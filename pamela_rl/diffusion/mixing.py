"""A mix of adapters: the mean of their weight changes, cut back to the rank of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pamela_rl.diffusion.adapter_bank import DOWN, UP


def mix_adapters(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Mix adapters of one model, rank and scale.

    Each layer's change is the weighted sum of the adapters' products ``B A``; the mix is its best approximation of the same
    rank (Eckart-Young), found from the factors without ever forming the whole matrix.

    Args:
        states: Weights of each, by PEFT's names.
        weights: Of each; 1 / n is their mean.

    Returns:
        The mix's weights, by PEFT's names, fp32.
    """
    found = {}
    for down in (name for name in states[0] if name.endswith(DOWN)):
        up, rank = down.removesuffix(DOWN) + UP, len(states[0][down])
        ups = torch.cat([weight * state[up].double() for state, weight in zip(states, weights, strict=True)], dim=1)
        downs = torch.cat([state[down].double() for state in states])
        left, left_rest = torch.linalg.qr(ups)
        right, right_rest = torch.linalg.qr(downs.T)
        u, sizes, v = torch.linalg.svd(left_rest @ right_rest.T)
        root = sizes[:rank].sqrt()
        found[down] = ((right @ v[:rank].T) * root).T.float().contiguous()
        found[up] = ((left @ u[:, :rank]) * root).float().contiguous()
    return found
