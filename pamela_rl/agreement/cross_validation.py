"""Cross-validation over images: every answer is predicted by a model that never saw its image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.compare_models import Results, share_foretold
from pamela_rl.agreement.measure import UserRatings, predictions
from pamela_rl.agreement.measures import Array, Score, srocc
from pamela_rl.agreement.per_user import Agreement, agreement
from pamela_rl.agreement.study import Study
from pamela_rl.errors import DataError
from pamela_rl.rewards.models import MODELS
from pamela_rl.rewards.preference import ChoiceTensors, PreferenceModel, RatingData, RatingTensors
from pamela_rl.rewards.settings import MAIN_MODEL

NUM_FOLDS = 5
MEANS = ("population_mean",)  # are the same for all images that nobody rated, so there is nothing to measure
SPLIT = "cross_validated"  # what results of it are called, where others have the names of splits


@dataclass(frozen=True)
class Fold:
    """Answers to learn from, and answers about images that none of those is about.

    Attributes:
        data: To learn from.
        ratings: Rows of held-out ratings, ``(n,)``.
        choices: Rows of held-out choices, of which at least one image is new, ``(n,)``.
    """

    data: RatingData
    ratings: Tensor
    choices: Tensor


def make_folds(data: RatingData, groups: NDArray[np.int64], seed: int, share: float = 1.0) -> list[Fold]:
    """Hold out images in turn, all those of a group together.

    Args:
        data: All ratings and choices.
        groups: Group of each image, ``(m,)``.
        seed: Of the folds.
        share: Of the answers that are learned from; less tells what fewer would have brought.

    Raises:
        DataError: All images are of one group.
    """
    choices = data.choices
    rated = [data.train.images] if choices is None else [data.train.images, choices.first, choices.second]
    group_of, names = torch.from_numpy(groups), np.unique(groups[torch.cat(rated).numpy()])
    if len(names) < 2:
        raise DataError(
            "all rated images are nearly the same, so there are no other images to measure on; rate more, or measure "
            "on them one by one with --near_duplicates apart."
        )
    generator = np.random.default_rng((seed, 3))
    fold_of = np.full(int(groups.max()) + 1, -1)
    fold_of[generator.permutation(names)] = np.arange(len(names)) % NUM_FOLDS
    folds = torch.from_numpy(fold_of)[group_of]
    parts = []
    for fold in range(min(NUM_FOLDS, len(names))):
        out = folds == fold
        held_ratings, held_choices = out[data.train.images], torch.zeros(0, dtype=torch.bool)
        train, kept = data.train[_some(~held_ratings, share, generator)], None
        if choices is not None:
            held_choices = out[choices.first] | out[choices.second]
            rows = _some(~held_choices, share, generator)
            kept = ChoiceTensors(choices.users[rows], choices.first[rows], choices.second[rows], choices.outcomes[rows])
        if len(train) or (kept is not None and len(kept)):
            part = replace(data, train=train, choices=kept)
            parts.append(Fold(part, held_ratings.nonzero().squeeze(1), held_choices.nonzero().squeeze(1)))
    return parts


@dataclass(frozen=True)
class _Foretold:
    """Predictions of one model for held-out answers: ratings with their spread, and who won which choice by how much."""

    mean: Array
    std: Array
    choices: Array
    lead: Array


def cross_validate(study: Study, names: Sequence[str], seed: int = 0) -> Results:
    """Measure models on everybody's answers about images they did not see.

    Args:
        study: Everything, with the groups of images.
        names: Names of models.
        seed: Of folds and fits.

    Raises:
        DataError: All images are nearly the same.
    """
    data = study.everything
    folds, rows, choices, seconds = make_folds(data, study.groups, seed), [], {}, {}
    predicted, known = {}, torch.zeros(len(data.train), dtype=torch.bool)
    for fold in folds:
        known[fold.ratings] = True
    for name in (name for name in names if name not in MEANS):
        started = time.perf_counter()
        foretold = _foretell(data, folds, name, seed)
        seconds[name] = (time.perf_counter() - started) / len(folds)
        if len(data.train):
            rows.append(_agreement(name, data, foretold, seed))
            predicted[name] = foretold.mean[known.numpy()], foretold.std[known.numpy()]
        if data.choices is not None:
            choices[name] = _share_foretold(data, foretold)
    half = None
    if MAIN_MODEL in names:
        half = _estimate(data, _foretell(data, make_folds(data, study.groups, seed, share=0.5), MAIN_MODEL, seed))
    held_out = rated_by(data, data.train[known]) if bool(known.any()) else None
    return Results({SPLIT: rows} if rows else {}, {}, {}, choices, seconds, 0, predicted, held_out, half)


def rated_by(data: RatingData, ratings: RatingTensors) -> UserRatings:
    """Return ratings with the features of their images and the ids of their users."""
    users = np.array(data.user_ids, dtype=object)[ratings.users.numpy()]
    return UserRatings(data.images[ratings.images], ratings.ratings, users, ratings.images.numpy())


def _foretell(data: RatingData, folds: Sequence[Fold], name: str, seed: int) -> _Foretold:
    mean, std = np.full((2, len(data.train)), np.nan)
    chosen, leads = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for fold in folds:
        model = MODELS[name](fold.data, seed)
        if len(fold.ratings):
            places = fold.ratings.numpy()
            mean[places], std[places] = predictions(model, rated_by(data, data.train[fold.ratings]))
        if len(fold.choices):
            chosen.append(fold.choices.numpy())
            leads.append(_lead(model, data, fold.choices))
    return _Foretold(mean, std, np.concatenate(chosen), np.concatenate(leads))


@torch.no_grad()
def _lead(model: PreferenceModel, data: RatingData, rows: Tensor) -> Array:
    assert data.choices is not None
    users = [data.user_ids[user] for user in data.choices.users[rows].tolist()]
    first, second = (data.images[part[rows]] for part in (data.choices.first, data.choices.second))
    return (model.predict(first, users).mean - model.predict(second, users).mean).double().numpy()


def _agreement(name: str, data: RatingData, foretold: _Foretold, seed: int) -> Agreement:
    known = np.isfinite(foretold.mean)
    users = np.array(data.user_ids, dtype=object)[data.train.users.numpy()]
    actual = data.train.ratings.numpy()
    return agreement(
        name, foretold.mean[known], actual[known], users[known], seed=seed, std=foretold.std[known], scale=data.scale
    )


def _estimate(data: RatingData, foretold: _Foretold) -> float:
    """Return the mean over users of their rank correlations; without ratings, the share of choices foretold."""
    if not len(data.train):
        return _share_foretold(data, foretold)[0]
    known, actual = np.isfinite(foretold.mean), data.train.ratings.numpy()
    rows = [np.flatnonzero(known & (data.train.users.numpy() == user)) for user in range(len(data.user_ids))]
    values = [srocc(foretold.mean[mine], actual[mine]) for mine in rows if len(mine) and np.ptp(actual[mine]) > 0]
    return float(np.mean(np.nan_to_num(values))) if values else float("nan")


def _share_foretold(data: RatingData, foretold: _Foretold) -> Score:
    assert data.choices is not None
    users = np.array(data.user_ids, dtype=object)[data.choices.users.numpy()[foretold.choices]]
    return share_foretold(foretold.lead, data.choices.outcomes.numpy()[foretold.choices], users)


def _some(mask: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    rows = mask.nonzero().squeeze(1)
    count = round(share * len(rows))
    return rows if count == len(rows) else rows[torch.from_numpy(np.sort(generator.permutation(len(rows))[:count]))]
