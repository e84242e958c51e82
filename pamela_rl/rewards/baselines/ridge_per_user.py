"""Ridge regression of each user's own ratings on features: what one learns without anybody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.rewards.baselines.ridge import Standardisation, weighted_ridge
from pamela_rl.rewards.preference import ImageFeatures, RatingData
from pamela_rl.rewards.user_index import user_rows, with_user_row
from pamela_rl.types import RewardOutput

MIN_RESPONSES = 3  # with fewer, the mean is all that is known


@dataclass(frozen=True)
class RidgePerUser:
    """One linear regression per user, each with the penalty that leave-one-out cross-validation chooses.

    Attributes:
        user_ids: Known users.
        standardisation: Of features.
        weights: ``(u, d)``, float64.
        intercepts: ``(u,)``, float64.
        noise: Leave-one-out error of each user's ratings, root mean square, ``(u,)``, float64.
    """

    user_ids: tuple[str, ...]
    standardisation: Standardisation
    weights: Tensor
    intercepts: Tensor
    noise: Tensor

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Return the expected rating of each image by its user, ``(b,)``, without a std of its own.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        rows = user_rows(user_ids, self.user_ids)
        features = self.standardisation(images.features)
        return RewardOutput(self.intercepts[rows] + (features * self.weights[rows]).sum(dim=1))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return each user's leave-one-out error, in rating points, ``(b,)``."""
        return self.noise[user_rows(user_ids, self.user_ids)]

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict the average rating of the known users, ``(b,)``."""
        return self.intercepts.mean() + self.standardisation(images.features) @ self.weights.mean(dim=0)

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> RidgePerUser:
        """Return a model with one more user, from that user's ratings alone; without any, the average of the others."""
        if len(ratings):
            weights, intercept, noise = _fit(self.standardisation(images.features), ratings.double())
        else:
            weights, intercept, noise = self.weights.mean(dim=0), self.intercepts.mean(), self.noise.mean()
        users, all_weights = with_user_row(user_id, weights, self.user_ids, self.weights)
        _, intercepts = with_user_row(user_id, intercept, self.user_ids, self.intercepts)
        _, noises = with_user_row(user_id, noise, self.user_ids, self.noise)
        return replace(self, user_ids=users, weights=all_weights, intercepts=intercepts, noise=noises)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        own = {name: getattr(self, name) for name in ("weights", "intercepts", "noise")}
        return own | asdict(self.standardisation)

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        return {"user_ids": list(self.user_ids)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> RidgePerUser:
        """Return the model that ``tensors`` and ``config`` describe."""
        standardisation = Standardisation(tensors["feature_mean"], tensors["feature_std"])
        return cls(
            tuple(config["user_ids"]), standardisation, tensors["weights"], tensors["intercepts"], tensors["noise"]
        )


def fit_ridge_per_user(data: RatingData, seed: int = 0) -> RidgePerUser:
    """Fit each user's ratings; of users without ratings, their choices, as +1 and -1 for the difference of two images.

    Args:
        data: Ratings, choices, or both.
        seed: Not used.
    """
    rated = [data.train.images] + ([data.choices.first, data.choices.second] if data.choices is not None else [])
    standardisation = Standardisation.of(data.images.features[torch.cat(rated).unique()])
    features = standardisation(data.images.features)
    parts = []
    for user in range(len(data.user_ids)):
        mine = (data.train.users == user).nonzero().squeeze(1)
        if len(mine) or data.choices is None:
            parts.append(_fit(features[data.train.images[mine]], data.train.ratings[mine]))
            continue
        chosen = (data.choices.users == user).nonzero().squeeze(1)
        rows = features[data.choices.first[chosen]] - features[data.choices.second[chosen]]
        signs = 2 * data.choices.outcomes[chosen] - 1
        # each choice in both directions, so that no intercept prefers the image on the left
        parts.append(_fit(torch.cat([rows, -rows]), torch.cat([signs, -signs])))
    weights, intercepts, noise = (torch.stack(column) for column in zip(*parts))
    return RidgePerUser(data.user_ids, standardisation, weights, intercepts, noise)


def _fit(rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, ``(d,)``, intercept and leave-one-out error of one user."""
    mean = targets.mean() if len(targets) else rows.new_zeros(())
    if len(targets) < MIN_RESPONSES:
        return rows.new_zeros(rows.shape[1]), mean, rows.new_ones(())
    weights, intercept, left_out = weighted_ridge(rows, targets, torch.ones_like(targets))
    return weights, intercept, (targets - left_out).square().mean().sqrt().clamp(min=1e-3)
