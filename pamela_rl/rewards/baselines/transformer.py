"""The paper's model: a shallow transformer over picture, prompt, demographics and metadata (PAMELA, arXiv:2604.07427).

Written from second-hand descriptions of the paper; sizes and training are ours. Users are represented by their
demographics alone: there is no user embedding, and ratings of a new user are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from pamela_rl.errors import DataError
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.tensor_names import add_prefix, strip_prefix
from pamela_rl.rewards.user_index import user_rows, with_user_row
from pamela_rl.types import RewardOutput

PARTS = 3  # image, prompt, and their product


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of the network.

    Attributes:
        feature_dim: Width of image features, three parts of the same width.
        num_numeric: Number of numeric demographic columns; they come first.
        num_categories: Number of values of each categorical demographic column.
        num_codes: Number of codes of each metadata column, including 0 for unknown.
        width: Width of tokens.
        num_layers: Number of layers.
        num_heads: Number of attention heads.
        dropout: Dropout of tokens, attention and feed-forward blocks.
    """

    feature_dim: int
    num_numeric: int = 0
    num_categories: tuple[int, ...] = ()
    num_codes: tuple[int, ...] = ()
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    dropout: float = 0.2


class PreferenceNetwork(nn.Module):
    """Predicts a rating from features, demographics and metadata; one token each, and one readout token."""

    feature_mean: Tensor
    feature_std: Tensor
    rating_mean: Tensor
    rating_std: Tensor
    known_codes: Tensor

    def __init__(self, shape: TransformerShape):
        super().__init__()
        if shape.feature_dim % PARTS:
            raise DataError(
                f"pictures have {shape.feature_dim} features; the transformer needs image, prompt and product of the "
                "same width, as FeatureEncoder.encode lays them out."
            )
        self.shape = shape
        self.register_buffer("feature_mean", torch.zeros(shape.feature_dim))
        self.register_buffer("feature_std", torch.ones(shape.feature_dim))
        self.register_buffer("rating_mean", torch.zeros(()))
        self.register_buffer("rating_std", torch.ones(()))
        most = max(shape.num_codes, default=1)
        self.register_buffer("known_codes", torch.zeros(len(shape.num_codes), most, dtype=torch.bool))
        self.project = nn.ModuleList(nn.Linear(shape.feature_dim // PARTS, shape.width) for _ in range(PARTS))
        self.numeric = _vectors(2, shape.num_numeric, shape.width)  # slope and offset
        self.categories = nn.ParameterList(_vectors(count, shape.width) for count in shape.num_categories)
        self.unknown = _vectors(shape.num_numeric + len(shape.num_categories), shape.width)
        self.metadata = _vectors(len(shape.num_codes), most, shape.width)
        self.readout = _vectors(1, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        layers = range(shape.num_layers)
        self.layers = nn.ModuleList(_Layer(shape.width, shape.num_heads, shape.dropout) for _ in layers)
        self.head = nn.Sequential(nn.LayerNorm(shape.width), nn.Linear(shape.width, 1))

    def forward(self, features: Tensor, user_demographics: Tensor, codes: Tensor) -> Tensor:
        """Return ratings, ``(b,)``.

        Args:
            features: Image features, ``(b, feature_dim)``.
            user_demographics: Demographics, numbers standardised and categories counted from 0; NaN is unknown, ``(b, columns)``.
            codes: Metadata codes; 0 and codes not seen in training are unknown, ``(b, m)``.
        """
        parts = ((features.float() - self.feature_mean) / self.feature_std).chunk(PARTS, dim=1)
        shown = [project(part)[:, None] for project, part in zip(self.project, parts)]
        read = self.readout.expand(len(features), 1, -1)
        tokens = self.dropout(
            torch.cat([read, *shown, self._demographic_tokens(user_demographics), self._metadata_tokens(codes)], dim=1)
        )
        for place, layer in enumerate(self.layers):
            tokens = layer(tokens, only_first=place == len(self.layers) - 1)
        return self.rating_mean + self.rating_std * self.head(tokens[:, 0]).squeeze(-1)

    def _demographic_tokens(self, user_demographics: Tensor) -> Tensor:
        mask, user_demographics = ~user_demographics.isnan(), user_demographics.nan_to_num()
        slope, offset = self.numeric
        count = self.shape.num_numeric
        tokens = [user_demographics[:, :count, None] * slope + offset]
        tokens += [table[user_demographics[:, count + j].long()][:, None] for j, table in enumerate(self.categories)]
        return torch.where(mask[..., None], torch.cat(tokens, dim=1), self.unknown)

    def _metadata_tokens(self, codes: Tensor) -> Tensor:
        columns, most = self.known_codes.shape
        columns_of = torch.arange(columns, device=codes.device)
        codes = torch.where((codes >= 0) & (codes < most), codes, 0)
        return self.metadata[columns_of, torch.where(self.known_codes[columns_of, codes], codes, 0)]


def _vectors(*size: int) -> nn.Parameter:
    return nn.Parameter(0.5 * torch.randn(*size))


class _Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (nn.Linear(width, times * width) for times in (1, 2, 1))
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, only_first: bool) -> Tensor:
        """Return all tokens, ``(b, n, width)``, or only the first, ``(b, 1, width)``, at half the cost."""
        shown = self.before_attention(tokens)
        tokens, query_input = (tokens[:, :1], shown[:, :1]) if only_first else (tokens, shown)
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (b, heads, n, width of a head)
            for part in (self.query(query_input), *self.key_value(shown).chunk(2, dim=-1))
        )
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)
        tokens = tokens + self.dropout(self.out(attended))
        return tokens + self.dropout(self.feed(self.before_feed(tokens)))


