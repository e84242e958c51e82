"""Real people, held out: what a few of their ratings tell of the pictures they have not rated.

python benchmarks/human_ratings.py FOLDER [repeats]

FOLDER holds ratings.csv (user_id, image, rating from 0 to 1, two ratings of each picture), raters.csv and images/:
100 people, 55 pictures of dogs (Brielmann, Berentelg and Dayan). People are held out in five folds, drawn anew in every
repeat; of each held-out person k pictures are shown, and Spearman's correlation is taken over the others, with the mean
of the person's two ratings. Means over people; 95 % intervals by bootstrap over people.
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
from pamela_rl.agreement.measures import bootstrap_mean, srocc
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources import RatedImages, read_folder
from pamela_rl.rewards.baselines.population_baselines import fit_population_regression
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.observations import observations
from pamela_rl.rewards.preference import Pictures, RatingData
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.taste_basis import TasteBasis

SHOWN = (5, 10, 20)
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

    def data(self, people: list[str], images: list[str], reported: bool = False) -> RatingData:
        """Return some people's ratings of some pictures, with what they report or without."""
        rows, raters = self.rated.table.rows, self.rated.table.raters
        rows = rows[rows["user_id"].isin(people) & rows["image"].isin(images)]
        places = {image: row for row, image in enumerate(self.images)}
        return RatingData(
            Pictures(self.features, ids=torch.arange(len(self.features))),
            observations(rows, people, places),
            tuple(people),
            people=raters if reported else None,
            scale=self.rated.table.scale,
        )

    def answers(self, person: str, images: list[str]) -> tuple[Pictures, Tensor]:
        """Return one person's ratings of some pictures, both of each."""
        rows = self.rated.table.for_user(person).rows
        rows = rows[rows["image"].isin(images)]
        places = torch.tensor([self.images.index(image) for image in rows["image"]], dtype=torch.int64)
        return Pictures(self.features[places]), torch.tensor(rows["rating"].to_numpy(copy=True))


