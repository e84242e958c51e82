"""Pipelines of the published sizes with random weights and no text encoders; small ones of the same classes on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)


@dataclass(frozen=True)
class Model:
    """A family at its published size.

    Attributes:
        title: As people know it.
        side: Pixels.
        steps: Denoising steps to sample.
        guidance_scale: As the field trains it.
        build: Makes the pipeline without text encoders; small on request.
        embeds: Shapes of what the denoiser is told of one prompt.
    """

    title: str
    side: int
    steps: int
    guidance_scale: float
    build: Callable[[bool], Any]
    embeds: dict[str, tuple[int, ...]]


def autoencoder(small: bool, channels: int) -> AutoencoderKL:
    """The autoencoder of every one of these models, but for its number of latent channels."""
    widths = (8, 8, 8, 8) if small else (128, 256, 512, 512)
    extra = {"shift_factor": 0.1159, "scaling_factor": 0.3611} if channels == 16 else {}
    return AutoencoderKL(
        block_out_channels=widths, layers_per_block=1 if small else 2, latent_channels=channels, norm_num_groups=4 if small else 32,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **extra,
    )  # fmt: skip


def sd15(small: bool) -> Any:
    """Stable Diffusion 1.5 without text encoders; its published configuration unless small."""
    widths = (32, 64, 64, 64) if small else (320, 640, 1280, 1280)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8
    )
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(
        vae=autoencoder(small, 4), text_encoder=None, tokenizer=None, unet=unet, scheduler=DDIMScheduler(), **parts
    )


def sdxl(small: bool) -> Any:
    """Stable Diffusion XL without text encoders; its published configuration unless small."""
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(32, 64, 64) if small else (320, 640, 1280), cross_attention_dim=2048,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        attention_head_dim=[2, 2, 2] if small else [5, 10, 20], transformer_layers_per_block=[1, 2, 2 if small else 10],
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=autoencoder(small, 4), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, unet=unet,
        scheduler=DDIMScheduler(), add_watermarker=False,
    )  # fmt: skip


def sd35_medium(small: bool) -> Any:
    """Stable Diffusion 3.5 medium without text encoders; its published configuration unless small."""
    layers = 2 if small else 24
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=layers, attention_head_dim=64,
        num_attention_heads=2 if small else 24, joint_attention_dim=4096, caption_projection_dim=128 if small else 1536,
        pooled_projection_dim=2048, pos_embed_max_size=384, qk_norm="rms_norm",
        dual_attention_layers=tuple(range(min(13, layers))),
    )  # fmt: skip
    nothing = {f"{kind}{number}": None for kind in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3Pipeline(transformer=transformer, scheduler=scheduler, vae=autoencoder(small, 16), **nothing)


def flux1(small: bool) -> Any:
    """FLUX.1-dev without text encoders; its published configuration unless small."""
    transformer = FluxTransformer2DModel(
        num_layers=1 if small else 19, num_single_layers=1 if small else 38, num_attention_heads=2 if small else 24,
        guidance_embeds=True,
    )  # fmt: skip
    nothing = {f"{kind}{number}": None for kind in ("text_encoder", "tokenizer") for number in ("", "_2")}
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return FluxPipeline(transformer=transformer, scheduler=scheduler, vae=autoencoder(small, 16), **nothing)


MODELS = {
    "sd15": Model("SD 1.5", 512, 50, 5.0, sd15, {"prompt_embeds": (77, 768)}),
    "sdxl": Model("SDXL", 1024, 30, 5.0, sdxl, {"prompt_embeds": (77, 2048), "pooled": (1280,), "time_ids": (6,)}),
    "sd35": Model("SD3.5-medium", 512, 10, 4.5, sd35_medium, {"prompt_embeds": (333, 4096), "pooled": (2048,)}),
    "flux": Model("FLUX.1", 512, 6, 3.5, flux1, {"prompt_embeds": (512, 4096), "pooled": (768,)}),
}
