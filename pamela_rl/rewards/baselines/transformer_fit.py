"""Train the paper's transformer on ratings."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from pamela_rl.errors import DataError
from pamela_rl.rewards.baselines.transformer import (
    PreferenceNetwork,
    PreferenceTransformer,
    TransformerShape,
    code_person,
)
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.observations import hold_out_pictures
from pamela_rl.rewards.preference import Observations, RatingData


@dataclass(frozen=True)
class TransformerConfig:
    """How a transformer is trained.

    Attributes:
        width: Of tokens.
        num_layers: Of the transformer.
        num_heads: Of its attention.
        dropout: Of tokens and of what every part of a layer adds.
        unknown_share: Chance that one column of demographics or metadata is hidden, and that all columns are at once.
        num_epochs: Passes over the training ratings at most; the best on the validation ratings is kept.
        patience: Passes without a better one after which training stops.
        learning_rate: Of AdamW, at its highest.
        weight_decay: Of AdamW.
        batch_size: Ratings a step.
        seed: Of initial weights, dropout, what is hidden and the order of ratings.
    """

    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    dropout: float = 0.2
    unknown_share: float = 0.15
    num_epochs: int = 10
    patience: int = 3
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 1024
    seed: int = 0


def fit_transformer(data: RatingData, config: TransformerConfig | int = 0) -> PreferenceTransformer:
    """Train a transformer on the ratings; choices are not looked at.

    Whole columns of demographics and metadata are hidden at random, so that unknown is learned like any other value.

    Args:
        data: Validation ratings choose when to stop and tell the noise. Without them a tenth of the training pictures,
            with every rating of each, is held out for that.
        config: Sizes and rates; a number takes the usual ones with that seed.

    Raises:
        DataError: There is nothing to learn from, or to choose by; or features are not three parts of the same width.
    """
    config = TransformerConfig(seed=config) if isinstance(config, int) else config
    train, held = data.train, data.validation
    if held is None and len(train):
        train, held = hold_out_pictures(train, config.seed)
    if held is None or not len(train) or not len(held):
        count = 0 if held is None else len(held)
        raise DataError(f"there are {len(train)} training and {count} validation ratings; both are needed.")
    coding = DemographicsCoding.of(data.people)
    people = torch.stack([code_person(coding, data.reported(user)) for user in data.user_ids])
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(config.seed)
        network = _new_network(data, train, coding, config)
        error = _Trainer(network, data, people, config).run(train, held)
    return PreferenceTransformer(network, coding, data.user_ids, people, error**0.5)


def _new_network(
    data: RatingData, train: Observations, coding: DemographicsCoding, config: TransformerConfig
) -> PreferenceNetwork:
    """Standardise by training pictures and training ratings alone."""
    shown = data.pictures[train.images.unique()]
    codes = shown.metadata if shown.metadata is not None else torch.zeros(len(shown), 0, dtype=torch.int64)
    shape = TransformerShape(
        feature_dim=shown.features.shape[1],
        num_numeric=len(coding.numeric),
        num_categories=tuple(len(values) for values in coding.categories.values()),
        num_codes=tuple(1 + int(column.max()) for column in codes.T),
        width=config.width,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        dropout=config.dropout,
    )
    network = PreferenceNetwork(shape)
    spread = shown.features.std(dim=0, correction=0)
    network.centre.copy_(shown.features.mean(dim=0))
    # a feature that never varied in training says nothing: dividing by almost nothing would make it shout later
    network.spread.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
    network.origin.copy_(train.ratings.mean())
    network.unit.copy_(train.ratings.std(correction=0).clamp(min=1e-6))
    for column, seen in enumerate(network.seen):
        seen[codes[:, column]] = True
    return network


class _Trainer:
    """Minimises the squared error of ratings."""

    def __init__(self, network: PreferenceNetwork, data: RatingData, people: Tensor, config: TransformerConfig) -> None:
        self.network, self.people, self.config = network, people, config
        self.features = data.pictures.features.float()
        codes = data.pictures.metadata
        self.codes = codes if codes is not None else torch.zeros(len(self.features), 0, dtype=torch.int64)

    def run(self, train: Observations, held: Observations) -> float:
        """Train, put the best weights back, and return their mean squared error on the held ratings."""
        config, network = self.config, self.network
        rate = config.learning_rate
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=config.weight_decay, fused=True)
        steps = config.num_epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        best, kept, patience = float("inf"), copy.deepcopy(network.state_dict()), 0
        bar = tqdm(range(config.num_epochs), desc="transformer", unit="epoch", delay=2)
        for _ in bar:
            network.train()
            for rows in torch.randperm(len(train)).split(config.batch_size):
                self._step(train[rows], optimizer)
                schedule.step()
            error = self._error(held)
            bar.set_postfix(refresh=False, validation_error=f"{error:.3f}")  # a refresh would ignore the delay
            patience = 0 if error < best else patience + 1
            if error < best:
                best, kept = error, copy.deepcopy(network.state_dict())
            if patience >= config.patience:
                break
        bar.close()
        network.load_state_dict(kept)
        network.eval().requires_grad_(False)
        return best

    def _step(self, batch: Observations, optimizer: torch.optim.Optimizer) -> None:
        people, codes = self.people[batch.users], self.codes[batch.images]
        people = torch.where(self._hidden(people), torch.nan, people)
        codes = torch.where(self._hidden(codes), 0, codes)
        output = self.network(self.features[batch.images], people, codes)
        # in units of the spread of ratings, so that rates do not depend on the scale
        loss = mse_loss(output, batch.ratings.float()) / self.network.unit.square()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _hidden(self, table: Tensor) -> Tensor:
        """Draw what of a table to hide: single entries, and whole rows."""
        share = self.config.unknown_share
        return (torch.rand(table.shape) < share) | (torch.rand(len(table), 1) < share)

    @torch.no_grad()
    def _error(self, held: Observations) -> float:
        self.network.eval()
        batches = torch.arange(len(held)).split(4 * self.config.batch_size)
        total = 0.0
        for batch in (held[rows] for rows in batches):
            output = self.network(self.features[batch.images], self.people[batch.users], self.codes[batch.images])
            total += float((output.double() - batch.ratings).square().sum())
        return total / len(held)
