"""Registry of preference models, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.baselines.demographic_regression import DemographicRegression, fit_demographic_regression
from pamela_rl.rewards.baselines.nearest_users import NearestUsers
from pamela_rl.rewards.baselines.nearest_users_fit import fit_nearest_users
from pamela_rl.rewards.baselines.population_baselines import (
    PopulationMean,
    PopulationRegression,
    fit_population_mean,
    fit_population_regression,
)
from pamela_rl.rewards.baselines.ridge_per_user import RidgePerUser, fit_ridge_per_user
from pamela_rl.rewards.baselines.transformer import PreferenceTransformer
from pamela_rl.rewards.baselines.transformer_fit import fit_transformer
from pamela_rl.rewards.preference import Encoder, PreferenceModel, RatingData
from pamela_rl.rewards.settings import PROMPT_MODELS, SIGLIP
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.taste_basis import TasteBasis

MODELS: dict[str, Callable[[RatingData, int], PreferenceModel]] = {
    "taste_basis": fit_taste_basis,
    "ridge_per_user": fit_ridge_per_user,
    "transformer": fit_transformer,
    "nearest_users": fit_nearest_users,
    "demographics_only": fit_demographic_regression,
    "population_regression": fit_population_regression,
    "population_mean": fit_population_mean,
}
_CLASSES = (
    TasteBasis, RidgePerUser, PreferenceTransformer, NearestUsers, DemographicRegression, PopulationRegression, PopulationMean,
)  # fmt: skip
RESTORE: dict[str, Callable[[Mapping[str, Tensor], Mapping[str, Any]], PreferenceModel]] = {
    kind.__name__: kind.restore for kind in _CLASSES
}


def check_encoder(names: Sequence[str], encoder: Encoder) -> None:
    """Refuse models that need features of prompts where the encoder has none.

    Args:
        names: Of the models to fit.
        encoder: Of the features that they are fitted on.

    Raises:
        ConfigError: Names the model and the encoder.
    """
    needing = [name for name in names if name in PROMPT_MODELS]
    if needing and not encoder.reads_prompts:
        raise ConfigError(
            f"the model {needing[0]!r} needs features of prompts and the encoder {encoder.name!r} has no text tower; "
            f"leave the model out, or choose an encoder that reads prompts, e.g. --encoder {SIGLIP}."
        )
