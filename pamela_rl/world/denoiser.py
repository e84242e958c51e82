"""The world's text encoder and UNet: an ordinary Stable Diffusion pipeline, trained from scratch on captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from pamela_rl.world.captioned_latents import CaptionedLatents, caption_corpus, new_tokenizer, text_config, tokenize
from pamela_rl.world.fitting import fit
from pamela_rl.world.scenes import Scene
from pamela_rl.world.settings import FitSettings


def new_unet(latent_channels: int) -> UNet2DConditionModel:
    """Build the UNet with random weights."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Build the noise schedule: v-prediction down to pure noise, so that very dark and very bright pictures exist."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing spacing; any other value makes diffusers warn
    )


def _train(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    captioned: CaptionedLatents,
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> None:
    scheduler = new_scheduler()
    device = unet.device

    def loss(step: int, generator: torch.Generator) -> Tensor:
        batch = captioned.batch(step, batch_size, generator)
        timesteps = torch.randint(1000, (batch_size,), generator=generator)
        if batch.high_noise:
            timesteps = 500 + timesteps // 2
        tokens = tokenize(tokenizer, batch.texts).to(device)
        noisy = scheduler.add_noise(batch.clean, batch.noise, timesteps).to(device)
        target = scheduler.get_velocity(batch.clean, batch.noise, timesteps).to(device)
        # on a CPU half precision costs more than it saves
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            embeds = text_encoder(tokens)[0]
            output = unet(noisy, timesteps.to(device), embeds).sample
        return torch.nn.functional.mse_loss(output.float(), target)

    fit("denoiser", [unet, text_encoder], loss, settings, folder)


def train_pipeline(
    vae: AutoencoderKL,
    latents: Tensor,
    scenes: Sequence[Scene],
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> StableDiffusionPipeline:
    """Train a text encoder and a UNet together.

    Args:
        vae: The trained autoencoder.
        latents: Its latents of each scene's drawing, before scaling, ``(n, c, 8, 8)``.
        scenes: What each drawing shows; a new caption is drawn at every step.
        settings: Length and rates.
        batch_size: Drawings a step.
        folder: Where checkpoints and the log go.

    Returns:
        The whole pipeline, on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = new_tokenizer(caption_corpus(scenes))
    text_encoder = CLIPTextModel(text_config(tokenizer)).to(device)
    unet = new_unet(vae.config.latent_channels).to(device)
    captioned = CaptionedLatents(latents * vae.config.scaling_factor, scenes)
    _train(unet, text_encoder, tokenizer, captioned, settings, batch_size, folder)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.cpu(),
        tokenizer=tokenizer,
        unet=unet.cpu(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
