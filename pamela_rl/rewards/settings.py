"""Names of encoders and models of preferences, without the libraries that run them."""

from __future__ import annotations

DEFAULT_ENCODER = "efficientnet_lite0"  # its weights come with the package's dependencies
JUDGE_ENCODER = "efficientnet_lite2"  # likewise; other weights than the reward's
SIGLIP = "ViT-SO400M-16-SigLIP2-384"
SIGLIP_ADVICE = (
    f"With --encoder {SIGLIP} a reward also tells what images show in words and knows what prompts ask for; it is a "
    "download of about 4.5 GB once (1.14 billion weights in fp32), as much memory, and far slower without a GPU."
)
PIXELS = "pixels"  # the encoder that needs no weights
TIMM = "timm:"  # what names of timm models begin with
WORLD = "world"  # the encoder and the content judge that come with the package
POPULATION_NAMES = ("aesthetic", "clip_score", "hpsv2.0", "hpsv2.1", "imagereward", "pickscore")
MAIN_MODEL = "taste_basis"  # the personal reward; others are measured beside it
DEFAULT_MODELS = (MAIN_MODEL, "ridge_per_user", "population_mean")
ALL_MODELS = "all"
MODEL_NAMES = (
    MAIN_MODEL, "ridge_per_user", "transformer", "nearest_users", "demographics_only", "population_regression", "population_mean",
)  # fmt: skip
POPULATION_NAMES = ("aesthetic", "clip_score", "hpsv2.0", "hpsv2.1", "imagereward", "pickscore")
PROMPT_MODELS = ("transformer",)  # those that need an encoder with a text tower
