"""How well predictions agree with people on average, picture by picture. Says nothing of any one person."""

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
    bootstrap_mean,
    pairwise_accuracy,
    plcc,
    srocc,
)
from pamela_rl.agreement.per_person import finite
from pamela_rl.agreement.tables import lay_out, with_interval, without_nan


@dataclass(frozen=True)
class PopulationAgreement:
    """Agreement on pictures' mean ratings, with 95 % bootstrap intervals over pictures: estimate, low, high.

    Attributes:
        name: Of the model.
        num_images: Pictures with enough raters to count.
        srocc: Of the pictures' mean ratings with their mean predictions.
        plcc: The same, Pearson's.
        pairwise: Share of all pairs of pictures put in the right order; pairs of equal mean rating are left out, pairs
            predicted equal count one half.
        mae: Mean absolute error of the mean rating, in the units of the ratings.
    """

    name: str
    num_images: int
    srocc: Score
    plcc: Score
    pairwise: Score
    mae: Score

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, None for what could not be measured."""
        return dict(without_nan(asdict(self)))


def population_agreement(
    name: str,
    predicted: Array,
    given: Array,
    users: NDArray[Any],
    images: NDArray[Any],
    min_raters: int = 5,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
) -> PopulationAgreement:
    """Measure a model on what people think of each picture on average.

    Each picture's mean is over its raters, who count once each however often they rated it, and predictions are
    averaged over the very same raters. So a model of persons is measured by the mean of what it predicts for those who
    rated, and a model of the population, which predicts one number a picture, by that number.

    A model that predicts the same for all pictures has correlations of 0.

    Args:
        name: Of the model, for tables.
        predicted: One a rating, ``(n,)``; the picture's number again for each of its ratings, or the rater's own.
        given: The ratings, ``(n,)``.
        users: Who gave each, ``(n,)``.
        images: Of which picture, ``(n,)``.
        min_raters: Pictures with fewer people are left out.
        seed: Of the bootstrap.
        num_draws: Of the bootstrap; 1000 take a second for a thousand pictures.

    Raises:
        DataError: A prediction is not a finite number.
    """
    finite(name, predicted)
    ratings = pd.DataFrame({"image": images, "user": users, "predicted": predicted, "given": given})
    pictures = ratings.groupby(["image", "user"]).mean().groupby("image").agg(["mean", "size"])
    pictures = pictures[pictures[("given", "size")] >= min_raters]
    model, people = (pictures[(side, "mean")].to_numpy(dtype=np.float64, copy=True) for side in ("predicted", "given"))
    scores = [_score(measure, model, people, seed, num_draws) for measure in (srocc, plcc, pairwise_accuracy)]
    error = bootstrap_mean(np.abs(model - people), seed)
    return PopulationAgreement(name, len(pictures), scores[0], scores[1], scores[2], error)


def _score(measure: Callable[[Array, Array], float], model: Array, people: Array, seed: int, num_draws: int) -> Score:
    if not len(people) or np.ptp(people) == 0:
        return NO_SCORE

    def of(rows: NDArray[np.int64]) -> float:
        value = measure(model[rows], people[rows])
        return 0.0 if np.isnan(value) and np.ptp(people[rows]) > 0 else value

    return bootstrap(of, len(people), seed, num_draws)


def format_population_table(rows: Sequence[PopulationAgreement]) -> str:
    """Lay out agreements as text, one model a line, at most 120 characters wide."""
    cells = []
    for row in rows:
        text = {"SROCC": with_interval(row.srocc), "PLCC": with_interval(row.plcc)}
        text |= {"pairwise": with_interval(row.pairwise), "MAE": with_interval(row.mae)}
        cells.append((row.name, row.num_images, text))
    return lay_out("pictures", cells)
