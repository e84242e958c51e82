"""Open an image encoder by name."""

from __future__ import annotations

from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.settings import PIXELS, WORLD
from pamela_rl.storage import WORLD_ENCODER


def open_encoder(name: str, device: str) -> FeatureEncoder | PixelEncoder:
    """Load an encoder by name.

    Args:
        name: "world" (the shipped open_clip model), "pixels", an open_clip model name or a folder.
        device: Where its weights go.

    Raises:
        ConfigError: open_clip cannot load it.
    """
    if name == PIXELS:
        return PixelEncoder()
    return FeatureEncoder.load(WORLD_ENCODER if name == WORLD else name, device)
