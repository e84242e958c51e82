"""Settings of the training of the world's models."""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.errors import ConfigError


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train.

    Attributes:
        num_steps: Optimizer steps in all.
        learning_rate: Peak, reached after ``warmup_steps`` and then lowered to zero along a cosine.
        ema_decay: Of the exponential moving average of the weights, which are the ones kept.
        checkpoint_every: Steps between two checkpoints.
    """

    num_steps: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    checkpoint_every: int = 250


@dataclass(frozen=True)
class WorldSettings:
    """How the world's models are trained.

    Attributes:
        num_scenes: Drawings to learn from.
        seed: Of drawings and of initial weights.
        autoencoder: Length and rates of its training, batches of 32.
        judge: Of the content judge, batches of 128.
        encoder: Of the open_clip model, batches of 128.
        denoiser: Of text encoder and UNet, batches of 96.
        flow_denoiser: Of the twin's text encoders and transformer, batches of 96.
    """

    num_scenes: int = 24_000
    seed: int = 1
    autoencoder: FitSettings = FitSettings(num_steps=3000, learning_rate=2e-3, ema_decay=0.998)
    judge: FitSettings = FitSettings(num_steps=700, learning_rate=2e-3, ema_decay=0.995)
    encoder: FitSettings = FitSettings(num_steps=900, learning_rate=1.5e-3, ema_decay=0.997)
    denoiser: FitSettings = FitSettings(num_steps=4000, learning_rate=1.5e-3, ema_decay=0.999)
    flow_denoiser: FitSettings = FitSettings(num_steps=7500, learning_rate=1.2e-3, ema_decay=0.999)

    def __post_init__(self) -> None:
        if self.num_scenes < 1000:
            raise ConfigError(f"num_scenes is {self.num_scenes}; use at least 1000 drawings.")
