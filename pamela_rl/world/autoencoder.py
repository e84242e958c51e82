"""The world's AutoencoderKL: 64 x 64 pictures to 8 x 8 latents of 8 channels, trained from scratch on drawn scenes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pamela_rl.world.fitting import fit
from pamela_rl.world.scenes import SIZE
from pamela_rl.world.settings import FitSettings

KL_WEIGHT = 3e-4  # keeps latents near unit size without blurring; the noise it allows makes the decoder forgiving
EDGE_WEIGHT = 0.5


def new_autoencoder() -> AutoencoderKL:
    """Build the autoencoder with random weights."""
    channels = (16, 32, 64, 96)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Absolute and squared error, plus the absolute error of neighbouring differences, which keeps edges crisp."""
    error = output - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + EDGE_WEIGHT * edges


def to_pixels(images: Tensor) -> Tensor:
    """Turn ``(b, 64, 64, 3)`` bytes into ``(b, 3, 64, 64)`` floats in [-1, 1], as diffusers' autoencoders expect."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def train_autoencoder(images: Tensor, settings: FitSettings, batch_size: int, folder: Path) -> AutoencoderKL:
    """Train the autoencoder on pictures, ``(n, 64, 64, 3)`` bytes, and set its scaling factor from their latents."""
    model = new_autoencoder()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(images), (batch_size,), generator=generator)
        batch = to_pixels(images[rows]).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            posterior = model.encode(batch).latent_dist
            output = model.decode(posterior.sample()).sample
        return (
            reconstruction_loss(output.float(), batch) + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        )

    fit("autoencoder", [model], loss, settings, folder)
    model.register_to_config(scaling_factor=round(1.0 / encode(model, images[:2000]).std().item(), 4))
    return model.cpu()


@torch.no_grad()
def encode(model: AutoencoderKL, images: Tensor, batch_size: int = 200) -> Tensor:
    """Encode pictures, ``(n, 64, 64, 3)`` bytes, to the means of their posteriors, ``(n, 8, 8, 8)``, before scaling."""
    device = model.device
    return torch.cat(
        [model.encode(to_pixels(part).to(device)).latent_dist.mean.cpu() for part in images.split(batch_size)]
    )
