"""Fitting of a taste basis: for many people a network by marginal likelihood and the prior over tastes, else a kernel."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pamela_rl.errors import DataError
from pamela_rl.rewards.preference import RatingData, RatingTensors
from pamela_rl.rewards.rating_tensors import hold_out_images
from pamela_rl.rewards.taste.evidence import (
    LOGISTIC,
    PaddedResponses,
    TastePosteriors,
    infer_tastes,
    pad_responses,
    select_users,
    tighten_bound,
)
from pamela_rl.rewards.taste.kernel_fit import fit_kernel_basis
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.own_process import MAX_PEOPLE, with_own_process
from pamela_rl.rewards.taste.prior import fit_prior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures
from pamela_rl.rewards.threads import few_threads

MANY_IMAGES, MANY_PEOPLE = 500, 60  # with fewer of either, a kernel foretells more than a network (docs/reward.md)
USERS_PER_STEP = 256
PRIOR_LEARNING_RATE = 0.03  # learning rate of prior and noise, at its highest
CHECK_EVERY, PATIENCE = 10, 8  # steps between validations; validations without improvement before stopping


@dataclass(frozen=True)
class TasteBasisConfig:
    """Settings of the fit of a taste basis.

    Attributes:
        taste_dim: Number of dimensions in which users differ.
        hidden_dim: Width of the network.
        num_layers: Hidden layers.
        dropout: Of hidden units.
        num_steps: Most training steps; the best weights on the validation ratings are kept.
        learning_rate: Of AdamW for the network, at its highest.
        weight_decay: Of AdamW.
        log_noise_std: Prior standard deviation of the log noise of users during training; it is learned afterwards.
        seed: Of initial weights and dropout.
    """

    taste_dim: int = 16
    hidden_dim: int = 256
    num_layers: int = 3
    dropout: float = 0.5
    num_steps: int = 400
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    log_noise_std: float = 0.8
    seed: int = 0


@few_threads()
def fit_taste_basis(data: RatingData, seed: int = 0) -> TasteBasis:
    """Fit tastes: Gaussian processes, of all people and of each; beside them a network where many rated many images.

    Args:
        data: Ratings, choices, or both.
        seed: Of the fit.

    Raises:
        DataError: There are no training responses.
    """
    images = _training_image_rows(data)
    if not len(images):
        raise DataError("there are no training ratings and no choices; a reward is learned from one or the other.")
    if len(images) >= MANY_IMAGES and len(data.user_ids) >= MANY_PEOPLE:
        basis = fit_network(data, TasteBasisConfig(seed=seed))
        return with_own_process(basis, data, seed) if len(data.user_ids) <= MAX_PEOPLE else basis
    return fit_kernel_basis(data, seed)


def fit_network(data: RatingData, config: TasteBasisConfig) -> TasteBasis:
    """Fit the shared score, the basis of tastes, the prior over tastes, and the posterior of each user.

    Tastes are integrated out: the network, the noise of each user and the misfit maximise the marginal likelihood of all
    ratings and choices. The prior over tastes (its mean by demographics, and its covariance) is then fitted by
    expectation maximisation.

    Args:
        data: Validation ratings are used for early stopping and for the misfit on new pictures. Without them a tenth of
            the training pictures is held out.
        config: Sizes and rates.

    Raises:
        DataError: There are no training or no held-out ratings.
    """
    train_data, held_out = data, data.validation
    if held_out is None and len(data.train):
        train, held_out = hold_out_images(data.train, config.seed)
        train_data = replace(data, train=train)
    if not len(_training_image_rows(train_data)) or (held_out is not None and not len(held_out)):
        count = 0 if held_out is None else len(held_out)
        raise DataError(f"there are {len(train_data.train)} training and {count} validation ratings; both are needed.")
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not changed
        torch.manual_seed(config.seed)
        network = _new_network(train_data, _training_image_rows(train_data), config)
        noise = _Trainer(network, train_data, held_out, config).run()
    return fit_prior(network, train_data, data, held_out, noise)


def _training_image_rows(data: RatingData) -> Tensor:
    parts = [data.train.images]
    if data.choices is not None:
        parts += [data.choices.first, data.choices.second]
    return torch.cat(parts).unique()


def _new_network(data: RatingData, image_rows: Tensor, config: TasteBasisConfig) -> TasteFeatures:
    """Create a network that is standardised by the training pictures and ratings."""
    train_features = data.images.features[image_rows].float()
    network = TasteFeatures(
        train_features.shape[1], config.taste_dim, config.hidden_dim, config.num_layers, config.dropout
    )
    spread = train_features.std(dim=0, correction=0)
    # features that are constant in training keep a scale of 1: dividing by almost 0 would blow them up later
    spread = torch.where(spread > 1e-3, spread, torch.ones_like(spread))
    network.feature_mean.copy_(train_features.mean(dim=0))
    network.feature_std.copy_(spread)
    if len(data.train):
        network.rating_mean.copy_(data.train.ratings.mean())
        network.rating_std.copy_(data.train.ratings.std(correction=0).clamp(min=1e-6))
    nn.init.zeros_(network.shared.bias)
    return network


class _Trainer:
    """Maximises the marginal likelihood over the network and the noise."""

    def __init__(
        self, network: TasteFeatures, data: RatingData, held_out: RatingTensors | None, config: TasteBasisConfig
    ) -> None:
        self.network, self.config, self.held_out, self.data = network, config, held_out, data
        image_rows = _training_image_rows(data)
        row_of = torch.full((len(data.images),), -1).index_copy(0, image_rows, torch.arange(len(image_rows)))
        responses = pad_responses(data.train, data.choices)
        second = torch.where(responses.is_choice, row_of[responses.second], -1)
        self.responses = replace(responses, first=row_of[responses.first].clamp(min=0), second=second)
        self.features = data.images.features[image_rows].float()
        self.rating_variance = float(network.rating_std) ** 2
        # variance of rounding to the steps of the scale
        self.floor = max(data.scale.resolution**2 / 12, 1e-5 * self.rating_variance)
        # without ratings there are no rating points; the unit is then one logit
        start = math.log(0.5 * self.rating_variance if len(data.train) else 0.5 * LOGISTIC**2)
        self.prior = _PriorParameters(
            len(data.user_ids), config.taste_dim + 1, start, math.log(0.1 * self.rating_variance)
        )

    def run(self) -> Noise:
        """Train, restore the best weights, and return the learned noise."""
        config = self.config
        groups = [
            {"params": self.network.parameters(), "weight_decay": config.weight_decay},
            {"params": self.prior.parameters(), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        rates = [config.learning_rate, PRIOR_LEARNING_RATE]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=config.num_steps)
        best, best_state, patience = float("inf"), self._state(), 0
        bar = tqdm(range(config.num_steps), desc="taste basis", unit="step", delay=2)
        for step in bar:
            self._step(optimizer)
            schedule.step()
            if self.held_out is None or (step + 1) % CHECK_EVERY:
                continue
            error = self._validation_error(self.held_out)
            bar.set_postfix(refresh=False, validation_error=f"{error:.3f}")  # refreshing would ignore the delay
            patience = 0 if error < best else patience + 1
            if error < best:
                best, best_state = error, self._state()
            if patience >= PATIENCE:
                break
        bar.close()
        if self.held_out is not None:
            self.network.load_state_dict(best_state[0])
            self.prior.load_state_dict(best_state[1])
        self.network.eval().requires_grad_(False)
        return self._noise()

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        self.network.train()
        for user_rows in torch.randperm(len(self.responses.user_rows)).split(USERS_PER_STEP):
            batch = select_users(self.responses, user_rows)
            loss = self._solve(batch).negative_log_evidence.sum() + self._penalty(batch)
            optimizer.zero_grad(set_to_none=True)
            (loss / (batch.counts > 0).sum()).backward()
            optimizer.step()

    def _solve(self, batch: PaddedResponses) -> TastePosteriors:
        shared, design = self.network(self.features)
        noise, misfit, root = self._variances()[batch.user_rows], self._misfit(), self.prior.log_spread.exp().diag()
        means = self.prior.mean.expand(len(batch.user_rows), -1)
        if bool(batch.is_choice.any()):
            with torch.no_grad():
                for _ in range(2):
                    posteriors = infer_tastes(batch, shared, design, means, root, noise, misfit)
                    batch = tighten_bound(batch, posteriors, shared, design, noise + misfit)
        return infer_tastes(batch, shared, design, means, root, noise, misfit)

    def _variances(self) -> Tensor:
        """Noise variances of all users; they cannot be learned from choices alone."""
        logs = self.prior.log_noise if len(self.data.train) else self.prior.log_noise.detach()
        return logs.exp() + self.floor

    def _misfit(self) -> Tensor:
        """The misfit variance, which only repeated ratings separate from the noise."""
        if not self.responses.has_repeats:
            return torch.zeros((), dtype=torch.float64)
        return self.prior.log_misfit.exp()

    def _penalty(self, batch: PaddedResponses) -> Tensor:
        """The priors' part of the loss, for the users of this batch."""
        deviation = (self.prior.log_noise[batch.user_rows] - self.prior.log_noise_mean) / self.config.log_noise_std
        return 0.5 * deviation.square().sum()

    @torch.no_grad()
    def _validation_error(self, held_out: RatingTensors) -> float:
        self.network.eval()
        means = self.prior.mean.repeat(len(self.prior.log_noise), 1)
        means[self.responses.user_rows] = self._solve(self.responses).means
        images, rows = held_out.images.unique(return_inverse=True)
        shared, design = self.network(self.data.images.features[images].float())
        output = shared[rows] + (design[rows] * means[held_out.users]).sum(dim=1)
        return float((output - held_out.ratings).square().mean())

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return copy.deepcopy(self.network.state_dict()), copy.deepcopy(self.prior.state_dict())

    @torch.no_grad()
    def _noise(self) -> Noise:
        log_mean = float(self.prior.log_noise_mean)
        num_rated = torch.zeros(len(self.prior.log_noise), dtype=torch.float64)
        rated = (self.responses.counts > 0) & ~self.responses.is_choice
        num_rated[self.responses.user_rows] = rated.double().sum(dim=1)
        # users without ratings were not trained: they get the mean
        logs = torch.where(num_rated > 0, self.prior.log_noise, self.prior.log_noise_mean)
        # the variance of the log noise is that of the estimates plus the uncertainty of each estimate
        uncertainty = 1 / (num_rated / 2 + 1 / self.config.log_noise_std**2)
        log_std = float(((logs - log_mean).square() + uncertainty).mean().sqrt()) if len(self.data.train) else 0.0
        return Noise(logs.exp() + self.floor, float(self._misfit()), log_mean, log_std, self.floor)


class _PriorParameters(nn.Module):
    """Parameters beside the network: mean and spread of the prior over tastes, and noise of all users."""

    def __init__(self, num_users: int, width: int, log_noise: float, log_misfit: float):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.log_spread = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.log_noise = nn.Parameter(torch.full((num_users,), log_noise, dtype=torch.float64))
        self.log_noise_mean = nn.Parameter(torch.tensor(log_noise, dtype=torch.float64))
        self.log_misfit = nn.Parameter(torch.tensor(log_misfit, dtype=torch.float64))
