"""The taste basis: reward = shared(x) + bias_u + <w_u, phi(x)>, with a learned prior over tastes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pamela_rl.errors import UnknownUserError
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.types import RewardOutput


class TasteFeatures(nn.Module):
    """Maps encoder features to what everyone shares and to the few dimensions along which people differ."""

    centre: Tensor
    spread: Tensor

    def __init__(self, feature_dim: int, taste_dim: int, hidden_dim: int = 128, dropout: float = 0.1):
        super().__init__()
        self.register_buffer("centre", torch.zeros(feature_dim))
        self.register_buffer("spread", torch.ones(feature_dim))
        self.trunk = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
            nn.Dropout(dropout),
        )
        self.shared = nn.Linear(hidden_dim, 1)
        self.taste = nn.Linear(hidden_dim, taste_dim)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shared score, ``(b,)``, and the design row ``[1, phi(x)]``, ``(b, k + 1)``."""
        hidden = self.trunk((features - self.centre) / self.spread)
        phi = self.taste(hidden)
        return self.shared(hidden).squeeze(-1), torch.cat([torch.ones_like(phi[:, :1]), phi], dim=1)


@dataclass(frozen=True)
class Posterior:
    """What is known of one person's taste ``[bias, w]``: a normal distribution.

    Attributes:
        mean: ``(k + 1,)``, float64.
        covariance: ``(k + 1, k + 1)``, float64.
    """

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class TasteBasis:
    """A fitted taste basis and everyone's posterior.

    Attributes:
        network: From features to shared score and design row.
        coding: Of demographics.
        prior_map: A of the prior N(A d, Sigma), ``(k + 1, demographics)``.
        prior_covariance: Sigma, ``(k + 1, k + 1)``.
        noise_variance: Of a single rating around its expectation, in squared rating units.
        user_ids: People whose posterior is known.
        means: Their posterior means, ``(u, k + 1)``.
        covariances: Their posterior covariances, ``(u, k + 1, k + 1)``.
    """

    network: TasteFeatures
    coding: DemographicsCoding
    prior_map: Tensor
    prior_covariance: Tensor
    noise_variance: float
    user_ids: tuple[str, ...]
    means: Tensor
    covariances: Tensor

    def prior(self, demographics: Mapping[str, Any] | None = None) -> Posterior:
        """Return what is expected of somebody who has rated nothing."""
        return Posterior(self.prior_map @ self.coding.encode(demographics), self.prior_covariance)

    def posterior(self, user_id: str) -> Posterior:
        """Return what is known of a person.

        Raises:
            UnknownUserError: The person was not among those the reward was fitted to.
        """
        row = self._row(user_id)
        return Posterior(self.means[row], self.covariances[row])

    def predict(self, features: Tensor, user_ids: Sequence[str]) -> RewardOutput:
        """Predict each person's rating of each picture.

        Args:
            features: From the encoder, ``(b, feature_dim)``.
            user_ids: One a picture.

        Returns:
            Mean, and std of the mean (the noise of a single rating is not in it), in rating units, ``(b,)``.

        Raises:
            UnknownUserError: A person is not among those the reward was fitted to.
        """
        shared, design = self.network(features.float())
        unique = list(dict.fromkeys(user_ids))
        place = torch.tensor([unique.index(user) for user in user_ids])
        rows = torch.tensor([self._row(user) for user in unique])
        means = self.means[rows].to(design)[place.to(design.device)]
        covariances = self.covariances[rows].to(design)[place.to(design.device)]
        mean = shared + (design * means).sum(dim=1)
        variance = torch.einsum("bi,bij,bj->b", design, covariances, design)
        return RewardOutput(mean, variance.clamp(min=0).sqrt())

    def predict_population(self, features: Tensor) -> Tensor:
        """Predict what people on average would rate, ``(b,)``."""
        shared, design = self.network(features.float())
        return shared + design @ self.means.mean(dim=0).to(design)

    def scores(self, features: Tensor) -> Tensor:
        """Predict everyone's ratings in one matrix product, ``(b, u)``, in the order of ``user_ids``."""
        shared, design = self.network(features.float())
        return shared[:, None] + design @ self.means.to(design).T

    def with_user(self, user_id: str, posterior: Posterior) -> TasteBasis:
        """Return a copy that knows one more person, or knows a person anew."""
        keep = [row for row, known in enumerate(self.user_ids) if known != user_id]
        return replace(
            self,
            user_ids=(*(self.user_ids[row] for row in keep), user_id),
            means=torch.cat([self.means[keep], posterior.mean[None]]),
            covariances=torch.cat([self.covariances[keep], posterior.covariance[None]]),
        )

    def _row(self, user_id: str) -> int:
        if user_id not in self.user_ids:
            raise UnknownUserError(
                f"the reward does not know user {user_id!r}; it knows {len(self.user_ids)} people "
                f"({', '.join(self.user_ids[:3])}, …). Show some of their ratings with fit_newcomer first."
            )
        return self.user_ids.index(user_id)
