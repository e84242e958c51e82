"""The taste basis: reward = shared(x) + bias_u + <w_u, phi(x)>, with a learned prior over tastes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.known_users import rows_of, with_row
from pamela_rl.rewards.preference import Pictures
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.posterior import Posterior, before_any_answer
from pamela_rl.rewards.tensor_names import part_of, within
from pamela_rl.types import RewardOutput


class TasteFeatures(nn.Module):
    """Maps encoder features to what everyone shares and to the few dimensions along which people differ."""

    centre: Tensor
    spread: Tensor
    origin: Tensor
    unit: Tensor

    def __init__(
        self, feature_dim: int, taste_dim: int, hidden_dim: int = 256, num_layers: int = 3, dropout: float = 0
    ):
        super().__init__()
        self.register_buffer("centre", torch.zeros(feature_dim))
        self.register_buffer("spread", torch.ones(feature_dim))
        self.register_buffer("origin", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        widths = [feature_dim] + [hidden_dim] * num_layers
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.SiLU(), nn.Dropout(dropout)]
        self.trunk = nn.Sequential(*layers)
        self.shared = nn.Linear(widths[-1], 1)
        self.taste = nn.Linear(widths[-1], taste_dim)

    @classmethod
    def shaped_like(cls, state: Mapping[str, Tensor]) -> TasteFeatures:
        """Return a network that ``state`` fits."""
        layers = [name for name in state if name.startswith("trunk.") and name.endswith(".weight")]
        taste_dim, hidden_dim = state["taste.weight"].shape
        return cls(len(state["centre"]), taste_dim, hidden_dim, len(layers))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shared score, ``(b,)``, and the design row ``[1, phi(x)]``, ``(b, k + 1)``, in rating units."""
        hidden = self.trunk((features - self.centre) / self.spread)
        phi = self.taste(hidden)
        design = torch.cat([torch.ones_like(phi[:, :1]), phi], dim=1)
        return self.origin + self.unit * self.shared(hidden).squeeze(-1), self.unit * design


