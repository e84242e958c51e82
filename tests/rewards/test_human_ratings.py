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

from pamela_rl.agreement.per_person import Agreement, agreement
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.rewards.observations import observations
from pamela_rl.rewards.preference import Observations, Pictures, RatingData
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.posterior import before_any_answer

SHOWN, PICTURES, PEOPLE, FOLDS = 10, 55, 100, 5
SLIDER = RatingScale(0, 1)


@dataclass(frozen=True)
class People:
    images: tuple[str, ...]
    user_ids: tuple[str, ...]
    ratings: Observations  # everybody rated every picture twice
    means: NDArray[np.float64]  # of both times, (100, 55)

    def of(self, person: int, pictures: NDArray[np.int64]) -> Observations:
        """One person's ratings of some pictures, each twice."""
        mine = (self.ratings.users == person) & torch.isin(self.ratings.images, torch.from_numpy(pictures))
        return self.ratings[mine]

    def all_but(self, new: NDArray[np.int64]) -> RatingData:
        """What the others said, without any pictures."""
        known = np.setdiff1d(np.arange(PEOPLE), new)
        theirs = self.ratings[torch.isin(self.ratings.users, torch.from_numpy(known))]
        rows = torch.from_numpy(np.searchsorted(known, theirs.users.numpy()))
        nothing = Pictures(torch.zeros(PICTURES, 0))
        names = tuple(self.user_ids[row] for row in known)
        return RatingData(nothing, Observations(rows, theirs.images, theirs.ratings), names, scale=SLIDER)


@pytest.fixture(scope="module")
def people(human_ratings: Path) -> People:
    rows = RatingTable.from_file(human_ratings / "ratings.csv", SLIDER).rows
    users, images = (tuple(sorted(rows[column].unique())) for column in ("user_id", "image"))
    ratings = observations(rows, users, {image: row for row, image in enumerate(images)})
    means = rows.pivot_table(index="user_id", columns="image", values="rating").loc[list(users), list(images)]
    return People(images, users, ratings, means.to_numpy())


def folds() -> list[NDArray[np.int64]]:
    return np.array_split(np.random.default_rng(0).permutation(PEOPLE), FOLDS)


def shown_by(person: int) -> NDArray[np.int64]:
    return np.random.default_rng(person).permutation(PICTURES)[:SHOWN]


def measure(name: str, people: People, predictions: NDArray[np.float64]) -> Agreement:
    """Compare with what people said of the pictures they were not asked about at first; ``predictions`` ``(100, 55)``."""
    hidden = np.stack([np.setdiff1d(np.arange(PICTURES), shown_by(person)) for person in range(PEOPLE)])
    rows = np.arange(PEOPLE)[:, None]
    predicted, given = predictions[rows, hidden].ravel(), people.means[rows, hidden].ravel()
    return agreement(name, predicted, given, np.repeat(np.arange(PEOPLE), PICTURES - SHOWN))


def mean_of_the_others(people: People) -> Agreement:
    predictions = np.empty((PEOPLE, PICTURES))
    for new in folds():
        predictions[new] = np.delete(people.means, new, axis=0).mean(axis=0)
    return measure("the mean of the others", people, predictions)


def test_a_normal_prior_over_peoples_tastes_beats_the_mean_of_the_others(people: People) -> None:
    """No model of pictures at all: the covariance of ratings themselves."""
    pictures, predictions = torch.eye(PICTURES, dtype=torch.float64), np.empty((PEOPLE, PICTURES))
    noise = Noise(torch.zeros(0), 0.0, float(np.log(0.015)), 0.5, 0.0)
    for new in folds():
        others = np.delete(people.means, new, axis=0)
        prior = before_any_answer(torch.from_numpy(others.mean(axis=0)), torch.from_numpy(np.cov(others.T)), noise)
        for person in new:
            shown = shown_by(person)
            given = torch.from_numpy(people.means[person, shown])
            predictions[person] = prior.observe(pictures[shown], given, torch.full((SHOWN,), 2)).mean
    personal, mean = measure("personal", people, predictions), mean_of_the_others(people)
    assert personal.num_users == mean.num_users > 90
    assert personal.srocc[0] > mean.srocc[0] + 0.05


def thumbnails(people: People, folder: Path) -> Tensor:
    small = [Image.open(folder / name).convert("RGB").resize((16, 16), Image.Resampling.BOX) for name in people.images]
    return torch.from_numpy(np.stack([np.asarray(picture, dtype=np.float32).ravel() / 255 for picture in small]))


@pytest.mark.parametrize("pictures_by", ["number", "pixels"])
def test_the_taste_basis_beats_the_mean_of_the_others_for_people_it_never_met(
    people: People, human_ratings: Path, pictures_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    features = torch.eye(PICTURES) if pictures_by == "number" else thumbnails(people, human_ratings)
    predictions = np.empty((PEOPLE, PICTURES))
    for new in folds():
        data = people.all_but(new)
        basis = fit_taste_basis(RatingData(Pictures(features), data.train, data.user_ids, scale=SLIDER))
        shared, design = (part.double() for part in basis.network(features))
        for person in new:
            said = people.of(person, shown_by(person))
            taste = basis.learn(Pictures(features[said.images]), said.ratings)
            predictions[person] = shared + design @ taste.mean
    personal, mean = measure("personal", people, predictions), mean_of_the_others(people)
    assert personal.num_users == mean.num_users > 90
    assert personal.srocc[0] > mean.srocc[0] + 0.05  # 0.50 over 0.42
