"""Real people, held out: what a few of their ratings tell of the pictures they have not rated.

python benchmarks/human_ratings.py FOLDER [repeats]

FOLDER holds ratings.csv (user_id, image, rating from 0 to 1, two ratings of each picture), raters.csv and images/:
100 people, 55 pictures of dogs (Brielmann, Berentelg and Dayan). People are held out in five folds, drawn anew in every
repeat; of each held-out person k pictures are shown, and Spearman's correlation is taken over the others, with the mean
of the person's two ratings. Means over people; 95 % intervals by Student's t over people.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.calibration import coverage
from pamela_rl.agreement.measures import mean_with_interval, srocc
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources import RatedImages, read_folder
from pamela_rl.rewards.baselines.population_baselines import fit_population_regression
from pamela_rl.rewards.encoders.feature_cache import encode_store
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.preference import ImageFeatures, RatingData
from pamela_rl.rewards.rating_tensors import rating_tensors
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.taste_basis import TasteBasis

NUM_SUPPORT_RATINGS = (5, 10, 20)
FOLDS = 5


@dataclass(frozen=True)
class Experiment:
    """The ratings, and features of the pictures."""

    rated: RatedImages
    features: Tensor

    @property
    def images(self) -> list[str]:
        """The pictures, in the order of the features."""
        return sorted(self.rated.image_ids)

    @property
    def means(self) -> pd.DataFrame:
        """Everybody's mean rating of every picture, people by pictures."""
        rows = self.rated.table.rows
        return rows.pivot_table(index="user_id", columns="image", values="rating")

    def data(self, users: list[str], images: list[str], with_demographics: bool = False) -> RatingData:
        """Return some people's ratings of some pictures, with what they report or without."""
        rows, raters = self.rated.table.rows, self.rated.table.raters
        rows = rows[rows["user_id"].isin(users) & rows["image"].isin(images)]
        places = {image: row for row, image in enumerate(self.images)}
        return RatingData(
            ImageFeatures(self.features, ids=torch.arange(len(self.features))),
            rating_tensors(rows, users, places),
            tuple(users),
            demographics=raters if with_demographics else None,
            scale=self.rated.table.scale,
        )

    def ratings_of(self, user: str, images: list[str]) -> tuple[ImageFeatures, Tensor]:
        """Return one person's ratings of some pictures, both of each."""
        rows = self.rated.table.for_user(user).rows
        rows = rows[rows["image"].isin(images)]
        places = torch.tensor([self.images.index(image) for image in rows["image"]], dtype=torch.int64)
        return ImageFeatures(self.features[places]), torch.tensor(rows["rating"].to_numpy(copy=True))


