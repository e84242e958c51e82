"""Fit a taste basis: the network by gradient descent, the prior over tastes by expectation maximisation."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.taste_basis import TasteBasis, TasteFeatures


@dataclass(frozen=True)
class TasteBasisConfig:
    """How a taste basis is fitted.

    Attributes:
        taste_dim: Dimensions along which people differ.
        num_epochs: Passes over the training ratings at most; the best on the validation ratings is kept.
        learning_rate: Of AdamW.
        batch_size: Ratings a step.
        taste_penalty: Weight of the squared size of tastes while the network is trained.
        num_em_steps: Rounds of expectation maximisation for the prior and the noise.
        seed: Of initial weights and of the order of ratings.
    """

    taste_dim: int = 16
    num_epochs: int = 40
    learning_rate: float = 3e-3
    batch_size: int = 1024
    taste_penalty: float = 2e-3
    num_em_steps: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Observations:
    """Ratings as numbers: who, which row of the features, how much.

    Attributes:
        users: Row of each rater in the list of users, ``(n,)``.
        images: Row of each picture in the features, ``(n,)``.
        ratings: ``(n,)``.
    """

    users: Tensor
    images: Tensor
    ratings: Tensor

    def __len__(self) -> int:
        return len(self.ratings)


def fit_taste_basis(
    features: Tensor,
    train: Observations,
    validation: Observations | None,
    user_ids: tuple[str, ...],
    people: pd.DataFrame | None = None,
    config: TasteBasisConfig | None = None,
) -> TasteBasis:
    """Learn what is shared, along which lines people differ, how tastes are spread, and each person's own.

    Args:
        features: From the encoder, one row a picture, ``(m, feature_dim)``.
        train: Ratings to learn from; standardisation uses their pictures alone.
        validation: Ratings of the same people on other pictures; choose when to stop. None holds a tenth of the
            training pictures out for that; tastes are then fitted to all of ``train``.
        user_ids: The people that ``users`` count.
        people: What they report, indexed by user id, or None.
        config: Sizes and rates; None takes the usual ones.

    Raises:
        DataError: There is nothing to learn from, or to choose by.
    """
    config = config or TasteBasisConfig()
    learnt, chosen_by = (train, validation) if validation is not None else _hold_out(train, config.seed)
    if not len(learnt) or not len(chosen_by):
        raise DataError(f"there are {len(learnt)} training and {len(chosen_by)} validation ratings; both are needed.")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(config.seed)
        network = TasteFeatures(features.shape[1], config.taste_dim)
        shown = features[learnt.images.unique()]
        spread = shown.std(dim=0, correction=0)
        network.centre.copy_(shown.mean(dim=0))
        # a feature that never varied in training says nothing: dividing by almost nothing would make it shout later
        network.spread.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
        nn.init.constant_(network.shared.bias, float(learnt.ratings.mean()))
        _train_network(network, features, learnt, chosen_by, len(user_ids), config)
    coding = DemographicsCoding.of(people)
    reported = torch.stack([coding.encode(_person(people, user)) for user in user_ids])
    return _fit_prior(network, features, train, user_ids, coding, reported, config.num_em_steps)


def _hold_out(train: Observations, seed: int) -> tuple[Observations, Observations]:
    """Set the ratings of a tenth of the pictures apart."""
    pictures = train.images.unique()
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    apart = torch.isin(train.images, pictures[order[: -(-len(pictures) // 10)]])
    kept, held = (Observations(train.users[m], train.images[m], train.ratings[m]) for m in (~apart, apart))
    return kept, held


def _person(people: pd.DataFrame | None, user_id: str) -> Mapping[str, Any] | None:
    if people is None or user_id not in people.index:
        return None
    return {str(key): value for key, value in people.loc[user_id].to_dict().items()}


def _train_network(
    network: TasteFeatures, features: Tensor, train: Observations, validation: Observations, num_users: int,
    config: TasteBasisConfig,
) -> None:  # fmt: skip
    tastes = nn.Embedding(num_users, config.taste_dim + 1)
    nn.init.normal_(tastes.weight, std=0.1)
    optimizer = torch.optim.AdamW(
        [
            {"params": network.parameters(), "weight_decay": 0.02},
            {"params": tastes.parameters(), "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    steps = config.num_epochs * -(-len(train) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)

    def predict(part: Observations, rows: Tensor) -> tuple[Tensor, Tensor]:
        shared, design = network(features[part.images[rows]])
        taste = tastes(part.users[rows])
        return shared + (design * taste).sum(dim=1), taste

    best, kept, patience = float("inf"), copy.deepcopy(network.state_dict()), 0
    bar = tqdm(range(config.num_epochs), desc="taste basis", unit="epoch", delay=2)
    for _ in bar:
        network.train()
        for rows in torch.randperm(len(train)).split(config.batch_size):
            output, taste = predict(train, rows)
            loss = mse_loss(output, train.ratings[rows].float()) + config.taste_penalty * taste.square().sum(1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            error = mse_loss(predict(validation, torch.arange(len(validation)))[0], validation.ratings.float()).item()
        bar.set_postfix(refresh=False, validation_error=f"{error:.3f}")  # a refresh would ignore the delay
        patience = 0 if error < best else patience + 1
        if error < best:
            best, kept = error, copy.deepcopy(network.state_dict())
        if patience >= 8:
            break
    bar.close()
    network.load_state_dict(kept)
    network.eval().requires_grad_(False)


@torch.no_grad()
def _fit_prior(
    network: TasteFeatures, features: Tensor, train: Observations, user_ids: tuple[str, ...],
    coding: DemographicsCoding, reported: Tensor, num_steps: int,
) -> TasteBasis:  # fmt: skip
    """Expectation maximisation of the marginal likelihood for A, Sigma and the noise, given the network."""
    shared, design = (part.double() for part in network(features.float()))
    rows, target = design[train.images], train.ratings.double() - shared[train.images]
    count, width = len(user_ids), rows.shape[1]
    gram = torch.zeros(count, width, width, dtype=torch.float64)
    gram.index_add_(0, train.users, rows[:, :, None] * rows[:, None, :])
    moment = torch.zeros(count, width, dtype=torch.float64).index_add_(0, train.users, rows * target[:, None])
    identity = torch.eye(width, dtype=torch.float64)
    prior_map = torch.zeros(width, reported.shape[1], dtype=torch.float64)
    covariance, noise = identity.clone(), float(target.var())
    ridge = torch.eye(reported.shape[1], dtype=torch.float64)
    ridge[0, 0] = 1e-6  # the mean taste is free; what follows from demographics must earn its place
    for _ in range(num_steps):
        means, covariances = _posteriors(gram, moment, prior_map, covariance, noise, reported)
        deviation = means - reported @ prior_map.T
        covariance = (covariances + deviation[:, :, None] * deviation[:, None, :]).mean(dim=0) + 1e-6 * identity
        prior_map = torch.linalg.solve(reported.T @ reported + ridge, reported.T @ means).T
        error = target - (rows * means[train.users]).sum(dim=1)
        noise = float((error.square().sum() + (gram * covariances).sum()) / len(target))
    means, covariances = _posteriors(gram, moment, prior_map, covariance, noise, reported)
    return TasteBasis(network, coding, prior_map, covariance, noise, user_ids, means, covariances)


def _posteriors(
    gram: Tensor, moment: Tensor, prior_map: Tensor, covariance: Tensor, noise: float, reported: Tensor
) -> tuple[Tensor, Tensor]:
    """Everyone's posterior at once: means ``(u, k + 1)`` and covariances ``(u, k + 1, k + 1)``."""
    precision = torch.linalg.inv(covariance)
    covariances = torch.linalg.inv(precision + gram / noise)
    pull = (reported @ prior_map.T) @ precision + moment / noise
    return torch.einsum("uij,uj->ui", covariances, pull), covariances


def observations(table: pd.DataFrame, user_ids: tuple[str, ...], image_rows: Mapping[str, int]) -> Observations:
    """Turn rows of a rating table into numbers.

    Args:
        table: ``user_id``, ``image``, ``rating``; every user must be among ``user_ids``.
        user_ids: The order of users.
        image_rows: Row of each image in the features.

    Raises:
        UnknownUserError: A rating is of somebody not among ``user_ids``.
        DataError: A rated image has no row in the features.
    """
    strangers = sorted(set(table["user_id"]) - set(user_ids))
    if strangers:
        raise UnknownUserError(
            f"{len(strangers)} people who rated are not among the {len(user_ids)} to fit, e.g. {strangers[0]!r}; "
            "leave their ratings out (fit_newcomer takes them later) or add them."
        )
    unseen = sorted(set(table["image"]) - set(image_rows))
    if unseen:
        raise DataError(f"{len(unseen)} rated images have no features, e.g. {unseen[0]!r}; encode them first.")
    order = {user: row for row, user in enumerate(user_ids)}
    return Observations(
        torch.tensor([order[user] for user in table["user_id"]]),
        torch.tensor([image_rows[image] for image in table["image"]]),
        torch.tensor(table["rating"].to_numpy(dtype="float64")),
    )
