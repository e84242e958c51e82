"""Fit a taste basis by its marginal likelihood: the network first, then the prior over tastes that it implies."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pamela_rl.errors import DataError
from pamela_rl.rewards.observations import hold_out_pictures
from pamela_rl.rewards.preference import Observations, RatingData
from pamela_rl.rewards.taste.evidence import LOGISTIC, Answers, Solution, batch_of, bend, collect, solve
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.prior import fit_prior
from pamela_rl.rewards.taste.taste_basis import TasteBasis, TasteFeatures

FEW_PICTURES = 500  # below, a network would learn the pictures by heart
PEOPLE_A_STEP = 256
PARTS_RATE = 0.03  # learning rate of prior and noise, at its highest
CHECK_EVERY, PATIENCE = 10, 8  # steps between two looks at the validation ratings; looks without progress


@dataclass(frozen=True)
class TasteBasisConfig:
    """How a taste basis is fitted.

    Attributes:
        taste_dim: Dimensions along which people differ.
        hidden_dim: Width of the network.
        num_layers: Hidden layers; 0 makes shared score and tastes linear in the features.
        dropout: Of hidden units.
        num_steps: Steps at most; the best on the validation ratings is kept.
        learning_rate: Of AdamW for the network, at its highest.
        weight_decay: Of AdamW.
        weight_prior: Precision of the normal prior on linear weights, in units of standardised ratings and features.
        noise_width: Spread of the logarithm of people's noise while the network is trained; learned afterwards.
        seed: Of initial weights and dropout.
    """

    taste_dim: int = 16
    hidden_dim: int = 256
    num_layers: int = 3
    dropout: float = 0.5
    num_steps: int = 400
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    weight_prior: float = 0.0
    noise_width: float = 0.8
    seed: int = 0

    @classmethod
    def for_pictures(cls, count: int, seed: int = 0) -> TasteBasisConfig:
        """Return what suits this many training pictures: a network for many, a linear basis for few."""
        if count >= FEW_PICTURES:
            return cls(seed=seed)
        return cls(
            taste_dim=8, num_layers=0, num_steps=150, learning_rate=0.03, weight_decay=0.0, weight_prior=6.0, seed=seed
        )


def fit_taste_basis(data: RatingData, config: TasteBasisConfig | int = 0) -> TasteBasis:
    """Learn what is shared, along which lines people differ, how tastes are spread, and each person's own.

    Tastes are integrated out: the network, the noise of each person and what the basis cannot express maximise the
    marginal likelihood of everybody's ratings and choices. The prior over tastes (its mean by demographics and its
    covariance) follows by expectation maximisation.

    Args:
        data: Validation ratings choose when to stop and tell how far the basis is off on new pictures. Without them a
            tenth of the training pictures is held out for that, unless the basis is linear.
        config: Sizes and rates; a number takes what suits the data, with that seed.

    Raises:
        DataError: There is nothing to learn from, or to choose by.
    """
    pictures = _seen_pictures(data)
    if isinstance(config, int):
        config = TasteBasisConfig.for_pictures(len(pictures), config)
    learnt, held = data, data.validation
    if held is None and config.num_layers and len(data.train):
        train, held = hold_out_pictures(data.train, config.seed)
        learnt = replace(data, train=train)
    if not len(_seen_pictures(learnt)) or (held is not None and not len(held)):
        count = 0 if held is None else len(held)
        raise DataError(f"there are {len(learnt.train)} training and {count} validation ratings; both are needed.")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(config.seed)
        network = _new_network(learnt, _seen_pictures(learnt), config)
        noise = _Trainer(network, learnt, held, config).run()
    return fit_prior(network, learnt, data, held, noise)


def _seen_pictures(data: RatingData) -> Tensor:
    parts = [data.train.images]
    if data.choices is not None:
        parts += [data.choices.first, data.choices.second]
    return torch.cat(parts).unique()


def _new_network(data: RatingData, pictures: Tensor, config: TasteBasisConfig) -> TasteFeatures:
    """Standardise by training pictures and training ratings alone."""
    shown = data.pictures.features[pictures].float()
    network = TasteFeatures(shown.shape[1], config.taste_dim, config.hidden_dim, config.num_layers, config.dropout)
    spread = shown.std(dim=0, correction=0)
    if config.num_layers:
        # a feature that never varied in training says nothing: dividing by almost nothing would make it shout later
        spread = torch.where(spread > 1e-3, spread, torch.ones_like(spread))
    else:  # one scale for all keeps small directions small: the weight prior then prefers large ones
        spread = spread.square().sum().sqrt().clamp(min=1e-6).expand_as(spread)
    network.centre.copy_(shown.mean(dim=0))
    network.spread.copy_(spread)
    if len(data.train):
        network.origin.copy_(data.train.ratings.mean())
        network.unit.copy_(data.train.ratings.std(correction=0).clamp(min=1e-6))
    if not config.num_layers:
        nn.init.zeros_(network.shared.weight)
        nn.init.normal_(network.taste.weight, std=0.2)
        nn.init.zeros_(network.taste.bias)
    nn.init.zeros_(network.shared.bias)
    return network


class _Trainer:
    """Maximises the marginal likelihood over the network and the noise."""

    def __init__(
        self, network: TasteFeatures, data: RatingData, held: Observations | None, config: TasteBasisConfig
    ) -> None:
        self.network, self.config, self.held, self.data = network, config, held, data
        pictures = _seen_pictures(data)
        place = torch.full((len(data.pictures),), -1).index_copy(0, pictures, torch.arange(len(pictures)))
        answers = collect(data.train, data.choices)
        second = torch.where(answers.is_choice, place[answers.second], -1)
        self.answers = replace(answers, first=place[answers.first].clamp(min=0), second=second)
        self.features = data.pictures.features[pictures].float()
        self.unit = float(network.unit) ** 2  # of variances
        self.floor = max(data.scale.resolution**2 / 12, 1e-5 * self.unit)  # what rounding to whole stars adds
        # choices alone have no rating points: one unit is then one logit
        start = math.log(0.5 * self.unit if len(data.train) else 0.5 * LOGISTIC**2)
        self.parts = _Parts(len(data.user_ids), config.taste_dim + 1, start, math.log(0.1 * self.unit))

    def run(self) -> Noise:
        """Train, put the best weights back, and return what was learned of noise."""
        config = self.config
        groups = [
            {"params": self.network.parameters(), "weight_decay": config.weight_decay},
            {"params": self.parts.parameters(), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        rates = [config.learning_rate, PARTS_RATE]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=config.num_steps)
        best, kept, patience = float("inf"), self._state(), 0
        bar = tqdm(range(config.num_steps), desc="taste basis", unit="step", delay=2)
        for step in bar:
            self._step(optimizer)
            schedule.step()
            if self.held is None or (step + 1) % CHECK_EVERY:
                continue
            error = self._validation_error(self.held)
            bar.set_postfix(refresh=False, validation_error=f"{error:.3f}")  # a refresh would ignore the delay
            patience = 0 if error < best else patience + 1
            if error < best:
                best, kept = error, self._state()
            if patience >= PATIENCE:
                break
        bar.close()
        if self.held is not None:
            self.network.load_state_dict(kept[0])
            self.parts.load_state_dict(kept[1])
        self.network.eval().requires_grad_(False)
        return self._noise()

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        self.network.train()
        for people in torch.randperm(len(self.answers.people)).split(PEOPLE_A_STEP):
            batch = batch_of(self.answers, people)
            loss = self._solve(batch).negative_log_evidence.sum() + self._penalty(batch)
            optimizer.zero_grad(set_to_none=True)
            (loss / (batch.counts > 0).sum()).backward()
            optimizer.step()

    def _solve(self, batch: Answers) -> Solution:
        shared, design = self.network(self.features)
        noise, misfit, root = self._variances()[batch.people], self._misfit(), self.parts.log_spread.exp().diag()
        means = self.parts.mean.expand(len(batch.people), -1)
        if bool(batch.is_choice.any()):
            with torch.no_grad():
                for _ in range(2):
                    believed = solve(batch, shared, design, means, root, noise, misfit)
                    batch = bend(batch, believed, shared, design, noise + misfit)
        return solve(batch, shared, design, means, root, noise, misfit)

    def _variances(self) -> Tensor:
        """Everybody's noise; it cannot be learned from choices alone."""
        logs = self.parts.log_noise if len(self.data.train) else self.parts.log_noise.detach()
        return logs.exp() + self.floor

    def _misfit(self) -> Tensor:
        """What repeats tell apart from the noise."""
        if not self.answers.has_repeats:
            return torch.zeros((), dtype=torch.float64)
        return self.parts.log_misfit.exp()

    def _penalty(self, batch: Answers) -> Tensor:
        """The priors' part of the loss, for this share of the people."""
        deviation = (self.parts.log_noise[batch.people] - self.parts.noise_centre) / self.config.noise_width
        weights = self.network.taste.weight.square().sum() + self.network.shared.weight.square().sum()
        share = len(batch.people) / len(self.answers.people)
        return 0.5 * deviation.square().sum() + 0.5 * self.config.weight_prior * share * weights

    @torch.no_grad()
    def _validation_error(self, held: Observations) -> float:
        self.network.eval()
        means = self.parts.mean.repeat(len(self.parts.log_noise), 1)
        means[self.answers.people] = self._solve(self.answers).means
        images, rows = held.images.unique(return_inverse=True)
        shared, design = self.network(self.data.pictures.features[images].float())
        output = shared[rows] + (design[rows] * means[held.users]).sum(dim=1)
        return float((output - held.ratings).square().mean())

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return copy.deepcopy(self.network.state_dict()), copy.deepcopy(self.parts.state_dict())

    @torch.no_grad()
    def _noise(self) -> Noise:
        centre = float(self.parts.noise_centre)
        entries = torch.zeros(len(self.parts.log_noise), dtype=torch.float64)
        rated = (self.answers.counts > 0) & ~self.answers.is_choice
        entries[self.answers.people] = rated.double().sum(dim=1)
        # who rated nothing was not trained, and is like the others
        logs = torch.where(entries > 0, self.parts.log_noise, self.parts.noise_centre)
        # the spread of people's noise is that of the estimates and what each estimate is unsure of
        doubt = 1 / (entries / 2 + 1 / self.config.noise_width**2)
        width = float(((logs - centre).square() + doubt).mean().sqrt()) if len(self.data.train) else 0.0
        return Noise(logs.exp() + self.floor, float(self._misfit()), centre, width, self.floor)


class _Parts(nn.Module):
    """What is learned beside the network: the prior's mean and spread, and everybody's noise."""

    def __init__(self, num_people: int, width: int, log_noise: float, log_misfit: float):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.log_spread = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.log_noise = nn.Parameter(torch.full((num_people,), log_noise, dtype=torch.float64))
        self.noise_centre = nn.Parameter(torch.tensor(log_noise, dtype=torch.float64))
        self.log_misfit = nn.Parameter(torch.tensor(log_misfit, dtype=torch.float64))
