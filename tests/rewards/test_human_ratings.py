"""Real people: what ten ratings tell of the pictures a person has not rated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pamela_rl.agreement.per_user import Agreement, agreement
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.rating_tensors import rating_tensors
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.posterior import posterior_from_prior

SHOWN, PICTURES, PEOPLE, FOLDS = 10, 55, 100, 5
SLIDER = RatingScale(0, 1)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class People:
    images: tuple[str, ...]
    user_ids: tuple[str, ...]
    ratings: RatingTensors  # everybody rated every picture twice
    means: NDArray[np.float64]  # of both times, (100, 55)

    def of(self, user: int, image_features: NDArray[np.int64]) -> RatingTensors:
        """One person's ratings of some pictures, each twice."""
        mine = (self.ratings.users == user) & torch.isin(self.ratings.images, torch.from_numpy(image_features))
        return self.ratings[mine]

    def all_but(self, new: NDArray[np.int64]) -> RatingData:
        """What the others said, without any pictures."""
        known = np.setdiff1d(np.arange(PEOPLE), new)
        theirs = self.ratings[torch.isin(self.ratings.users, torch.from_numpy(known))]
        rows = torch.from_numpy(np.searchsorted(known, theirs.users.numpy()))
        nothing = ImageFeatures(torch.zeros(PICTURES, 0))
        names = tuple(self.user_ids[row] for row in known)
        return RatingData(nothing, RatingTensors(rows, theirs.images, theirs.ratings), names, scale=SLIDER)


@pytest.fixture(scope="module")
def human_raters(human_ratings: Path) -> People:
    rows = RatingTable.from_file(human_ratings / "ratings.csv", SLIDER).rows
    users, images = (tuple(sorted(rows[column].unique())) for column in ("user_id", "image"))
    ratings = rating_tensors(rows, users, {image: row for row, image in enumerate(images)})
    means = rows.pivot_table(index="user_id", columns="image", values="rating").loc[list(users), list(images)]
    return People(images, users, ratings, means.to_numpy())


def folds() -> list[NDArray[np.int64]]:
    return np.array_split(np.random.default_rng(0).permutation(PEOPLE), FOLDS)


def shown_by(user: int) -> NDArray[np.int64]:
    return np.random.default_rng(user).permutation(PICTURES)[:SHOWN]


def measure(name: str, human_raters: People, predictions: NDArray[np.float64]) -> Agreement:
    """Compare with what people said of the pictures they were not asked about at first; ``predictions`` ``(100, 55)``."""
    hidden = np.stack([np.setdiff1d(np.arange(PICTURES), shown_by(user)) for user in range(PEOPLE)])
    rows = np.arange(PEOPLE)[:, None]
    predicted, given = predictions[rows, hidden].ravel(), human_raters.means[rows, hidden].ravel()
    return agreement(name, predicted, given, np.repeat(np.arange(PEOPLE), PICTURES - SHOWN))


def mean_of_the_others(human_raters: People) -> Agreement:
    predictions = np.empty((PEOPLE, PICTURES))
    for new in folds():
        predictions[new] = np.delete(human_raters.means, new, axis=0).mean(axis=0)
    return measure("the mean of the others", human_raters, predictions)


def test_a_normal_prior_over_peoples_tastes_beats_the_mean_of_the_others(human_raters: People) -> None:
    """No model of pictures at all: the covariance of ratings themselves."""
    image_features, predictions = torch.eye(PICTURES, dtype=torch.float64), np.empty((PEOPLE, PICTURES))
    noise = Noise(torch.zeros(0), 0.0, float(np.log(0.015)), 0.5, 0.0)
    for new in folds():
        others = np.delete(human_raters.means, new, axis=0)
        prior = posterior_from_prior(torch.from_numpy(others.mean(axis=0)), torch.from_numpy(np.cov(others.T)), noise)
        for user in new:
            support = shown_by(user)
            given = torch.from_numpy(human_raters.means[user, support])
            predictions[user] = prior.observe_ratings(image_features[support], given, torch.full((SHOWN,), 2)).mean
    personal, mean = measure("personal", human_raters, predictions), mean_of_the_others(human_raters)
    assert personal.num_users == mean.num_users > 90
    assert personal.srocc[0] > mean.srocc[0] + 0.05


def thumbnails(human_raters: People, folder: Path) -> Tensor:
    small = [
        Image.open(folder / name).convert("RGB").resize((16, 16), Image.Resampling.BOX) for name in human_raters.images
    ]
    return torch.from_numpy(np.stack([np.asarray(pil_image, dtype=np.float32).ravel() / 255 for pil_image in small]))


@pytest.mark.parametrize("pictures_by", ["number", "pixels"])
def test_the_taste_basis_beats_the_mean_of_the_others_for_people_it_never_met(
    human_raters: People, human_ratings: Path, pictures_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    features = torch.eye(PICTURES) if pictures_by == "number" else thumbnails(human_raters, human_ratings)
    predictions = np.empty((PEOPLE, PICTURES))
    for new in folds():
        data = human_raters.all_but(new)
        basis = fit_taste_basis(RatingData(ImageFeatures(features), data.train, data.user_ids, scale=SLIDER))
        shared, design = (part.double() for part in basis.network(features))
        for user in new:
            responses = human_raters.of(user, shown_by(user))
            taste = basis.infer_taste(ImageFeatures(features[responses.images]), responses.ratings)
            predictions[user] = shared + design @ taste.mean
    personal, mean = measure("personal", human_raters, predictions), mean_of_the_others(human_raters)
    assert personal.num_users == mean.num_users > 90
    assert personal.srocc[0] > mean.srocc[0] + 0.05  # 0.50 over 0.42
