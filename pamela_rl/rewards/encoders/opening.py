"""Open an image encoder by name."""

from __future__ import annotations

from pamela_rl.rewards.encoders.feature_cache import ImageEncoder
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.encoders.timm_weights import PACKAGED, load_packaged, load_timm
from pamela_rl.rewards.settings import PIXELS, TIMM, WORLD
from pamela_rl.storage import WORLD_ENCODER


def open_encoder(name: str, device: str) -> ImageEncoder:
    """Load an encoder by name.

    Args:
        name: "efficientnet_lite0" or "efficientnet_lite2" (weights installed with this package), "world" (the shipped
            open_clip model), "pixels", ``timm:NAME`` as in ``load_timm``, an open_clip model name or a folder.
        device: Where its weights go.

    Raises:
        ConfigError: The weights cannot be loaded.
    """
    if name == PIXELS:
        return PixelEncoder()
    if name in PACKAGED:
        return load_packaged(name, device)
    if name.startswith(TIMM):
        return load_timm(name.removeprefix(TIMM), device)
    return FeatureEncoder.load(WORLD_ENCODER if name == WORLD else name, device)
