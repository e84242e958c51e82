"""Training of the paper's transformer."""

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
    encode_demographics,
)
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import RatingData, RatingTensors
from pamela_rl.rewards.rating_tensors import hold_out_images


@dataclass(frozen=True)
class TransformerConfig:
    """How a transformer is trained.

    Attributes:
        width: Width of tokens.
        num_layers: Number of layers.
        num_heads: Number of attention heads.
        dropout: Dropout of tokens, attention and feed-forward blocks.
        mask_probability: Probability that a value of demographics or metadata is masked, and that all of a row are.
        num_epochs: Most passes over the training ratings; the best weights on the validation ratings are kept.
        patience: Epochs without improvement after which training stops.
        learning_rate: Of AdamW, at its highest.
        weight_decay: Of AdamW.
        batch_size: Ratings per step.
        seed: Of initial weights, dropout, masking and the order of ratings.
    """

    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    dropout: float = 0.2
    mask_probability: float = 0.15
    num_epochs: int = 10
    patience: int = 3
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 1024
    seed: int = 0


def fit_transformer(data: RatingData, config: TransformerConfig | int = 0) -> PreferenceTransformer:
    """Train a transformer on the ratings. Choices are ignored.

    Demographics and metadata are masked at random, so that the network learns to predict without them.

    Args:
        data: Validation ratings are used for early stopping and for the noise. Without them a tenth of the training
            pictures, with all their ratings, is held out.
        config: Sizes and rates; an integer takes the defaults with that seed.

    Raises:
        DataError: There are no training or no held-out ratings, or features are not three parts of the same width.
    """
    config = TransformerConfig(seed=config) if isinstance(config, int) else config
    train, held_out = data.train, data.validation
    if held_out is None and len(train):
        train, held_out = hold_out_images(train, config.seed)
    if held_out is None or not len(train) or not len(held_out):
        count = 0 if held_out is None else len(held_out)
        raise DataError(f"there are {len(train)} training and {count} validation ratings; both are needed.")
    coding = DemographicsCoding.of(data.demographics)
    user_demographics = torch.stack([encode_demographics(coding, data.demographics_of(user)) for user in data.user_ids])
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not changed
        torch.manual_seed(config.seed)
        network = _new_network(data, train, coding, config)
        error = _Trainer(network, data, user_demographics, config).run(train, held_out)
    return PreferenceTransformer(network, coding, data.user_ids, user_demographics, error**0.5)


def _new_network(
    data: RatingData, train: RatingTensors, coding: DemographicsCoding, config: TransformerConfig
) -> PreferenceNetwork:
    """Create a network that is standardised by the training pictures and ratings."""
    shown = data.images[train.images.unique()]
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
    feature_std = shown.features.std(dim=0, correction=0)
    network.feature_mean.copy_(shown.features.mean(dim=0))
    # features that are constant in training keep a scale of 1: dividing by almost 0 would blow them up later
    network.feature_std.copy_(torch.where(feature_std > 1e-3, feature_std, torch.ones_like(feature_std)))
    network.rating_mean.copy_(train.ratings.mean())
    network.rating_std.copy_(train.ratings.std(correction=0).clamp(min=1e-6))
    for column, known_codes in enumerate(network.known_codes):
        known_codes[codes[:, column]] = True
    return network


class _Trainer:
    """Minimises the squared error of the ratings."""

    def __init__(
        self, network: PreferenceNetwork, data: RatingData, user_demographics: Tensor, config: TransformerConfig
    ) -> None:
        self.network, self.user_demographics, self.config = network, user_demographics, config
        self.features = data.images.features.float()
        codes = data.images.metadata
        self.codes = codes if codes is not None else torch.zeros(len(self.features), 0, dtype=torch.int64)

    def run(self, train: RatingTensors, held_out: RatingTensors) -> float:
        """Train, restore the best weights, and return their mean squared error on the held-out ratings."""
        config, network = self.config, self.network
        rate = config.learning_rate
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=config.weight_decay, fused=True)
        steps = config.num_epochs * -(-len(train) // config.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        best, best_state, patience = float("inf"), copy.deepcopy(network.state_dict()), 0
        bar = tqdm(range(config.num_epochs), desc="transformer", unit="epoch", delay=2)
        for _ in bar:
            network.train()
            for rows in torch.randperm(len(train)).split(config.batch_size):
                self._step(train[rows], optimizer)
                schedule.step()
            error = self._error(held_out)
            bar.set_postfix(refresh=False, validation_error=f"{error:.3f}")  # refreshing would ignore the delay
            patience = 0 if error < best else patience + 1
            if error < best:
                best, best_state = error, copy.deepcopy(network.state_dict())
            if patience >= config.patience:
                break
        bar.close()
        network.load_state_dict(best_state)
        network.eval().requires_grad_(False)
        return best

    def _step(self, batch: RatingTensors, optimizer: torch.optim.Optimizer) -> None:
        user_demographics, codes = self.user_demographics[batch.users], self.codes[batch.images]
        user_demographics = torch.where(self._draw_mask(user_demographics), torch.nan, user_demographics)
        codes = torch.where(self._draw_mask(codes), 0, codes)
        output = self.network(self.features[batch.images], user_demographics, codes)
        # in units of the spread of ratings, so that rates do not depend on the scale
        loss = mse_loss(output, batch.ratings.float()) / self.network.rating_std.square()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _draw_mask(self, table: Tensor) -> Tensor:
        """Draw a mask of single entries and whole rows."""
        share = self.config.mask_probability
        return (torch.rand(table.shape) < share) | (torch.rand(len(table), 1) < share)

    @torch.no_grad()
    def _error(self, held_out: RatingTensors) -> float:
        self.network.eval()
        batches = torch.arange(len(held_out)).split(4 * self.config.batch_size)
        total = 0.0
        for batch in (held_out[rows] for rows in batches):
            output = self.network(
                self.features[batch.images], self.user_demographics[batch.users], self.codes[batch.images]
            )
            total += float((output.double() - batch.ratings).square().sum())
        return total / len(held_out)