@dataclass(frozen=True)
class TasteBasis:
    """A fitted taste basis and everyone's posterior.

    Attributes:
        network: From features to shared score and design row.
        coding: Of demographics.
        prior_map: A of the prior N(A d, Sigma), ``(k + 1, demographics)``.
        prior_covariance: Sigma, ``(k + 1, k + 1)``.
        noise: Of single ratings, everybody's and as a prior for newcomers.
        user_ids: People whose posterior is known.
        means: Their posterior means, ``(u, k + 1)``.
        covariances: Their posterior covariances, ``(u, k + 1, k + 1)``.
    """

    network: TasteFeatures
    coding: DemographicsCoding
    prior_map: Tensor
    prior_covariance: Tensor
    noise: Noise
    user_ids: tuple[str, ...]
    means: Tensor
    covariances: Tensor

    def prior(self, reported: Mapping[str, Any] | None = None) -> Posterior:
        """Return what is expected of somebody who has said nothing."""
        return before_any_answer(self.prior_map @ self.coding.encode(reported), self.prior_covariance, self.noise)

    def posterior(self, user_id: str) -> Posterior:
        """Return what is known of a person, to add answers to.

        Raises:
            UnknownUserError: The model does not know the person.
        """
        row = int(rows_of([user_id], self.user_ids))
        levels, certain = self.noise.variances[row : row + 1], torch.zeros(1, dtype=torch.float64)
        return Posterior(levels, certain, self.means[row, None], self.covariances[row, None], self.noise.misfit)

    def predict(self, pictures: Pictures, user_ids: Sequence[str]) -> RewardOutput:
        """Predict each person's rating of each picture.

        Args:
            pictures: Features from the encoder, ``(b, feature_dim)``.
            user_ids: One a picture.

        Returns:
            Expected rating, and the std of that expectation (the noise of a single rating is not in it), in rating
            units, ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        shared, design = self.network(pictures.features.float())
        rows = rows_of(user_ids, self.user_ids)
        means, covariances = self.means[rows].to(design), self.covariances[rows].to(design)
        mean = shared + (design * means).sum(dim=1)
        variance = torch.einsum("bi,bij,bj->b", design, covariances, design)
        return RewardOutput(mean, (variance.clamp(min=0) + self.noise.misfit).sqrt())

    @torch.no_grad()
    def sample(self, pictures: Pictures, user_id: str, count: int, seed: int = 0) -> Tensor:
        """Draw what a person may truly think of pictures: one taste a draw, the same for all pictures of it.

        Args:
            pictures: Features from the encoder, ``(n, feature_dim)``.
            user_id: Whose taste.
            count: How many draws.
            seed: Of the draws.

        Returns:
            Expected ratings, ``(count, n)``, float64; over many draws their mean and std are those of ``predict``.

        Raises:
            UnknownUserError: The model does not know the person.
        """
        row = int(rows_of([user_id], self.user_ids))
        shared, design = (part.double() for part in self.network(pictures.features.float()))
        sizes, axes = torch.linalg.eigh(self.covariances[row].double())
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(count, len(sizes), dtype=torch.float64, generator=generator)
        tastes = self.means[row].double() + (normal * sizes.clamp(min=0).sqrt()) @ axes.T
        beside = torch.randn(count, len(shared), dtype=torch.float64, generator=generator)
        return shared + tastes @ design.T + self.noise.misfit**0.5 * beside

    def noise_std(self, user_ids: Sequence[str]) -> Tensor:
        """Return how far single ratings of each person spread around their expectation, ``(b,)``."""
        return self.noise.variances[rows_of(user_ids, self.user_ids)].sqrt()

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict what people on average would rate, ``(b,)``."""
        shared, design = self.network(pictures.features.float())
        return shared + design @ self.means.mean(dim=0).to(design)

    def scores(self, pictures: Pictures) -> Tensor:
        """Predict everyone's ratings in one matrix product, ``(b, u)``, in the order of ``user_ids``."""
        shared, design = self.network(pictures.features.float())
        return shared[:, None] + design @ self.means.to(design).T

    @torch.no_grad()
    def learn(self, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None) -> Posterior:
        """Return what a newcomer's ratings tell of their taste; rows with the same features are repeats, ``(n,)``."""
        if not len(ratings):
            return self.prior(reported)
        shared, design = (part.double() for part in self.network(pictures.features.float()))
        _, group, counts = torch.unique(pictures.features, dim=0, return_inverse=True, return_counts=True)
        totals = torch.zeros(len(counts), 1 + design.shape[1], dtype=torch.float64)
        residuals = ratings.double() - shared
        totals.index_add_(0, group, torch.cat([residuals[:, None], design], dim=1))
        means = totals / counts[:, None]
        within = float((residuals - means[group, 0]).square().sum())
        return self.prior(reported).observe(means[:, 1:], means[:, 0], counts, within)

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> TasteBasis:
        """Return a copy that knows one more person, from their ratings of a few pictures."""
        return self.with_user(user_id, self.learn(pictures, ratings, reported))

    def with_user(self, user_id: str, posterior: Posterior) -> TasteBasis:
        """Return a copy that knows one more person, or knows a person anew."""
        users, means = with_row(user_id, posterior.mean, self.user_ids, self.means)
        _, covariances = with_row(user_id, posterior.covariance, self.user_ids, self.covariances)
        _, variances = with_row(user_id, posterior.noise_variance, self.user_ids, self.noise.variances)
        noise = replace(self.noise, variances=variances)
        return replace(self, noise=noise, user_ids=users, means=means, covariances=covariances)

    def tensors(self) -> dict[str, Tensor]:
        """Return every number of the model, by name."""
        network = within("network", self.network.state_dict())
        names = ("prior_map", "prior_covariance", "means", "covariances")
        return network | {name: getattr(self, name) for name in names} | {"noise_variances": self.noise.variances}

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        noise = {name: getattr(self.noise, name) for name in ("misfit", "centre", "width", "floor")}
        return {"user_ids": list(self.user_ids), "demographics": self.coding.to_json(), "noise": noise}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> TasteBasis:
        """Return the model that ``tensors`` and ``facts`` were taken from."""
        state = part_of("network", tensors)
        network = TasteFeatures.shaped_like(state)
        network.load_state_dict(state)
        return cls(
            network.eval().requires_grad_(False),
            DemographicsCoding.from_json(facts["demographics"]),
            tensors["prior_map"],
            tensors["prior_covariance"],
            Noise(tensors["noise_variances"], **facts["noise"]),
            tuple(facts["user_ids"]),
            tensors["means"],
            tensors["covariances"],
        )