@dataclass(frozen=True)
class PreferenceTransformer:
    """A fitted transformer and the demographics of its known users.

    Attributes:
        network: Predicts ratings from features, demographics and metadata.
        coding: Encoding of demographics.
        user_ids: Known users.
        user_demographics: What they report, as the network takes it, ``(u, columns)``.
        noise: Standard deviation of single ratings around the prediction on held-out pictures, in rating points.
    """

    network: PreferenceNetwork
    coding: DemographicsCoding
    user_ids: tuple[str, ...]
    user_demographics: Tensor
    noise: float

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; the model gives no std.

        Raises:
            UnknownUserError: The model does not know a user.
            DataError: Metadata has other columns than the model was fitted to.
        """
        return RewardOutput(self._rate(images, self.user_demographics[user_rows(user_ids, self.user_ids)]))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the noise, the same for all users, in rating points, ``(b,)``."""
        return torch.full((len(user_rows(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict for a user with unknown demographics, ``(b,)``; in training, demographics are masked at random."""
        return self._rate(images, encode_demographics(self.coding, None).expand(len(images), -1))

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> PreferenceTransformer:
        """Return a model with one more user, known by demographics.

        Pictures and ratings are ignored, as in the paper. Without demographics the prediction is the population's.
        """
        users, user_demographics = with_user_row(
            user_id, encode_demographics(self.coding, demographics), self.user_ids, self.user_demographics
        )
        return replace(self, user_ids=users, user_demographics=user_demographics)

    def _rate(self, images: ImageFeatures, user_demographics: Tensor) -> Tensor:
        columns = len(self.network.known_codes)
        codes = images.metadata
        if codes is None or not columns:
            codes = torch.zeros(len(images), columns, dtype=torch.int64)
        if codes.shape[1] != columns:
            raise DataError(
                f"pictures have {codes.shape[1]} columns of metadata, but the transformer was fitted to {columns}; "
                "code the same ones, or give None where nothing is known."
            )
        return self.network(images.features, user_demographics, codes)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        return add_prefix("network", self.network.state_dict()) | {"user_demographics": self.user_demographics}

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        return {
            "shape": asdict(self.network.shape),
            "demographics": self.coding.to_json(),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> PreferenceTransformer:
        """Return the model that ``tensors`` and ``config`` describe."""
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in config["shape"].items()
        }
        network = PreferenceNetwork(TransformerShape(**sizes)).eval().requires_grad_(False)
        network.load_state_dict(strip_prefix("network", tensors))
        coding = DemographicsCoding.from_json(config["demographics"])
        return cls(network, coding, tuple(config["user_ids"]), tensors["user_demographics"], config["noise"])


def encode_demographics(coding: DemographicsCoding, demographics: Mapping[str, Any] | None) -> Tensor:
    """Encode demographics for the network, ``(columns,)``: NaN for missing and unknown values."""
    mask = {key: value for key, value in (demographics or {}).items() if not pd.isna(value)}
    row = []
    for column, (feature_mean, feature_std) in coding.numeric.items():
        value = pd.to_numeric(pd.Series([mask.get(column)]), errors="coerce").iloc[0]
        row.append((float(value) - feature_mean) / feature_std)
    for column, values in coding.categories.items():
        value = str(mask.get(column))
        row.append(float(values.index(value)) if column in mask and value in values else float("nan"))
    return torch.tensor(row)
