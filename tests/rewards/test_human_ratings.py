"""Real people: what twenty ratings tell of the pictures a person has not rated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.rewards.agreement import Agreement, agreement
from pamela_rl.rewards.features import FeatureEncoder, encode_all
from pamela_rl.rewards.fit import TasteBasisConfig, fit_taste_basis, observations
from pamela_rl.rewards.newcomer import fit_newcomer, update
from pamela_rl.rewards.taste_basis import Posterior

SHOWN = 20


@dataclass(frozen=True)
class People:
    table: RatingTable
    images: list[str]
    ratings: NDArray[np.float64]  # the mean of both blocks, (100, 55)
    error: float  # variance of that mean around what the person would say on average
    known: tuple[str, ...]
    new: list[int]
    shown: NDArray[np.int64]  # which pictures each person rated for us, (100, 20)


@pytest.fixture(scope="module")
def people(human_ratings: Path) -> People:
    reported = pd.read_csv(human_ratings / "raters.csv", dtype={"user_id": str}).set_index("user_id")
    table = RatingTable.from_file(human_ratings / "ratings.csv", RatingScale(0, 1), reported)
    table.check_images(human_ratings)
    blocks = table.rows.pivot_table(index=["user_id", "image"], columns="block", values="rating")
    wide = blocks.mean(axis=1).unstack()
    error = float(((blocks[1] - blocks[2]) ** 2).mean()) / 4
    order = np.random.default_rng(0).permutation(100)
    shown = np.stack([np.random.default_rng(row).permutation(55)[:SHOWN] for row in range(100)])
    known = tuple(str(user) for user in wide.index[np.sort(order[:60])])
    return People(table, [str(i) for i in wide.columns], wide.to_numpy(), error, known, sorted(order[60:]), shown)


def measure(name: str, people: People, predictions: NDArray[np.float64]) -> Agreement:
    """Compare with what new people said of the pictures that were not shown, ``(new, 55)``."""
    hidden = [np.setdiff1d(np.arange(55), people.shown[person]) for person in people.new]
    predicted = np.concatenate([row[rest] for row, rest in zip(predictions, hidden)])
    given = np.concatenate([people.ratings[person, rest] for person, rest in zip(people.new, hidden)])
    return agreement(name, predicted, given, np.repeat(people.new, 55 - SHOWN))


def mean_of_the_others(people: People) -> NDArray[np.float64]:
    new = set(people.new)
    others = people.ratings[[row for row in range(100) if row not in new]]
    return np.tile(others.mean(axis=0), (len(people.new), 1))


def test_a_normal_prior_over_peoples_tastes_beats_the_mean_of_the_others(people: People) -> None:
    others = np.delete(people.ratings, people.new, axis=0)
    prior = Posterior(torch.from_numpy(others.mean(axis=0)), torch.from_numpy(np.cov(others.T)))
    pictures = torch.eye(55, dtype=torch.float64)
    predictions = [
        update(prior, pictures[shown], torch.from_numpy(people.ratings[person, shown]), people.error).mean.numpy()
        for person, shown in ((person, people.shown[person]) for person in people.new)
    ]
    personal = measure("personal", people, np.stack(predictions))
    mean = measure("mean", people, mean_of_the_others(people))
    assert personal.num_users == mean.num_users == 40
    assert personal.srocc[0] > mean.srocc[0] + 0.05  # 0.54 over 0.40


def test_the_taste_basis_on_the_worlds_features_beats_the_mean_of_the_others(
    people: People, human_ratings: Path, encoder: FeatureEncoder
) -> None:
    features = encode_all(encoder, _pictures(people, human_ratings), ["a portrait of a dog"] * 55)
    rows = people.table.rows[people.table.rows["user_id"].isin(people.known)]
    places = {image: row for row, image in enumerate(people.images)}
    known = observations(rows, people.known, places)
    config = TasteBasisConfig(taste_dim=8, batch_size=512)
    basis = fit_taste_basis(features, known, None, people.known, people.table.raters, config)
    shared, design = (part.double() for part in basis.network(features))
    predictions = []
    for person in people.new:
        shown = people.shown[person]
        taste = fit_newcomer(basis, features[shown], torch.from_numpy(people.ratings[person, shown]))
        predictions.append((shared + design @ taste.mean).numpy())
    personal = measure("personal", people, np.stack(predictions))
    mean = measure("mean", people, mean_of_the_others(people))
    assert personal.srocc[0] > mean.srocc[0] + 0.05  # 0.48 over 0.40, though the encoder has never seen a dog


def _pictures(people: People, folder: Path) -> Tensor:
    opened = [np.array(Image.open(folder / image).convert("RGB")) for image in people.images]
    return torch.from_numpy(np.stack(opened)).permute(0, 3, 1, 2).float() / 255