def folds(items: list[str], seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield who is learned from and who is held out."""
    for part in np.array_split(np.random.default_rng(seed).permutation(len(items)), FOLDS):
        held = {items[place] for place in part}
        yield [item for item in items if item not in held], sorted(held)


def known_pictures(experiment: Experiment, repeats: int, reported: bool = False) -> dict[str, NDArray[np.float64]]:
    """Correlate on pictures that other people rated, one row a person: (repeats, people)."""
    people, means = sorted(experiment.means.index), experiment.means
    scores = {name: np.full((repeats, len(people)), np.nan) for name in _names(SHOWN)}
    inside = []
    for repeat in range(repeats):
        for fold, (others, held) in enumerate(folds(people, repeat)):
            basis = fit_taste_basis(experiment.data(others, experiment.images, reported))
            average = means.loc[others].mean(axis=0)
            for person in held:
                order = np.random.default_rng((repeat, fold, people.index(person))).permutation(experiment.images)
                place = (repeat, people.index(person))
                for count in (0, *SHOWN):
                    shown, rest = list(order[:count]), list(order[count:])
                    mean, spread = _predict(experiment, basis, person, shown, rest, reported)
                    truth = means.loc[person, rest].to_numpy()
                    if np.ptp(truth) == 0:
                        continue
                    scores[f"{count} ratings"][place] = srocc(mean, truth)
                    scores[f"mean of the others, {count}"][place] = srocc(average[rest].to_numpy(), truth)
                    if count == 10:
                        inside.append(_covered(experiment, person, rest, mean, spread))
    print(f"  coverage of the 80 % interval, 10 ratings shown: {np.concatenate(inside).mean():.1%}")
    return scores


def new_pictures(experiment: Experiment, repeats: int) -> dict[str, NDArray[np.float64]]:
    """Correlate on pictures that nobody rated: folds over pictures too."""
    people, means = sorted(experiment.means.index), experiment.means
    names = [*(f"{count} ratings" for count in SHOWN), "population regression"]
    parts: dict[str, list[list[float]]] = {name: [[] for _ in people] for name in names}
    for repeat in range(repeats):
        for rated, unrated in folds(experiment.images, 100 + repeat):
            for fold, (others, held) in enumerate(folds(people, repeat)):
                data = experiment.data(others, rated)
                basis, regression = fit_taste_basis(data), fit_population_regression(data)
                places = torch.tensor([experiment.images.index(image) for image in unrated])
                population = regression.predict_population(Pictures(experiment.features[places])).double().numpy()
                for person in held:
                    order = np.random.default_rng((repeat, fold, people.index(person))).permutation(rated)
                    truth, row = means.loc[person, unrated].to_numpy(), people.index(person)
                    if np.ptp(truth) == 0:
                        continue
                    parts["population regression"][row].append(srocc(population, truth))
                    for count in SHOWN:
                        mean, _ = _predict(experiment, basis, person, list(order[:count]), unrated, False)
                        parts[f"{count} ratings"][row].append(srocc(mean, truth))
    return {n: np.array([[np.mean(v) if v else np.nan for v in rows]]) for n, rows in parts.items()}


def _names(counts: tuple[int, ...]) -> list[str]:
    return [name for count in (0, *counts) for name in (f"{count} ratings", f"mean of the others, {count}")]


def _predict(
    experiment: Experiment, basis: TasteBasis, person: str, shown: list[str], rest: list[str], reported: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said = experiment.data([person], []).reported(person) if reported else None
    knowing = basis.introduce(person, *experiment.answers(person, shown), said)
    places = torch.tensor([experiment.images.index(image) for image in rest])
    output = knowing.predict(Pictures(experiment.features[places]), [person] * len(rest))
    assert output.std is not None
    spread = torch.hypot(output.std.double(), knowing.noise_std([person]))
    return output.mean.double().numpy(), spread.numpy()


def _covered(
    experiment: Experiment, person: str, rest: list[str], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    rows = experiment.rated.table.for_user(person).rows
    places = rows["image"].map({image: place for place, image in enumerate(rest)}).dropna().astype(int)
    given = rows.loc[places.index, "rating"].to_numpy()
    return coverage(mean[places], spread[places], given, experiment.rated.table.scale)[:, 1]


def show(title: str, scores: dict[str, NDArray[np.float64]]) -> None:
    """Print means over people, a person's repeats averaged first, and the paired gain over the first baseline."""
    print(title, flush=True)
    for name, values in scores.items():
        person = np.nanmean(values[:, ~np.isnan(values).all(axis=0)], axis=0)
        mean, low, high = bootstrap_mean(person, 0)
        print(f"  {name:28}{mean:7.3f} [{low:.3f}, {high:.3f}]  {len(person)} people", flush=True)


def main() -> None:
    """Measure everything."""
    os.environ["TQDM_DISABLE"] = "1"
    folder, repeats = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    rated = read_folder(folder / "ratings.csv", scale=RatingScale(0, 1), raters=folder / "raters.csv")
    by_id = Experiment(rated, torch.eye(len(rated.image_ids)))
    by_pixels = replace(by_id, features=PixelEncoder().encode_store(rated.images, by_id.images))
    show("Pictures that others rated, told apart by id", known_pictures(by_id, repeats))
    show("Pictures that others rated, by features of pixels", known_pictures(by_pixels, repeats))
    show("By id, with what people report of themselves", known_pictures(by_id, max(1, repeats // 4), reported=True))
    scores = new_pictures(by_pixels, max(1, repeats // 4))
    show("Pictures that nobody rated, by features of pixels", scores)
    base = scores["population regression"]
    gains = {name: values - base for name, values in scores.items() if name != "population regression"}
    show("  paired gain over the population regression", gains)


if __name__ == "__main__":
    main()
