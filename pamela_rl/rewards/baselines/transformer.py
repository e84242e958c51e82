"""The paper's model: a shallow transformer over picture, prompt, demographics and metadata (PAMELA, arXiv:2604.07427).

The paper is known second-hand; sizes and training are ours. A person is what they report: there is no learned identity,
and nobody's ratings are looked at when their taste is predicted.
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
from pamela_rl.rewards.known_users import rows_of, with_row
from pamela_rl.rewards.preference import Pictures
from pamela_rl.rewards.tensor_names import part_of, within
from pamela_rl.types import RewardOutput

PARTS = 3  # image, prompt, and their product


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of the network.

    Attributes:
        feature_dim: Of pictures' features, three parts of the same width.
        num_numeric: Demographic columns that are numbers; they come first.
        num_categories: How many values each other demographic column has.
        num_codes: How many codes each column of metadata has, the 0 of unknown included.
        width: Of tokens.
        num_layers: Of the transformer.
        num_heads: Of its attention.
        dropout: Of tokens, of what attention adds and of what the feed-forward part adds.
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
    """From features, demographics and metadata to a rating; one token each, and one that is read out."""

    centre: Tensor
    spread: Tensor
    origin: Tensor
    unit: Tensor
    seen: Tensor

    def __init__(self, shape: TransformerShape):
        super().__init__()
        if shape.feature_dim % PARTS:
            raise DataError(
                f"pictures have {shape.feature_dim} features; the transformer needs image, prompt and product of the "
                "same width, as FeatureEncoder.encode lays them out."
            )
        self.shape = shape
        self.register_buffer("centre", torch.zeros(shape.feature_dim))
        self.register_buffer("spread", torch.ones(shape.feature_dim))
        self.register_buffer("origin", torch.zeros(()))  # of ratings
        self.register_buffer("unit", torch.ones(()))
        most = max(shape.num_codes, default=1)
        self.register_buffer("seen", torch.zeros(len(shape.num_codes), most, dtype=torch.bool))
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

    def forward(self, features: Tensor, people: Tensor, codes: Tensor) -> Tensor:
        """Return ratings, ``(b,)``.

        Args:
            features: Of pictures, ``(b, feature_dim)``.
            people: Demographics, numbers standardised and categories counted from 0; NaN is unknown, ``(b, columns)``.
            codes: Of pictures' metadata; 0 and what training never showed are unknown, ``(b, m)``.
        """
        parts = ((features.float() - self.centre) / self.spread).chunk(PARTS, dim=1)
        shown = [project(part)[:, None] for project, part in zip(self.project, parts)]
        read = self.readout.expand(len(features), 1, -1)
        tokens = self.dropout(torch.cat([read, *shown, self._of_people(people), self._of_codes(codes)], dim=1))
        for place, layer in enumerate(self.layers):
            tokens = layer(tokens, only_first=place == len(self.layers) - 1)
        return self.origin + self.unit * self.head(tokens[:, 0]).squeeze(-1)

    def _of_people(self, people: Tensor) -> Tensor:
        known, people = ~people.isnan(), people.nan_to_num()
        slope, offset = self.numeric
        count = self.shape.num_numeric
        tokens = [people[:, :count, None] * slope + offset]
        tokens += [table[people[:, count + j].long()][:, None] for j, table in enumerate(self.categories)]
        return torch.where(known[..., None], torch.cat(tokens, dim=1), self.unknown)

    def _of_codes(self, codes: Tensor) -> Tensor:
        columns, most = self.seen.shape
        columns_of = torch.arange(columns, device=codes.device)
        codes = torch.where((codes >= 0) & (codes < most), codes, 0)
        return self.metadata[columns_of, torch.where(self.seen[columns_of, codes], codes, 0)]


def _vectors(*size: int) -> nn.Parameter:
    return nn.Parameter(0.5 * torch.randn(*size))


class _Layer(nn.Module):
    """Attention and a feed-forward part, normalised before each."""

    def __init__(self, width: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (nn.Linear(width, times * width) for times in (1, 2, 1))
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, only_first: bool) -> Tensor:
        """Return the tokens, ``(b, n, width)``, or the first of them alone, ``(b, 1, width)``: half the work."""
        shown = self.before_attention(tokens)
        tokens, asking = (tokens[:, :1], shown[:, :1]) if only_first else (tokens, shown)
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (b, heads, n, width of a head)
            for part in (self.query(asking), *self.key_value(shown).chunk(2, dim=-1))
        )
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)
        tokens = tokens + self.dropout(self.out(attended))
        return tokens + self.dropout(self.feed(self.before_feed(tokens)))


@dataclass(frozen=True)
class PreferenceTransformer:
    """A fitted transformer and what the people it knows report.

    Attributes:
        network: From features, demographics and metadata to a rating.
        coding: Of demographics.
        user_ids: People who can be asked for.
        people: What they report, as the network takes it, ``(u, columns)``.
        noise: Spread of single ratings around the prediction, on pictures that were not trained on, in rating units.
    """

    network: PreferenceNetwork
    coding: DemographicsCoding
    user_ids: tuple[str, ...]
    people: Tensor
    noise: float

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; without std: the model is not asked how sure it is.

        Raises:
            UnknownUserError: The model does not know a person.
            DataError: Metadata has other columns than the model was fitted to.
        """
        return RewardOutput(self._rate(pictures, self.people[rows_of(user_ids, self.user_ids)]))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the same spread for everybody, in rating units, ``(b,)``."""
        return torch.full((len(rows_of(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict for somebody of whom nothing is known, ``(b,)``; training shows such people, drawn from everybody."""
        return self._rate(pictures, code_person(self.coding, None).expand(len(pictures), -1))

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> PreferenceTransformer:
        """Return a model that knows one more person by what they report.

        Pictures and ratings are ignored, and somebody who reports nothing gets the population's prediction: that is the
        paper's design.
        """
        users, people = with_row(user_id, code_person(self.coding, reported), self.user_ids, self.people)
        return replace(self, user_ids=users, people=people)

    def _rate(self, pictures: Pictures, people: Tensor) -> Tensor:
        columns = len(self.network.seen)
        codes = pictures.metadata
        if codes is None or not columns:
            codes = torch.zeros(len(pictures), columns, dtype=torch.int64)
        if codes.shape[1] != columns:
            raise DataError(
                f"pictures have {codes.shape[1]} columns of metadata, but the transformer was fitted to {columns}; "
                "code the same ones, or give None where nothing is known."
            )
        return self.network(pictures.features, people, codes)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name."""
        return within("network", self.network.state_dict()) | {"people": self.people}

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        return {
            "shape": asdict(self.network.shape),
            "demographics": self.coding.to_json(),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> PreferenceTransformer:
        """Return the model that ``tensors`` and ``facts`` describe."""
        sizes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts["shape"].items()
        }
        network = PreferenceNetwork(TransformerShape(**sizes)).eval().requires_grad_(False)
        network.load_state_dict(part_of("network", tensors))
        coding = DemographicsCoding.from_json(facts["demographics"])
        return cls(network, coding, tuple(facts["user_ids"]), tensors["people"], facts["noise"])


def code_person(coding: DemographicsCoding, reported: Mapping[str, Any] | None) -> Tensor:
    """Return what a person reports as the network takes it, ``(columns,)``: NaN where missing or unheard of."""
    known = {key: value for key, value in (reported or {}).items() if not pd.isna(value)}
    row = []
    for column, (centre, spread) in coding.numeric.items():
        value = pd.to_numeric(pd.Series([known.get(column)]), errors="coerce").iloc[0]
        row.append((float(value) - centre) / spread)
    for column, values in coding.categories.items():
        value = str(known.get(column))
        row.append(float(values.index(value)) if column in known and value in values else float("nan"))
    return torch.tensor(row)
