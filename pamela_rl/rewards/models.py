"""Registry of preference models, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from pamela_rl.rewards.baselines.demographic_regression import DemographicRegression, fit_demographic_regression
from pamela_rl.rewards.baselines.nearest_users import NearestUsers
from pamela_rl.rewards.baselines.nearest_users_fit import fit_nearest_users
from pamela_rl.rewards.baselines.population_baselines import (
    PopulationMean,
    PopulationRegression,
    fit_population_mean,
    fit_population_regression,
)
from pamela_rl.rewards.baselines.transformer import PreferenceTransformer
from pamela_rl.rewards.baselines.transformer_fit import fit_transformer
from pamela_rl.rewards.preference import PreferenceModel, RatingData
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.taste_basis import TasteBasis

MODELS: dict[str, Callable[[RatingData, int], PreferenceModel]] = {
    "taste_basis": fit_taste_basis,
    "transformer": fit_transformer,
    "nearest_users": fit_nearest_users,
    "demographics_only": fit_demographic_regression,
    "population_regression": fit_population_regression,
    "population_mean": fit_population_mean,
}
_CLASSES = (
    TasteBasis, PreferenceTransformer, NearestUsers, DemographicRegression, PopulationRegression, PopulationMean,
)  # fmt: skip
RESTORE: dict[str, Callable[[Mapping[str, Tensor], Mapping[str, Any]], PreferenceModel]] = {
    kind.__name__: kind.restore for kind in _CLASSES
}
