"""Features of tastes: the dimensions that many people's tastes have in common, and beside them a person's own process."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from pamela_rl.rewards.taste.kernel_features import KernelFeatures
from pamela_rl.rewards.tensor_names import strip_prefix


class _Dropout(nn.Module):
    """Dropout from random bytes: on a CPU torch draws one number at a time, which took a fourth of a fit's time.

    Args:
        share: Of hidden units that are dropped, to 1/256.
    """

    def __init__(self, share: float):
        super().__init__()
        self._share = share

    def forward(self, hidden: Tensor) -> Tensor:
        """Drop units while training; the seed is torch's."""
        if not self.training or not self._share:
            return hidden
        numbers = np.random.default_rng(int(torch.randint(1 << 62, ())))
        drawn = torch.frombuffer(bytearray(numbers.bytes(hidden.numel())), dtype=torch.uint8).view(hidden.shape)
        return hidden * (drawn >= round(256 * self._share)) / (1 - self._share)


class TasteFeatures(nn.Module):
    """Maps encoder features to the shared score and to the features phi of tastes."""

    feature_mean: Tensor
    feature_std: Tensor
    rating_mean: Tensor
    rating_std: Tensor

    def __init__(
        self, feature_dim: int, taste_dim: int, hidden_dim: int = 256, num_layers: int = 3, dropout: float = 0
    ):
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_std", torch.ones(feature_dim))
        self.register_buffer("rating_mean", torch.zeros(()))
        self.register_buffer("rating_std", torch.ones(()))
        widths = [feature_dim] + [hidden_dim] * num_layers
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.SiLU(), _Dropout(dropout)]
        self.trunk = nn.Sequential(*layers)
        self.shared = nn.Linear(widths[-1], 1)
        self.taste = nn.Linear(widths[-1], taste_dim)

    @classmethod
    def shaped_like(cls, state: Mapping[str, Tensor]) -> TasteFeatures:
        """Return a network with the shapes of ``state``."""
        layers = [name for name in state if name.startswith("trunk.") and name.endswith(".weight")]
        taste_dim, hidden_dim = state["taste.weight"].shape
        return cls(len(state["feature_mean"]), taste_dim, hidden_dim, len(layers))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shared score, ``(b,)``, and the design row ``[1, phi(x)]``, ``(b, k + 1)``, in rating units."""
        hidden = self.trunk((features - self.feature_mean) / self.feature_std)
        phi = self.taste(hidden)
        design = torch.cat([torch.ones_like(phi[:, :1]), phi], dim=1)
        return self.rating_mean + self.rating_std * self.shared(hidden).squeeze(-1), self.rating_std * design

    def unexplained(self, features: Tensor) -> Tensor:
        """Return zeros, ``(b,)``: the misfit of a basis is the same at every image."""
        return features.new_zeros(len(features))


class FeaturesWithOwnProcess(nn.Module):
    """Maps encoder features to the shared score and to the design row ``[1, phi(x), psi(x)]``.

    phi are the dimensions that many people's tastes have in common, psi those of a Gaussian process on encoder features,
    for what is a person's own.
    """

    def __init__(self, common: TasteFeatures, own: KernelFeatures):
        super().__init__()
        self.common, self.own = common, own

    @classmethod
    def shaped_like(cls, state: Mapping[str, Tensor]) -> FeaturesWithOwnProcess:
        """Return the features that ``state`` was taken from."""
        common = TasteFeatures.shaped_like(strip_prefix("common", state))
        return cls(common, KernelFeatures.shaped_like(strip_prefix("own", state)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shared score, ``(b,)``, and the design row, ``(b, 1 + k + m)``, in rating units."""
        shared, design = self.common(features)
        return shared.double(), torch.cat([design.double(), self.own.coordinates(features)], dim=1)

    def unexplained(self, features: Tensor) -> Tensor:
        """Return the prior variance at images that no landmark speaks for, squared rating points, ``(b,)``."""
        return self.own.unexplained(features)
