"""Agreement of predictions with the mean rating of each picture. It says nothing about single users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pamela_rl.agreement.measures import (
    NO_SCORE,
    NUM_DRAWS,
    Array,
    Score,
    bootstrap,
    mean_with_interval,
    pairwise_accuracy,
    plcc,
    srocc,
)
from pamela_rl.agreement.per_user import check_finite
from pamela_rl.agreement.tables import align_columns, with_interval, without_nan


@dataclass(frozen=True)
class PopulationAgreement:
    """Agreement on pictures' mean ratings, with 95 % bootstrap intervals over pictures: estimate, low, high.

    Attributes:
        name: Of the model.
        num_images: Number of pictures with enough raters.
        srocc: Rank correlation of mean predictions and mean ratings.
        plcc: Pearson's correlation of the same.
        pairwise: Share of pairs of pictures in the right order; pairs of equal mean rating are left out, pairs with
            equal predictions count one half.
        mae: Mean absolute error of the mean rating, in the units of the ratings.
    """

    name: str
    num_images: int
    srocc: Score
    plcc: Score
    pairwise: Score
    mae: Score

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, with None for NaN."""
        return dict(without_nan(asdict(self)))


def population_agreement(
    name: str,
    predicted: Array,
    actual: Array,
    users: NDArray[Any],
    images: NDArray[Any],
    min_raters: int = 5,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> PopulationAgreement:
    """Measure a model on the mean rating of each picture.

    The mean is over the picture's raters; a rater with several ratings counts once. Predictions are averaged over the
    same raters. A model that predicts the same for all pictures has correlations of 0.

    Args:
        name: Of the model, for tables.
        predicted: Prediction for each rating, ``(n,)``; a model of the population repeats its prediction of a picture.
        actual: The ratings, ``(n,)``.
        users: User of each rating, ``(n,)``.
        images: Picture of each rating, ``(n,)``.
        min_raters: Pictures with fewer raters are left out.
        seed: Of the bootstrap.
        num_draws: Of the bootstrap; 1000 take a second for a thousand pictures.

    Raises:
        DataError: A prediction is not a finite number.
    """
    check_finite(name, predicted)
    ratings = pd.DataFrame({"image": images, "user": users, "predicted": predicted, "actual": actual})
    per_image = ratings.groupby(["image", "user"]).mean().groupby("image").agg(["mean", "size"])
    per_image = per_image[per_image[("actual", "size")] >= min_raters]
    predicted_means, actual_means = (
        per_image[(side, "mean")].to_numpy(dtype=np.float64, copy=True) for side in ("predicted", "actual")
    )
    scores = [
        _score(measure, predicted_means, actual_means, seed, num_draws) for measure in (srocc, plcc, pairwise_accuracy)
    ]
    error = mean_with_interval(np.abs(predicted_means - actual_means))
    return PopulationAgreement(name, len(per_image), scores[0], scores[1], scores[2], error)


def _score(
    measure: Callable[[Array, Array], float], predicted_means: Array, actual_means: Array, seed: int, num_draws: int
) -> Score:
    if not len(actual_means) or np.ptp(actual_means) == 0:
        return NO_SCORE

    def of(rows: NDArray[np.int64]) -> float:
        value = measure(predicted_means[rows], actual_means[rows])
        return 0.0 if np.isnan(value) and np.ptp(actual_means[rows]) > 0 else value

    return bootstrap(of, len(actual_means), seed, num_draws)


def format_population_table(rows: Sequence[PopulationAgreement]) -> str:
    """Format agreements as a text table, one model per line, at most 120 characters wide."""
    cells = []
    for row in rows:
        text = {"SROCC": with_interval(row.srocc), "PLCC": with_interval(row.plcc)}
        text |= {"pairwise": with_interval(row.pairwise), "MAE": with_interval(row.mae)}
        cells.append((row.name, row.num_images, text))
    return align_columns("pictures", cells)
