"""The taste basis: reward = shared(x) + bias_u + <w_u, phi(x)>, with a learned prior over tastes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.kernel_features import KernelFeatures
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.posterior import Posterior, posterior_from_prior
from pamela_rl.rewards.taste.taste_features import FeaturesWithOwnProcess, TasteFeatures
from pamela_rl.rewards.tensor_names import add_prefix, strip_prefix
from pamela_rl.rewards.user_index import user_rows, with_user_row
from pamela_rl.types import RewardOutput

Network = TasteFeatures | FeaturesWithOwnProcess | KernelFeatures
FEW_PEOPLE = 20  # to whose kernel landmarks are added; more leave nothing to add, and each has a covariance


@dataclass(frozen=True)
class TasteBasis:
    """A fitted taste basis and the posteriors of its users.

    Attributes:
        network: Maps features to shared score and design row: learned from many people, with or without a process of each
            person's own beside it, or a kernel for few.
        coding: Encoding of demographics.
        demographic_effects: A of the prior N(A d, Sigma), ``(k + 1, demographics)``.
        prior_covariance: Sigma, ``(k + 1, k + 1)``.
        noise: Noise of single ratings of each user, and its prior for newcomers.
        user_ids: Known users.
        means: Their posterior means, ``(u, k + 1)``.
        covariances: Their posterior covariances, ``(u, k + 1, k + 1)``.
    """

    network: Network
    coding: DemographicsCoding
    demographic_effects: Tensor
    prior_covariance: Tensor
    noise: Noise
    user_ids: tuple[str, ...]
    means: Tensor
    covariances: Tensor

    def on(self, device: torch.device) -> TasteBasis:
        """Return a copy that predicts on a device; what learns stays on the CPU, since it is small."""
        network = copy.deepcopy(self.network).to(device)
        return replace(self, network=network, means=self.means.to(device), covariances=self.covariances.to(device))

    def prior(self, demographics: Mapping[str, Any] | None = None) -> Posterior:
        """Return the prior of a user without responses."""
        return posterior_from_prior(
            self.demographic_effects @ self.coding.encode(demographics), self.prior_covariance, self.noise
        )

    def posterior(self, user_id: str) -> Posterior:
        """Return the posterior of a known user, to update with responses.

        Raises:
            UnknownUserError: The model does not know the user.
        """
        row = int(user_rows([user_id], self.user_ids))
        levels, certain = self.noise.variances[row : row + 1], torch.zeros(1, dtype=torch.float64)
        return Posterior(levels, certain, self.means[row, None], self.covariances[row, None], self.noise.misfit)

    def predict(self, images: ImageFeatures, user_ids: Sequence[str]) -> RewardOutput:
        """Predict the rating of each picture by its user.

        Args:
            images: Features from the encoder, ``(b, feature_dim)``.
            user_ids: One per picture.

        Returns:
            Expected rating, and the std of that expectation (without the noise of a single rating), in rating points,
            ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        shared, design = self.network(images.features.float())
        rows = user_rows(user_ids, self.user_ids)
        means, covariances = self.means[rows].to(design), self.covariances[rows].to(design)
        mean = shared + (design * means).sum(dim=1)
        variance = torch.einsum("bi,bij,bj->b", design, covariances, design)
        variance = variance.clamp(min=0) + self.noise.misfit + self.network.unexplained(images.features)
        return RewardOutput(mean, variance.sqrt())

    @torch.no_grad()
    def sample(self, images: ImageFeatures, user_id: str, count: int, seed: int = 0) -> Tensor:
        """Draw expected ratings from a user's posterior: each draw samples one taste for all pictures.

        Args:
            images: Features from the encoder, ``(n, feature_dim)``.
            user_id: The user.
            count: Number of draws.
            seed: Of the draws.

        Returns:
            Expected ratings, ``(count, n)``, float64; over many draws their mean and std are those of ``predict``.

        Raises:
            UnknownUserError: The model does not know the user.
        """
        row = int(user_rows([user_id], self.user_ids))
        shared, design = (part.double() for part in self.network(images.features.float()))
        sizes, axes = torch.linalg.eigh(self.covariances[row].double())
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn(count, len(sizes), dtype=torch.float64, generator=generator)
        tastes = self.means[row].double() + (normal * sizes.clamp(min=0).sqrt()) @ axes.T
        residual = torch.randn(count, len(shared), dtype=torch.float64, generator=generator)
        beyond = self.noise.misfit + self.network.unexplained(images.features).double()
        return shared + tastes @ design.T + beyond.sqrt() * residual

    def noise_std(self, user_ids: Sequence[str]) -> Tensor:
        """Return the standard deviation of single ratings of each user around their expectation, ``(b,)``."""
        return self.noise.variances[user_rows(user_ids, self.user_ids)].sqrt()

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict the average rating of the known users, ``(b,)``."""
        shared, design = self.network(images.features.float())
        return shared + design @ self.means.mean(dim=0).to(design)

    def predict_all_users(self, images: ImageFeatures) -> Tensor:
        """Predict the ratings of all users in one matrix product, ``(b, u)``, in the order of ``user_ids``."""
        shared, design = self.network(images.features.float())
        return shared[:, None] + design @ self.means.to(design).T

    @torch.no_grad()
    def infer_taste(
        self, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> Posterior:
        """Return a newcomer's posterior given ratings, ``(n,)``; rows with the same features count as repeats."""
        if not len(ratings):
            return self.prior(demographics)
        shared, design = (part.double() for part in self.network(images.features.float()))
        _, group, counts = torch.unique(images.features, dim=0, return_inverse=True, return_counts=True)
        residuals = ratings.double() - shared
        columns = torch.cat([residuals[:, None], self.network.unexplained(images.features)[:, None], design], dim=1)
        totals = torch.zeros(len(counts), columns.shape[1], dtype=torch.float64).index_add_(0, group, columns)
        means = totals / counts[:, None]
        sum_of_squares = float((residuals - means[group, 0]).square().sum())
        prior = self.prior(demographics)
        return prior.observe_ratings(means[:, 2:], means[:, 0], counts, sum_of_squares, means[:, 1])

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> TasteBasis:
        """Return a copy with one more user, known by ratings of a few pictures."""
        basis = self.with_landmarks(images.features)
        return basis.with_user(user_id, basis.infer_taste(images, ratings, demographics))

    def with_landmarks(self, features: Tensor) -> TasteBasis:
        """Return a copy that can tell tastes at these images, ``(n, d)``; what is known of anybody stays.

        A basis learned from many people can already; a kernel of few people gets those images as landmarks that it
        cannot explain.
        """
        if not isinstance(self.network, KernelFeatures) or len(self.user_ids) > FEW_PEOPLE:
            return self
        network = self.network.extended(features)
        added = len(network.landmarks) - len(self.network.landmarks)
        block = network.variance * torch.eye(added, dtype=torch.float64)
        wider = [torch.block_diag(covariance, block) for covariance in (self.prior_covariance, *self.covariances)]
        return replace(
            self,
            network=network,
            demographic_effects=pad(self.demographic_effects, (0, 0, 0, added)),
            prior_covariance=wider[0],
            means=pad(self.means, (0, added)),
            covariances=torch.stack(wider[1:]) if len(wider) > 1 else self.covariances.new_zeros(0, *wider[0].shape),
        )

    def with_user(self, user_id: str, posterior: Posterior) -> TasteBasis:
        """Return a copy with one more user, or with the posterior of a known user replaced."""
        users, means = with_user_row(user_id, posterior.mean, self.user_ids, self.means)
        _, covariances = with_user_row(user_id, posterior.covariance, self.user_ids, self.covariances)
        _, variances = with_user_row(user_id, posterior.noise_variance, self.user_ids, self.noise.variances)
        noise = replace(self.noise, variances=variances)
        return replace(self, noise=noise, user_ids=users, means=means, covariances=covariances)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        network = add_prefix("network", self.network.state_dict())
        names = ("demographic_effects", "prior_covariance", "means", "covariances")
        return network | {name: getattr(self, name) for name in names} | {"noise_variances": self.noise.variances}

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        noise = {name: getattr(self.noise, name) for name in ("misfit", "log_mean", "log_std", "floor")}
        return {"user_ids": list(self.user_ids), "demographics": self.coding.to_json(), "noise": noise}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> TasteBasis:
        """Return the model that ``tensors`` and ``config`` were taken from."""
        state = strip_prefix("network", tensors)
        own, alone = "own.landmarks" in state, "landmarks" in state
        kind: type[Network] = FeaturesWithOwnProcess if own else KernelFeatures if alone else TasteFeatures
        network = kind.shaped_like(state)
        network.load_state_dict(state)
        return cls(
            network.eval().requires_grad_(False),
            DemographicsCoding.from_json(config["demographics"]),
            tensors["demographic_effects"],
            tensors["prior_covariance"],
            Noise(tensors["noise_variances"], **config["noise"]),
            tuple(config["user_ids"]),
            tensors["means"],
            tensors["covariances"],
        )
