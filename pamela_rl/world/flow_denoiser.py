"""The world's flow-matching model: an ordinary Stable Diffusion 3 pipeline, trained from scratch on the same scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from pamela_rl.world.captioned_latents import (
    FIRST_CURRICULUM,
    CaptionedLatents,
    caption_corpus,
    new_tokenizer,
    text_config,
    tokenize,
)
from pamela_rl.world.fitting import fit
from pamela_rl.world.scenes import Scene
from pamela_rl.world.settings import FitSettings

# Without a T5 the pipeline pads its place with 256 zero tokens by default. This model is meant to sample without them
# (four times faster); every tenth training step includes them, so that the default call works too.
EMPTY_TOKENS, EMPTY_EVERY, EMPTY_SHARE = 256, 10, 4
CURRICULUM = (FIRST_CURRICULUM, range(4500, 4750))  # with the first range alone it did not learn left and right
TEXT_LAYERS = 3  # the pipeline uses the last but one


def new_transformer(latent_channels: int) -> SD3Transformer2DModel:
    """Build the transformer; its blocks start as the identity and its output as zero (arXiv:2212.09748)."""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=128,
        pooled_projection_dim=128,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    transformer.register_to_config(_max_sequence_length=0)
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear) and (name.endswith(("norm1.linear", "norm1_context.linear", "proj_out"))):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return transformer


def new_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Build the noise schedule."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def _encode_prompts(
    encoders: Sequence[CLIPTextModelWithProjection], tokens: Tensor, empty_tokens: int
) -> tuple[Tensor, Tensor]:
    """Encode captions as ``StableDiffusion3Pipeline.encode_prompt`` does without a T5."""
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    embeds = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    empty = embeds.new_zeros(len(embeds), empty_tokens, embeds.shape[-1])
    return torch.cat([embeds, empty], dim=1), torch.cat([output.text_embeds for output in outputs], dim=-1)


def _train(
    transformer: SD3Transformer2DModel,
    encoders: Sequence[CLIPTextModelWithProjection],
    tokenizer: CLIPTokenizer,
    captioned: CaptionedLatents,
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> None:
    device = transformer.device

    def loss(step: int, generator: torch.Generator) -> Tensor:
        padded = step % EMPTY_EVERY == EMPTY_EVERY - 1
        count = batch_size // EMPTY_SHARE if padded else batch_size
        batch = captioned.batch(step, count, generator)
        sigma = (torch.arange(count) + torch.rand(count, generator=generator)) / count  # stratified over [0, 1)
        if batch.high_noise:
            sigma = 0.5 + sigma / 2
        sigmas = sigma.view(-1, 1, 1, 1)
        noisy = ((1 - sigmas) * batch.clean + sigmas * batch.noise).to(device)
        target = (batch.noise - batch.clean).to(device)
        tokens = tokenize(tokenizer, batch.texts).to(device)
        # on a CPU half precision costs more than it saves
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            embeds, pooled = _encode_prompts(encoders, tokens, EMPTY_TOKENS if padded else 0)
            output = transformer(
                hidden_states=noisy,
                timestep=1000 * sigma.to(device),
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
            ).sample
        return torch.nn.functional.mse_loss(output.float(), target)

    fit("flow_denoiser", [transformer, *encoders], loss, settings, folder)


def train_flow_pipeline(
    vae: AutoencoderKL,
    latents: Tensor,
    scenes: Sequence[Scene],
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> StableDiffusion3Pipeline:
    """Train two text encoders and a transformer together, on the latents of the world's own autoencoder.

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
    encoders = [CLIPTextModelWithProjection(text_config(tokenizer, TEXT_LAYERS)).to(device) for _ in range(2)]
    transformer = new_transformer(vae.config.latent_channels).to(device)
    captioned = CaptionedLatents(latents * vae.config.scaling_factor, scenes, CURRICULUM)
    _train(transformer, encoders, tokenizer, captioned, settings, batch_size, folder)
    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        vae=vae,
        text_encoder=encoders[0].cpu(),
        tokenizer=tokenizer,
        text_encoder_2=encoders[1].cpu(),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
        transformer=transformer.cpu(),
        scheduler=new_flow_scheduler(),
    )
