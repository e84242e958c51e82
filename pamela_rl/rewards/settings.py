"""Names of encoders and models of preferences, without the libraries that run them."""

from __future__ import annotations

DEFAULT_ENCODER = "ViT-SO400M-16-SigLIP2-384"
PIXELS = "pixels"  # the encoder that needs no weights
WORLD = "world"  # the encoder and the content judge that come with the package
MODEL_NAMES = (
    "taste_basis", "transformer", "nearest_users", "demographics_only", "population_regression", "population_mean",
)  # fmt: skip