def folds(items: list[str], seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield who is learned from and who is held out."""
    for part in np.array_split(np.random.default_rng(seed).permutation(len(items)), FOLDS):
        held_out_users = {items[index] for index in part}
        yield [item for item in items if item not in held_out_users], sorted(held_out_users)


def rated_images(
    experiment: Experiment, repeats: int, with_demographics: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Correlate on pictures that other people rated, one row a person: (repeats, people)."""
    users, means = sorted(experiment.means.index), experiment.means
    scores = {name: np.full((repeats, len(users)), np.nan) for name in _names(NUM_SUPPORT_RATINGS)}
    covered = []
    for repeat in range(repeats):
        for fold, (others, held_out_users) in enumerate(folds(users, repeat)):
            basis = fit_taste_basis(experiment.data(others, experiment.images, with_demographics))
            average = means.loc[others].mean(axis=0)
            for user in held_out_users:
                order = np.random.default_rng((repeat, fold, users.index(user))).permutation(experiment.images)
                index = (repeat, users.index(user))
                for count in (0, *NUM_SUPPORT_RATINGS):
                    support, query = list(order[:count]), list(order[count:])
                    mean, spread = _predict(experiment, basis, user, support, query, with_demographics)
                    truth = means.loc[user, query].to_numpy()
                    if np.ptp(truth) == 0:
                        continue
                    scores[f"{count} ratings"][index] = srocc(mean, truth)
                    scores[f"mean of the others, {count}"][index] = srocc(average[query].to_numpy(), truth)
                    if count == 10:
                        covered.append(_coverage_80(experiment, user, query, mean, spread))
    print(f"  coverage of the 80 % interval, 10 ratings shown: {np.concatenate(covered).mean():.1%}")
    return scores


def unrated_images(experiment: Experiment, repeats: int) -> dict[str, NDArray[np.float64]]:
    """Correlate on pictures that nobody rated: folds over pictures too."""
    users, means = sorted(experiment.means.index), experiment.means
    names = [*(f"{count} ratings" for count in NUM_SUPPORT_RATINGS), "population regression"]
    parts: dict[str, list[list[float]]] = {name: [[] for _ in users] for name in names}
    for repeat in range(repeats):
        for rated, unrated in folds(experiment.images, 100 + repeat):
            for fold, (others, held_out_users) in enumerate(folds(users, repeat)):
                data = experiment.data(others, rated)
                basis, regression = fit_taste_basis(data), fit_population_regression(data)
                places = torch.tensor([experiment.images.index(image) for image in unrated])
                population = regression.predict_population(ImageFeatures(experiment.features[places])).double().numpy()
                for user in held_out_users:
                    order = np.random.default_rng((repeat, fold, users.index(user))).permutation(rated)
                    truth, row = means.loc[user, unrated].to_numpy(), users.index(user)
                    if np.ptp(truth) == 0:
                        continue
                    parts["population regression"][row].append(srocc(population, truth))
                    for count in NUM_SUPPORT_RATINGS:
                        mean, _ = _predict(experiment, basis, user, list(order[:count]), unrated, False)
                        parts[f"{count} ratings"][row].append(srocc(mean, truth))
    return {n: np.array([[np.mean(v) if v else np.nan for v in rows]]) for n, rows in parts.items()}


def _names(counts: tuple[int, ...]) -> list[str]:
    return [name for count in (0, *counts) for name in (f"{count} ratings", f"mean of the others, {count}")]


def _predict(
    experiment: Experiment, basis: TasteBasis, user: str, support: list[str], query: list[str], with_demographics: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    demographics = experiment.data([user], []).demographics_of(user) if with_demographics else None
    model = basis.introduce(user, *experiment.ratings_of(user, support), demographics)
    places = torch.tensor([experiment.images.index(image) for image in query])
    output = model.predict(ImageFeatures(experiment.features[places]), [user] * len(query))
    assert output.std is not None
    spread = torch.hypot(output.std.double(), model.noise_std([user]))
    return output.mean.double().numpy(), spread.numpy()


def _coverage_80(
    experiment: Experiment, user: str, query: list[str], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    rows = experiment.rated.table.for_user(user).rows
    places = rows["image"].map({image: index for index, image in enumerate(query)}).dropna().astype(int)
    given = rows.loc[places.index, "rating"].to_numpy()
    return coverage(mean[places], spread[places], given, experiment.rated.table.scale)[:, 1]


def print_scores(title: str, scores: dict[str, NDArray[np.float64]]) -> None:
    """Print means over people, a person's repeats averaged first, and the paired gain over the first baseline."""
    print(title, flush=True)
    for name, values in scores.items():
        per_user = np.nanmean(values[:, ~np.isnan(values).all(axis=0)], axis=0)
        mean, low, high = mean_with_interval(per_user)
        print(f"  {name:28}{mean:7.3f} [{low:.3f}, {high:.3f}]  {len(per_user)} people", flush=True)


def main() -> None:
    """Measure everything."""
    os.environ["TQDM_DISABLE"] = "1"
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    rated = read_folder(folder / "ratings.csv", scale=RatingScale(0, 1), raters=folder / "raters.csv")
    by_id = Experiment(rated, torch.eye(len(rated.image_ids)))
    by_pixels = replace(
        by_id, features=encode_store(PixelEncoder(), rated.images, by_id.images, [""] * len(by_id.images))
    )
    print_scores("Pictures that others rated, told apart by id", rated_images(by_id, repeats))
    print_scores("Pictures that others rated, by features of pixels", rated_images(by_pixels, repeats))
    print_scores(
        "By id, with what people report of themselves",
        rated_images(by_id, max(1, repeats // 4), with_demographics=True),
    )
    scores = unrated_images(by_pixels, max(1, repeats // 4))
    print_scores("Pictures that nobody rated, by features of pixels", scores)
    base = scores["population regression"]
    gains = {name: values - base for name, values in scores.items() if name != "population regression"}
    print_scores("  paired gain over the population regression", gains)


if __name__ == "__main__":
    main()
